"""How long the repository of services takes to commit, and the restarter to start and restart: prints one line of JSON, as stream.py
does.

    services.py --over WAY --mode MODE --path PATH [--size N] [--seconds S]

Modes: commit: one transaction on the disk after the other (fsync: as many bytes appended to a file, and fsync); flight: `size`
transactions under way at a time; batch: transactions of `size` operations; start, chains: from saying that `size` services are to
run until all do (fork: a loop that starts as many programs); chains: each but every tenth after the one before it; restart: from
kill -9 of a service's process until its program, started again, has said so; control: time of the control channel's answer while
`size` services fail again and again, of which the slowest of a hundred counts; memory: what is resident with `size` services, and
CPU while nothing happens.
"""

import argparse
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
from figures import account, used, used_since
from keepers import WAYS

ROUNDS, LEAST = 5, 2  # repetitions of what takes long; in a trial that is to be short
SHORT_S = 0.1
SETTLED_S = 1.1  # s6 starts a program once in a second at the most
IDLE_S = 2.0
CHAIN = 10
GIVE_UP_S = 60.0
TRUE, SLEEP = ("/bin/sh", "-c", "exit 1"), ("/bin/sleep", "1000")
COMMITTED = ("bench/committed", "committed")  # the service that is changed, and what of it


def rounds(arguments: argparse.Namespace) -> int:
    return ROUNDS if arguments.seconds > SHORT_S else LEAST


def each(arguments: argparse.Namespace, call: Callable[[], None]) -> list[int]:
    """Times of a call again and again."""
    call()
    times, until_s = [], time.monotonic() + arguments.seconds
    while not times or time.monotonic() < until_s:
        begun = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - begun)
    return times


def append(arguments: argparse.Namespace) -> list[int]:
    """What one commit needs at the least: as many bytes, and the disk's word that it has them."""
    file = os.open(arguments.path + ".appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return each(arguments, lambda: (os.write(file, bytes(WAYS["fsync"].record)), os.fsync(file)))
    finally:
        os.close(file)


def commits(arguments: argparse.Namespace, client) -> tuple[int, list[int]]:
    """(Operations, times of a transaction)."""
    from kvoshim.services.core.operations import SetProperty

    service, name = COMMITTED
    numbers = iter(range(1 << 62))

    def change() -> SetProperty:
        return SetProperty(target=f"{service}:default", group="config", name=name, value=next(numbers))

    client.transact(WAYS["kvoshim"].importing(service, (), enabled=False))
    if arguments.mode == "commit":
        times = each(arguments, lambda: client.transact(change()))
        return len(times), times
    if arguments.mode == "batch":
        times = each(arguments, lambda: client.transact(*(change() for _ in range(arguments.size))))
        return len(times) * arguments.size, times
    begun = {client.submit([change()]): time.perf_counter_ns() for _ in range(arguments.size)}
    times, until_s = [], time.monotonic() + arguments.seconds
    while begun:
        for request, answer in client.receive(GIVE_UP_S):
            times.append(time.perf_counter_ns() - begun.pop(request))
            if isinstance(answer, Exception):
                raise answer
            if time.monotonic() < until_s:
                begun[client.submit([change()])] = time.perf_counter_ns()
    return len(times), times


def starts(arguments: argparse.Namespace, way) -> list[int]:
    chain = CHAIN if arguments.mode == "chains" else 1
    with way.many(arguments.path, arguments.size, SLEEP, chain) as (start, stop):
        times = []
        for _ in range(rounds(arguments)):
            begun = time.perf_counter_ns()
            start()
            times.append(time.perf_counter_ns() - begun)
            stop()
    return times


@contextmanager
def sayings(path: str) -> Iterator[tuple[tuple[str, ...], Callable[[], int]]]:
    """(A program that says its process number when it starts, what waits for the next)."""
    os.mkfifo(path)
    with open(os.open(path, os.O_RDWR), closefd=True) as lines:
        yield ("/bin/sh", "-c", f"echo $$ > {path}; exec sleep 1000"), lambda: int(lines.readline())


def restarts(arguments: argparse.Namespace, way) -> list[int]:
    with sayings(arguments.path + ".sayings") as (program, said), way.one(arguments.path, program):
        times, pid = [], said()
        for _ in range(rounds(arguments)):
            time.sleep(SETTLED_S)
            begun = time.perf_counter_ns()
            os.kill(pid, signal.SIGKILL)
            pid = said()
            times.append(time.perf_counter_ns() - begun)
    return times


def answers(arguments: argparse.Namespace, way) -> list[int]:
    with way.flapping(arguments.path, arguments.size, TRUE) as ask:
        return each(arguments, ask)


def memory(arguments: argparse.Namespace, way) -> dict[str, object]:
    with way.many(arguments.path, arguments.size, SLEEP, 1) as (start, stop):
        start()
        time.sleep(1.0)
        daemons = {name: psutil.Process(pid) for name, pid in way.daemons().items()}

        def cpu() -> float:
            times = [one.cpu_times() for one in daemons.values()]
            return sum(one.user + one.system for one in times)

        def switches() -> int:
            return sum(one.num_ctx_switches().voluntary for one in daemons.values())

        before = cpu(), switches()
        time.sleep(IDLE_S)
        found = {"seconds": IDLE_S, "cpu_s": cpu() - before[0], "wake_ups": switches() - before[1], "count": arguments.size}
        resident = {f"{name}_bytes": one.memory_info().rss for name, one in daemons.items()}
        stop()
    return found | resident


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    way, mode = WAYS[arguments.over], arguments.mode
    if mode == "memory":
        return memory(arguments, way) | {"what": mode}
    begin, since = time.perf_counter_ns(), used()
    if arguments.over == "fsync":
        times = append(arguments)
    elif mode in ("commit", "flight", "batch"):
        with way.repository(arguments.path) as client:
            begin, since = time.perf_counter_ns(), used()
            count, times = commits(arguments, client)
            return account(arguments.size, count, begin, used_since(since), (0, 0), times) | {"what": mode}
    else:
        times = {"start": starts, "chains": starts, "restart": restarts, "control": answers}[mode](arguments, way)
    found = account(arguments.size, len(times), begin, used_since(since), (0, 0), times) | {"what": mode}
    return found | {"median_ns": found["p99_ns"]} if mode == "control" else found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--over", choices=WAYS, required=True)
    parser.add_argument("--mode", required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--size", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
