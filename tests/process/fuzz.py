"""Random input for the parser of configurations and for the control channel, from a seed. `scripts/fuzz-control` runs it
for long; test_fuzz.py for a moment.

What must hold: the parser gives what the json module gives or a ConfigurationError, whatever comes; commands are cut out
of a stream the same way wherever its pieces end; a daemon answers each command, never meets a bug, and neither grows nor
keeps a descriptor.
"""

from __future__ import annotations

import json
import os
import random
import re
import select
import socket
import sys
import time

import psutil

from kvoshim.errors import ConfigurationError, ControlError
from kvoshim.process import jsontext
from kvoshim.process.envelope import Frames

COMMANDS = [
    {"command": "greet"},
    {"command": "list-commands", "arguments": {"verbose": True}},
    {"command": "config-get", "service": ["greeter"]},
    {"command": "config-test", "arguments": {"greeter": {"greeting": "x", "database": {"password": "p", "host": "h"}}}},
    {"command": "config-set", "arguments": {"greeter": {"greeting": "é😀", "statistic-samples": 3}, "hash": "0"}},
    {"command": "config-set", "arguments": {"greeter": {"user-context": {"a": [1, 2.5, None, {"b": {}}]}}}},
    {"command": "statistic-get", "arguments": {"name": "commands"}},
    {"command": "statistic-get-all", "arguments": {"format": "prometheus"}},
    {"command": "statistic-reset"},
    {"command": "status-get"},
    {"command": "fill", "arguments": {"size": 100}},
    {"command": "build-report"},
]
TEXTS = [
    *(json.dumps(one, ensure_ascii=bool(n % 2), indent=n % 3 or None).encode() for n, one in enumerate(COMMANDS)),
    b'# note\n{"greeter": {"greeting": /* here */ "x"}, // end\n"other": []}',
    b'{"a": "\\u00e9\\ud83d\\ude00\\n\\"", "b": [-0.5e-3, 12345678901234567890, true, false, null]}',
]
_BUG = re.compile(r"^[A-Z]\w*Error: |this is a bug of the daemon")  # an exception that nobody expected
_COMMAND_TEXTS = TEXTS[: len(COMMANDS)]
TOKENS = [*b'{}[]:,"\\/#*\n \x00\xff', b"//", b"/*", b"*/", b'\\"', b"\\ud800", b"\\u0000", b"NaN", b"-Infinity", b"1e999", b"-"]
TOKENS += [b"9" * 500, b"{" * 70, b"[" * 70, b'{"a":' * 70, b'"command"', b'"arguments"', b"\xc3\x28"]
TOKENS += [b"<?include", b'<?include "x"?>']
TOKENS = [bytes([token]) if isinstance(token, int) else token for token in TOKENS]


def mutated(dice: random.Random, texts: list[bytes]) -> bytes:
    """One of the texts with some accidents."""
    data = bytearray(dice.choice(texts))
    for _ in range(dice.choice((0, 1, 1, 1, 2, 3, 8))):
        at, end = sorted(dice.randrange(len(data) + 1) for _ in range(2))
        end = min(end, at + 40)
        match dice.randrange(6):
            case 0:
                del data[at:end]
            case 1:
                data[at:at] = data[at:end]
            case 2 | 3:
                data[at:at] = dice.choice(TOKENS)
            case 4 if data:
                data[at % len(data)] ^= 1 << dice.randrange(8)
            case 5:
                other = dice.choice(texts)
                data[at:end] = other[dice.randrange(len(other)) :][:30]
    return bytes(data)


def parse_one(dice: random.Random) -> None:
    """One input for the parser, against the json module."""
    data = mutated(dice, TEXTS)
    try:
        value = jsontext.parse(jsontext.decode(data, "f"), "f").value
    except ConfigurationError as error:
        assert error.place.startswith("f:"), error
        return
    plain = value
    if b"#" not in data and b"/" not in data:
        plain = json.loads(data)
    assert json.dumps(plain) == json.dumps(value), data


