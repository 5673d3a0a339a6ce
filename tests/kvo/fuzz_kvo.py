"""Random input for Key-Value Observation, from a seed: what clients and controllers say to each other, values and stores.
`scripts/fuzz-kvo` runs it for long, test_fuzz_kvo.py for a moment.

What must hold: a stream of messages is cut the same way wherever its pieces end, into messages or a ProtocolError; a controller
serves everybody else, meets no bug, and neither grows nor keeps a descriptor or a registration; of stores and values see
fuzz_store.py.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import select
import socket
import struct
import sys
import time

import fuzz_store
import psutil
from kvoshim._store import Writer

import kvoshim
from kvoshim.errors import ProtocolError
from kvoshim.kvo import wire
from kvoshim.kvo.fdchannel import Channel
from kvoshim.kvo.tally import BUCKETS
from kvoshim.process.framing import Frames

NAMES = ["lasting", "fuzz", "other", "é" * 40, "x" * 255, "x" * 256, "", "\x00", 1, -1, os.getpid(), 1 << 40]
KEYS = ["a", "b", "k*", "k.**", "ö", "y" * 255, "y" * 256, "", None]
_LENGTH = struct.Struct("<I")
GROWTH = 32 << 20 if "SANITIZER" not in os.environ else 1 << 30  # a sanitizer keeps what is freed for a while
_LAST = wire.Ping(1 << 30)


def _small(dice: random.Random) -> int:
    return dice.choice((0, 1, 2, 3, dice.randrange(50), -1, 1 << 31, 1 << 62, (1 << 64) - 1))


def message(dice: random.Random) -> wire.Message:
    """One that a client might send."""
    number, name, key = dice.randrange(1 << 20), dice.choice(NAMES), dice.choice(KEYS)
    text = name if isinstance(name, str) else "fuzz"
    match dice.randrange(12):
        case 0:
            return wire.Claim(number, text, dice.randbytes(dice.choice((0, 16, 16, 40))))
        case 1:
            return wire.Publish(number, text, dice.randrange(5))
        case 2:
            return wire.Withdraw(number, text, dice.random() < 0.5)
        case 3:
            return wire.Open(number, name, dice.random() < 0.5)
        case 4:
            return wire.Unobserve(_small(dice))
        case 5:
            return wire.Bell()
        case 6 if dice.random() < 0.2:
            return wire.List(number)
        case 7:
            return wire.Ping(number)
        case 8 if dice.random() < 0.02:  # mostly none of those that are true: the connection ends
            return wire.Report([dice.randrange(1 << 20)] * dice.choice((4 + BUCKETS, 4 + BUCKETS, 3)))
    last = min(max(_small(dice), 0), (1 << 62) - 1) if dice.random() < 0.2 else 0
    return wire.Observe(number, _small(dice), name, key, dice.random() < 0.8, last, dice.randbytes(16), dice.randrange(3),
                        dice.choice((None, None, "a*", "**", "*" * 255, "é" * 200, "")))


def spoilt(dice: random.Random, data: bytes) -> bytes:
    """A message's bytes with an accident; mostly its length is made to fit again."""
    body = bytearray(data[4:])
    at = dice.randrange(len(body) + 1)
    match dice.randrange(4):
        case 0 if body:
            body[at % len(body)] ^= 1 << dice.randrange(8)
        case 1:
            del body[at : at + dice.randrange(9)]
        case 2:
            body[at:at] = dice.randbytes(dice.randrange(1, 9))
        case 3:
            body[at : at + 1] = dice.choice((b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xc0", b"\xcf" + b"\xff" * 8, b"\x91" * 60))
    length = len(body) if dice.random() < 0.9 else dice.randrange(1 << dice.choice((3, 13, 32)))
    return _LENGTH.pack(length) + body


def answer(dice: random.Random) -> wire.Message:
    """One that a controller might send."""
    info = wire.StoreInfo("n", 1, 2, dice.randbytes(16), True, dice.randrange(3))
    row = wire.Row("n", 1, True, "p", [wire.Observation(1, dice.choice(KEYS), 0.5)])
    return dice.choice((
        wire.Welcome(1, dice.randbytes(16), 1), wire.Claimed(1, 2, 0), wire.Published(1, 0), wire.Done(1), wire.Opened(1, info),
        wire.Observed(1, "n", info), wire.Listing(1, [row], False), wire.Failed(1, "key", "t"),
        wire.Notify([(1, dice.randrange(9), 3)] * dice.randrange(4)), wire.Offered(info), wire.Gone("n", bytes(16), False),
        wire.Raise("n", 9), wire.Count()))  # fmt: skip


def cut_one(dice: random.Random) -> None:
    """One stream, cut at random places, against the same in one piece."""
    kind, limit, make = dice.choice(((wire.CLIENT_MESSAGES, wire.CLIENT_MAX, message), (wire.CONTROLLER_MESSAGES, 1 << 20, answer)))
    frames = [wire.frame(make(dice)) for _ in range(dice.randrange(1, 4))]
    stream = b"".join(spoilt(dice, one) if dice.random() < 0.4 else one for one in frames)

    def cut(pieces) -> tuple[list, bool]:
        cutter, found = Frames(kind, limit, "test"), []
        try:
            for piece in pieces:
                found.extend(cutter.feed(piece))
        except ProtocolError:
            return found, True
        return found, False

    pieces, at = [], 0
    while at < len(stream):
        size = dice.choice((1, 3, 7, 50, 1000))
        pieces.append(stream[at : at + size])
        at += size
    assert cut([stream]) == cut(pieces), stream


# --- a controller ---------------------------------------------


def flood(dice: random.Random, path: str, count: int) -> int:
    """One connection that says so many things, some of them no messages; returns the answers."""
    with socket.socket(socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as packets:
        sock.settimeout(60)
        sock.connect(path)
        sock.sendall(wire.frame(wire.Hello(wire.VERSION, "fuzz")))
        frames = wire.PROTOCOL.of_daemon()
        (welcome,) = frames.feed(sock.recv(4096))
        packets.settimeout(60)
        packets.connect(path + ".fds")
        packets.send(welcome.token)
        channel = Channel(packets)
        os.close(channel.take(0))
        packets.setblocking(False)
        tickets = _send_stores(dice, channel)
        data = b"".join(_said(dice, tickets) for _ in range(count - len(tickets))) + wire.frame(_LAST)
        answers, ended = 0, False
        sock.setblocking(False)
        try:
            while True:
                readable, writable, _ = select.select([sock, packets], [sock] if data else [], [], 60 if data or ended else 0.05)
                if not (readable or writable):
                    assert not (data or ended), "the controller hangs"
                    sock.shutdown(socket.SHUT_WR)  # an accident has made it wait for the rest of a message
                    ended = True
                if packets in readable:
                    _drop(packets)
                if writable:
                    data = data[sock.send(data) :]
                if sock in readable:
                    received = sock.recv(1 << 16)
                    found = list(frames.feed(received))
                    answers += len(found)
                    if not received or wire.Done(_LAST.request) in found:
                        break
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended the connection
        channel.close()
        return answers


def _said(dice: random.Random, tickets: list[int]) -> bytes:
    """What keeps the connection alive, but for an accident in 500."""
    while isinstance(said := message(dice), wire.Publish) and dice.random() < 0.97:
        if tickets and dice.random() < 0.1:
            name = dice.choice(("fuzz", "store", "other"))
            return wire.frame(wire.Claim(1, name, bytes(16))) + wire.frame(wire.Publish(2, name, tickets.pop()))
    data = wire.frame(said)
    return spoilt(dice, data) if dice.random() < 0.002 else data


def _send_stores(dice: random.Random, channel: Channel) -> list[int]:
    """Good stores, spoilt ones, and what is none."""
    writer = Writer("fuzz", max_keys=4, capacity=1 << 16, history=0)
    memory = fuzz_store.Sealed(fuzz_store.good_store())
    for _ in range(3):
        memory.put(dice.randrange(0, 700, 4), dice.randbytes(4))
    tickets = [writer.fd, memory.fd, channel.sock.fileno()]
    for ticket, fd in enumerate(tickets, 1):
        channel.send(ticket, fd)
    writer.close()
    memory.close()
    return list(range(1, len(tickets) + 1))


def _drop(packets: socket.socket) -> None:
    try:
        data, fds, _, _ = socket.recv_fds(packets, 64, 4)
    except OSError:
        return
    for fd in fds:
        os.close(fd)


class Controlled:
    """A controller, with a publisher and an observer that must not notice anything."""

    def __init__(self, place) -> None:
        self.place = place
        place.environment["KVOSHIM_LOG"] = "error"
        self.pid = place.controller().pid
        self.lasting = kvoshim.Observable("lasting", capacity=1 << 16)
        self.observer = kvoshim.Observer()
        self.changes: list = []
        self.observer.observe("lasting", "a", self.changes.append)
        self.client = self.observer._client

    def check(self, until) -> None:
        value = self.lasting.set("a", time.monotonic_ns())
        until(lambda: self.changes and self.changes[-1].revision >= value, "others are served")
        assert self.observer.connected and not self.client.lost.is_set()
        assert "Traceback" not in self.place.log_text(), self.place.log_text()[-3000:]
        until(lambda: len(self.client.link.table.rows()) == 1, "no registration is kept")

    def held(self) -> tuple[int, int]:
        process = psutil.Process(self.pid)
        return process.memory_info().rss, process.num_fds()

    def close(self) -> None:
        self.observer.close()
        self.lasting.close()


def controller(dice: random.Random, count: int) -> str:
    """So many messages to a controller of its own; what came of it."""
    from kvo_harness import Place, until

    place = Place()
    os.environ.update(place.environment)
    served = Controlled(place)
    try:
        turns, answers, before = max(2, count // 300), 0, None
        for turn in range(turns):
            answers += flood(dice, place.socket, 300)
            if before is None and turn * 5 >= turns:
                served.check(until)
                before = served.held()
        served.check(until)
        after = until(lambda: (now := served.held())[1] <= before[1] + 2 and now, "no descriptor is kept")
        assert after[0] < before[0] + GROWTH, (before, after)
        return f"{answers} answered; (memory, descriptors) {before} -> {after}"
    finally:
        served.close()
        place.close()


def main(inputs: str = "10000000", seed: str = "", *parts: str) -> int:
    """Each of the parts (default: all) for so many inputs. An exception if something does not hold."""
    count, number = int(inputs), int(seed) if seed else time.time_ns() % 1_000_000
    print(f"seed {number}", flush=True)
    logging.disable(logging.CRITICAL)  # what cannot be read is logged each time
    dice = random.Random(number)
    for name in parts or ("messages", "controller", "value", "store", "observed", "opened"):
        began, found = time.monotonic(), ""
        if name == "controller":
            found = controller(dice, count)
        elif name == "messages":
            for _ in range(count):
                cut_one(dice)
        else:
            outcomes, held = stores(dice, name, count)
            found = f"{outcomes}; (memory, descriptors) {held}"
        print(f"{name}: {count} inputs in {time.monotonic() - began:.0f} s; {found}", flush=True)
    return 0


def stores(dice: random.Random, name: str, count: int) -> tuple[dict[str, int], str]:
    """So many inputs of one kind of fuzz_store.Stores; how often what came of it, and what the process held."""
    made = fuzz_store.Stores()
    one = getattr(made, name)
    before = (0, 0)
    for turn in range(count):
        one(dice)
        if turn == count // 5:
            before = own()
        if turn % 1_000_000 == 999_999:
            print(f"{name}: {turn + 1} so far, {own()}", flush=True)
    after = own()
    made.close()
    assert after[0] < before[0] + GROWTH, f"reading grows: {before} -> {after}"
    assert after[1] <= before[1] + 2, f"descriptors are kept: {before} -> {after}"
    return made.outcomes, f"{before} -> {after}"


def own() -> tuple[int, int]:
    """(resident bytes, descriptors) of this process, of what is in use."""
    gc.collect()
    process = psutil.Process()
    return process.memory_info().rss, process.num_fds()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
