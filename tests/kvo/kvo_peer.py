"""A process at a test's command: a JSON list a line, [command, arguments…]; answers {"result": …} or
{"error": …}, and {"event": …} for each change seen. Ends in order when its input ends."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import threading
import time

import kvoshim
from kvoshim.process import ControlClient

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kvo_attacks  # noqa: E402

_out = threading.Lock()


def say(message: dict) -> None:
    with _out:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


class Commands:
    def __init__(self) -> None:
        self.observables: dict[str, kvoshim.Observable] = {}
        self.observer: kvoshim.Observer | None = None
        self.tokens: dict[tuple, object] = {}
        self.tally: dict[str, dict] = {}

    def become(self, uid, groups=()):
        """Goes on as another user, with nothing left of root's rights."""
        os.setgroups(groups)
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: as if the program had been started by that user
        os.environ["HOME"] = "/nonexistent"

    def attack(self, name, *arguments):
        """What came of it: an error's name, or a text."""
        try:
            return getattr(kvo_attacks, name)(*arguments)
        except Exception as error:
            return type(error).__name__

    def listen(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        os.chmod(path, 0o666)
        self.listener.listen()

    def ctl(self, path, name, arguments=None):
        """A command to a control channel: [result, text, arguments]."""
        with ControlClient(path, 30) as client:
            answer = client.ask(name, arguments)
            return [answer.result, answer.text, answer.arguments]

    def the_observer(self) -> kvoshim.Observer:
        if self.observer is None:
            self.observer = kvoshim.Observer()
        return self.observer

    def publish(self, name, options=None):
        self.observables[name] = kvoshim.Observable(name, **(options or {}))

    def set(self, name, key, value):
        return self.observables[name].set(key, value)

    def count(self, name, key, first, last):
        """Sets key to first, …, last as fast as possible."""
        set_value = self.observables[name].set
        for number in range(first, last + 1):
            set_value(key, number)
        return self.observables[name].revision(key)

    def flood(self, name):
        """Sets keys for ever."""
        number = 0
        while True:
            number += 1
            self.observables[name].set(f"k{number % 50}", number)

    def put(self, name, key, value, options=None):
        return self.observables[name].put(key, value, **(options or {}))

    def delete(self, name, key, options=None):
        return self.observables[name].delete(key, **(options or {}))

    def close(self, name, discard=False):
        self.observables.pop(name).close(discard)

    def alive(self, target, key):
        token = self.tokens[target, key]
        return [token.state, token.is_alive()]

    def spoil(self, name, key, value, offset, data):
        """Sets a key and spoils what its observers are about to read, with all bells rung."""
        self.observables[name].set(key, value)
        kvo_attacks.poke(offset, data)

    def bell(self, name):
        """Wakes the controller for nothing."""
        self.observables[name]._publication.client.bell()

    def connected(self, name):
        return self.observables[name].connected

    def get(self, target, key):
        return self.the_observer().get(target, key)

    def revision(self, target, key):
        return self.the_observer().revision(target, key)

    def observables_known(self):
        return self.the_observer().observables()

    def observe(self, target, key, options=None):
        def seen(change):
            event = {field: getattr(change, field) for field in change.__struct_fields__}
            event["error"] = event["error"] and str(event["error"])
            say({"event": event})

        self.tokens[target, key] = self.the_observer().observe(target, key, seen, **(options or {}))

    def end(self):
        """Ends the observer."""
        self.observer.close()
        self.observer = None

    def delivery(self, target, key):
        return self.tokens[target, key].delivery

    def observe_quietly(self, target, key):
        """Observes without an event a change: only counts, and checks that versions rise."""
        tally = self.tally[key] = {"changes": 0, "last": None, "revision": 0, "falls": 0}

        def seen(change):
            if change.kind in ("gone", "back"):
                return
            tally["falls"] += change.revision <= tally["revision"]
            tally.update(changes=tally["changes"] + 1, last=change.new, revision=change.revision)

        self.tokens[target, key] = self.the_observer().observe(target, key, seen)

    def seen(self, key):
        return self.tally[key]

    def unobserve(self, target, key):
        self.tokens.pop((target, key)).close()

    def descriptors(self):
        return len(os.listdir("/proc/self/fd"))

    def cpu(self):
        times = os.times()
        return times.user + times.system

    def sleep(self, seconds):
        time.sleep(seconds)


def main() -> None:
    commands = Commands()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            say({"result": getattr(commands, name)(*arguments)})
        except Exception as error:
            say({"error": f"{type(error).__name__}: {error}"})
    for observable in commands.observables.values():
        observable.close()
    if commands.observer is not None:
        commands.observer.close()


main()