def cut_one(dice: random.Random) -> None:
    """One stream, cut at random places, against the same in one piece."""
    stream = b"".join(mutated(dice, TEXTS) for _ in range(dice.randrange(1, 5)))

    def frames(pieces):
        cutter, found = Frames(2000), []
        try:
            for piece in pieces:
                found.extend(cutter.feed(piece))
        except ControlError:
            return found, True
        return found, False

    pieces, at = [], 0
    while at < len(stream):
        size = dice.choice((1, 1, 2, 3, 7, 50, 1000))
        pieces.append(stream[at : at + size])
        at += size
    whole, broken = frames([stream])
    parts, broken_too = frames(pieces)
    assert whole == parts and broken == broken_too, stream
    assert all(frame[:1] == b"{" and frame[-1:] in (b"}", b"]") for frame in whole)


def _command(dice: random.Random) -> bytes:
    """A mutated command that is cut out well, so that the connection lives on and the commands behind it are seen."""
    while True:
        data = mutated(dice, _COMMAND_TEXTS)
        cutter = Frames(2000)
        try:
            if len(list(cutter.feed(data))) and not cutter.partial:
                return data
        except ControlError:
            pass


def flood(dice: random.Random, path: str, count: int) -> int:
    """So many commands over one connection, the last with any accident; returns the answers. The connection may end early, the
    answers must be sound."""
    commands = [_command(dice) + dice.choice((b"", b"\n", b" ")) for _ in range(count - 1)]
    data = b"".join(commands) + mutated(dice, _COMMAND_TEXTS)
    answers = b""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(path)
        sock.setblocking(False)
        try:
            while True:
                readable, writable, _ = select.select([sock], [sock] if data else [], [], 60)
                assert readable or writable, "the daemon hangs"
                if writable:
                    data = data[sock.send(data) :]
                    if not data:
                        sock.shutdown(socket.SHUT_WR)
                if readable:
                    if not (received := sock.recv(1 << 16)):
                        break
                    answers += received
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended the connection; what it said before may be lost with it
    lines = answers.split(b"\n")
    for line in lines[:-1]:
        answer = json.loads(line)
        assert answer["result"] in range(6), answer
        assert not _BUG.search(answer.get("text", "")), answer
    return len(lines) - 1


def held(pid: int) -> tuple[int, int]:
    """(resident bytes, descriptors) of a daemon."""
    process = psutil.Process(pid)
    return process.memory_info().rss, process.num_fds()


def channel(dice: random.Random, count: int) -> str:
    """So many commands to a daemon of its own; what came of it."""
    from process_harness import Place, until

    place = Place()
    try:
        place.write(logging={"level": "warning"})
        daemon = place.start()
        turns, answers, before = max(1, count // 200), 0, None
        for turn in range(turns):
            answers += flood(dice, daemon.path, 200)
            if turn % 5000 == 4999:
                print(f"channel: {200 * (turn + 1)} so far, {answers} answered, {held(daemon.process.pid)}", flush=True)
            if before is None and turn * 5 >= turns - 5:
                until(lambda: daemon.call("status-get")["control"]["clients"] == 1)
                before = held(daemon.process.pid)
        until(lambda: held(daemon.process.pid)[1] <= before[1], "no descriptor is kept")
        after = held(daemon.process.pid)
        assert "Traceback" not in daemon.log(), daemon.log()[-3000:]
        assert after[0] < before[0] + (32 << 20), (before, after)
        return f"{answers} answered; (memory, descriptors) {before} -> {after}"
    finally:
        place.close()


def inputs_for(one, dice: random.Random, count: int) -> str:
    """So many inputs within this process; what it held after a fifth of them, and at the end."""
    before = (0, 0)
    for turn in range(count):
        one(dice)
        if turn == count // 5:
            before = held(os.getpid())
    after = held(os.getpid())
    assert after[0] < before[0] + (32 << 20) and after[1] <= before[1], (before, after)
    return f"(memory, descriptors) {before} -> {after}"


def main(inputs: str = "10000000", seed: str = "", *parts: str) -> int:
    """Each of the parts (default: all three) for so many inputs. AssertionError if something does not hold."""
    count, number = int(inputs), int(seed) if seed else time.time_ns() % 1_000_000
    print(f"seed {number}", flush=True)
    dice = random.Random(number)
    for name in parts or ("parser", "frames", "channel"):
        began = time.monotonic()
        if name == "channel":
            found = channel(dice, count)
        else:
            found = inputs_for({"parser": parse_one, "frames": cut_one}[name], dice, count)
        print(f"{name}: {count} inputs in {time.monotonic() - began:.0f} s; {found}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
