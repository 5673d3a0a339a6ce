"""The processes of soak.py: forked children that publish or observe until they are told to end, or killed.

A child talks to its parent over a socket, a JSON line each way: "finish" (writers set final values and say which), "state"
(observers say what they have seen last), "end". What it finds wrong it says at once, as {"wrong": text}.

Values are numbers that rise with each write of a key, over all who publish it: so that a value that falls is as wrong as
a revision that does.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import random
import select
import socket
import struct
import time

import kvoshim
from kvoshim.errors import ControllerUnavailableError, NameInUseError

KEYS = [f"k{number}" for number in range(8)]
FLEETING = "fleeting"  # set and deleted in turn
BURST = 50
AUTOSTART = True
_COUNT = struct.Struct("<Q")
PATIENCE_S = 60.0


class Parent:
    """The child's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._data = b""

    def say(self, **message) -> None:
        self.sock.sendall(json.dumps(message).encode() + b"\n")

    def told(self, timeout: float | None) -> str | None:
        """The next command, or None after the timeout."""
        if b"\n" not in self._data:
            if not select.select([self.sock], [], [], timeout)[0]:
                return None
            data = self.sock.recv(4096)
            if not data:
                os._exit(0)  # the parent is gone
            self._data += data
        line, _, self._data = self._data.partition(b"\n")
        return line.decode()


def insist(what):
    """what(), again as long as the name is a dead predecessor's or no controller comes up: both are a matter of time."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return what()
        except (NameInUseError, ControllerUnavailableError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def publish(parent: Parent, name: str, rate: float, counts: mmap.mmap, place: int) -> None:
    """Sets keys at random, so many a second; some together, some deleted now and then."""
    dice = random.Random(os.getpid() << 20 | time.time_ns() & 0xFFFFF)
    observable = insist(lambda: kvoshim.Observable(name, AUTOSTART, capacity=1 << 20))
    number = max([time.monotonic_ns(), *(observable.get(key, 0) for key in [*KEYS, FLEETING])])
    due = time.monotonic()
    parent.say(ready=True)
    while True:
        command = parent.told(max(0.0, due - time.monotonic()))
        if command == "finish":
            final = {}
            for key in KEYS:
                number += 1
                final[key] = number, observable.set(key, number)
            if observable.has(FLEETING):
                observable.delete(FLEETING)
            parent.say(final=final)
            due = float("inf")
            while (command := parent.told(None)) != "end":
                pass
        if command == "end":
            observable.close()
            return
        due += BURST / rate
        if due < time.monotonic() - 1.0:  # the machine is too slow for this rate
            due = time.monotonic()
        for _ in range(BURST):
            number += 1
            match dice.randrange(20):
                case 0:
                    observable.update({key: number for key in dice.sample(KEYS, 3)})
                case 1:
                    observable[FLEETING] = number
                case 2 if observable.has(FLEETING):
                    observable.delete(FLEETING)
                case _:
                    observable.set(dice.choice(KEYS), number)
        _COUNT.pack_into(counts, 8 * place, _COUNT.unpack_from(counts, 8 * place)[0] + BURST)


class Tally:
    """What an observer has seen, and whether it rises."""

    def __init__(self, parent: Parent, every: bool) -> None:
        self.parent = parent
        self.every = every
        self.seen: dict[str, dict[str, list]] = {}  # name -> key -> [value, revision]
        self.highest: dict[str, int] = {}
        self.delivered = 0

    def __call__(self, change: kvoshim.kvo.Change) -> None:
        if change.kind in ("gone", "back", "synced"):
            return
        if change.kind not in ("initial", "setting", "deletion"):
            self.parent.say(wrong=f"an unexpected change: {change}")
            return
        self.delivered += 1
        keys = self.seen.setdefault(change.target, {})
        value, revision, _ = keys.get(change.key, (0, 0, ""))
        if change.revision <= revision:
            self.parent.say(wrong=f"the revision of {change.key} does not rise: {revision}, then {change}")
        if change.kind != "deletion" and change.new <= value:
            self.parent.say(wrong=f"the value of {change.key} does not rise: {value} at {revision}, then {change}")
        if self.every and change.kind != "initial" and change.revision < self.highest.get(change.target, 0):
            self.parent.say(wrong=f"the revisions of {change.target} fall: {self.highest[change.target]}, then {change}")
        self.highest[change.target] = change.revision
        keys[change.key] = [value if change.kind == "deletion" else change.new, change.revision, change.kind]


def observe(parent: Parent, names: list[str], key: str | None, mode: str, how: str) -> None:
    """how: 'thread', 'loop', 'hand': who takes changes in."""
    tally = Tally(parent, mode == "every")

    def begin() -> kvoshim.Observer:
        thread = {"thread": True, "loop": None, "hand": False}[how]
        observer = insist(lambda: kvoshim.Observer(autostart=AUTOSTART, thread=thread))
        for name in names:
            insist(lambda name=name: observer.observe(name, key, tally, mode=mode))
        parent.say(ready=True)
        return observer

    def answer(command: str | None) -> bool:
        if command == "state":
            parent.say(state=tally.seen, delivered=tally.delivered)
        return command == "end"

    async def loop() -> None:
        observer, ended = begin(), asyncio.Event()

        def on_command() -> None:
            if answer(parent.told(0)):
                ended.set()

        asyncio.get_running_loop().add_reader(parent.sock, on_command)
        await ended.wait()
        asyncio.get_running_loop().remove_reader(parent.sock)
        observer.close()

    if how == "loop":
        asyncio.run(loop())
        return
    with begin() as observer:
        if how == "thread":
            while not answer(parent.told(None)):
                pass
            return
        while True:
            readable, _, _ = select.select([parent.sock, observer.fileno()], [], [])
            observer.process()
            if parent.sock in readable and answer(parent.told(0)):
                return
