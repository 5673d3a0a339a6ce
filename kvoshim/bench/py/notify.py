"""How long a change takes to reach those who observe it: prints one line of JSON, as stream.py does.

    notify.py --over TRANSPORT --mode MODE --path PATH
              [--size BYTES] [--observers N] [--processes P] [--seconds S] [--cpus PUBLISHER,OBSERVERS]

Modes: asleep: a change every few milliseconds, all asleep in between; hot: the next one as soon as it has arrived; alone, awake: what
one call of set() takes, with nobody who observes, or one who is awake; rate: as many changes as can be, of which the observer gets
the newest; every: as many as can be delivered, the publisher never more than AHEAD in front, so that nothing is lost on the way;
get: what reading a value takes; attribute: what assigning an attribute of an observable object takes; among-set, among-get: set()
and get() of one key, over "many" among 100,000, of which another process observes 1,000.

The publisher starts the observers, P processes with N observations together. Each writes into a page of PATH.acks how long its
last callback came after the change; the publisher goes on when all have it. The time of a change is that of the last of them.
"""

import argparse
import json
import mmap
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

from figures import account, used, used_since
from transports import TRANSPORTS

PACE_S, GIVE_UP_S = 0.002, 20
HEAD = struct.Struct("<qq")  # of a value: sequence, time of the change
ACK = struct.Struct("<qqq")  # of an observer: last sequence, its time, callbacks so far
CELL = 64
BATCH = 200
UNWATCHED = ("alone", "get", "attribute", "among-set", "among-get")  # modes without observers of ours
AHEAD = 20_000  # changes: what every way to tell of them has room for


class Acks:
    """What the observers have got; one cell each."""

    def __init__(self, path: str, count: int) -> None:
        with open(path, "a+b") as file:
            file.truncate(CELL * count)
            self.memory = mmap.mmap(file.fileno(), CELL * count)
        self.count = count

    def write(self, number: int, sequence: int, took: int, callbacks: int) -> None:
        struct.pack_into("<q", self.memory, CELL * number + 8, took)
        struct.pack_into("<q", self.memory, CELL * number + 16, callbacks)
        struct.pack_into("<q", self.memory, CELL * number, sequence)

    def read(self) -> list[tuple[int, int, int]]:
        return [ACK.unpack_from(self.memory, CELL * number) for number in range(self.count)]

    def arrived(self, sequence: int) -> bool:
        return all(ACK.unpack_from(self.memory, CELL * number)[0] >= sequence for number in range(self.count))


def pin(cpu: str) -> None:
    if cpu:
        os.sched_setaffinity(0, {int(cpu)})


def observe(arguments: argparse.Namespace) -> None:
    """One observing process."""
    acks = Acks(arguments.path + ".acks", arguments.processes)
    own = arguments.observers // arguments.processes
    callbacks, left, last = 0, own, -1

    def take(value: bytes) -> None:
        nonlocal callbacks, left, last
        callbacks += 1
        sequence, begun = HEAD.unpack_from(value)
        if sequence != last:
            last, left = sequence, own
        left -= 1
        if left == 0:
            acks.write(arguments.number, sequence, time.monotonic_ns() - begun, callbacks)

    with TRANSPORTS[arguments.over].observer(arguments, own, take) as run:
        start = used()
        print("ready", flush=True)
        run()  # until standard input ends
        print(json.dumps(used_since(start)), flush=True)


def wait(acks: Acks, sequence: int, spin: bool) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while not acks.arrived(sequence):
        if time.monotonic() > deadline:
            raise TimeoutError(f"change {sequence} has not arrived: {acks.read()}")
        if spin:
            os.sched_yield()
        else:
            time.sleep(0.0002)


def changes(arguments: argparse.Namespace, publish, acks: Acks) -> list[int]:
    """The time of each change until the last observer has it."""
    hot, padding = arguments.mode == "hot", bytes(max(0, arguments.size - HEAD.size))
    times, sequence, warm = [], 0, 20
    end = time.monotonic() + arguments.seconds
    while len(times) < 10 or time.monotonic() < end:
        sequence += 1
        publish(HEAD.pack(sequence, time.monotonic_ns()) + padding)
        wait(acks, sequence, hot)
        if sequence > warm:
            times.append(max(took for _, took, _ in acks.read()))
        else:
            end = time.monotonic() + arguments.seconds
        if not hot:
            time.sleep(PACE_S + 0.0001 * arguments.processes)
    return times


def calls(arguments: argparse.Namespace, call) -> list[float]:
    """What a call takes, by batches."""
    times, end = [], time.monotonic() + arguments.seconds
    while len(times) < 10 or time.monotonic() < end:
        begin = time.perf_counter_ns()
        for _ in range(BATCH):
            call()
        times.append((time.perf_counter_ns() - begin) / BATCH)
    return times


def flood(arguments: argparse.Namespace, publish, acks: Acks) -> tuple[int, int, float]:
    """As many changes as can be: their number, that of the callbacks, the seconds until the last was told of."""
    padding, sequence, begin = bytes(max(0, arguments.size - HEAD.size)), 0, time.monotonic()
    end = begin + max(arguments.seconds, 0.5)
    while time.monotonic() < end:
        for _ in range(BATCH):
            sequence += 1
            publish(HEAD.pack(sequence, time.monotonic_ns()) + padding)
        if arguments.mode == "every":
            wait(acks, sequence - AHEAD, False)
    wait(acks, sequence, False)
    return sequence, acks.read()[0][2], time.monotonic() - begin


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    mode, size = arguments.mode, arguments.size
    watched = mode not in UNWATCHED
    publisher_cpu, observer_cpu = (arguments.cpus + ",").split(",")[:2] if arguments.cpus else ("", "")
    transport = TRANSPORTS[arguments.over]
    processes = arguments.processes if watched else 0
    acks = Acks(arguments.path + ".acks", max(processes, 1))
    with transport.publisher(arguments) as publish:
        command = [sys.executable, __file__, *sys.argv[1:], "--cpu", observer_cpu]
        observers = [
            subprocess.Popen([*command, "--number", str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for number in range(processes)
        ]
        try:
            for one in observers:
                if one.stdout.readline() != "ready\n":
                    raise RuntimeError("an observer has failed")
            pin(publisher_cpu)
            settle = getattr(publish, "settle", None)
            if settle is not None and processes:
                settle(arguments)
            start, begin, extra = used(), time.perf_counter_ns(), {}
            if mode in ("rate", "every"):
                count, callbacks, seconds = flood(arguments, publish, acks)
                times = [seconds * 1e9 / (callbacks if mode == "every" else count)]
                extra = {"callbacks_per_s": callbacks / seconds, "delivered": callbacks / count}
            elif mode in ("alone", "awake"):
                value = HEAD.pack(-1, 0) + bytes(max(0, size - HEAD.size))
                times = calls(arguments, lambda: publish(value))
                count = BATCH * len(times)
            elif mode in UNWATCHED:
                publish(bytes(size))
                times = calls(arguments, publish.call)
                count = BATCH * len(times)
            else:
                times = changes(arguments, publish, acks)
                count = len(times)
            near = used_since(start)
            far = [0, 0]
            for one in observers:
                one.stdin.close()
                cpu, switches = json.loads(one.stdout.readline())
                far[0], far[1] = far[0] + cpu, far[1] + switches
                one.wait(GIVE_UP_S)
        finally:
            for one in observers:
                one.kill()
                one.wait()
                one.stdout.close()
                one.stdin.close()
    extra |= getattr(publish, "figures", {})
    found = account(size, count, begin, near, tuple(far), times) | {"what": mode} | extra
    if mode in ("rate", "every"):
        found["messages_per_s"] = 1e9 / times[0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--over", choices=TRANSPORTS, required=True)
    parser.add_argument("--mode", choices=("asleep", "hot", "alone", "awake", "rate", "every", *UNWATCHED[1:]), required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--observers", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--cpus", default="")
    parser.add_argument("--cpu", default="")
    parser.add_argument("--number", type=int, default=-1)
    arguments = parser.parse_args()
    if arguments.number >= 0:
        pin(arguments.cpu)
        observe(arguments)
        return
    try:
        print(json.dumps(measure(arguments)))
    finally:
        Path(arguments.path + ".acks").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
