"""How long it takes to find a program by its name, and to be told that one has come or gone: prints one line of JSON, as stream.py
does.

    names.py --over WAY --mode MODE --path PATH [--size N] [--searches S] [--processes P] [--seconds S] [--cpus OWN,OTHERS]

Modes: find: a name is found by who has found it before; ask: the same by asking whoever keeps the names; tell: from registering until
the last search in another process is told; death: from kill -9 of a registered process until a search in another one is told; idle:
CPU of the daemon and of all processes while nothing happens; election: from kill -9 of the daemon until all of `size` processes are
registered again.

size: names that are registered beside; or processes, of an election. The searches are in P processes, which write into a page of
PATH.acks how long after it began their last search was told (as in notify.py).
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from directories import WAYS
from figures import account, used, used_since
from notify import BATCH, GIVE_UP_S, Acks, calls, pin, wait
from waiting import until

FEW, LEAST = 6, 3  # repetitions of what takes long; in a trial that is to be short
SHORT_S = 0.1
PAUSE_S = 0.01  # between two of them: all sleep again
IDLE_S = 2.0
PER_PROCESS = 2500  # names
TOLD = {"tell": "added", "death": "removed"}


def search(arguments: argparse.Namespace) -> None:
    """One process with searches. A name is "b", its number, "-", and when it began."""
    acks = Acks(arguments.path + ".acks", arguments.processes)
    own = arguments.searches // arguments.processes
    wanted, left, last, begun = TOLD.get(arguments.mode), own, -1, 0

    def take(kind: str, name: str, since: int = 0) -> None:
        nonlocal left, last, begun
        if kind != wanted or not name.startswith("b"):
            return
        number, _, stamp = name[1:].partition("-")
        sequence, begun = int(number), since or int(stamp)
        if sequence != last:
            last, left = sequence, own
        left -= 1
        if left == 0:
            acks.write(arguments.number, sequence, time.monotonic_ns() - begun, sequence)

    with WAYS[arguments.over].searcher(arguments, own, take) as run:
        start = used()
        print("ready", flush=True)
        run()  # until standard input ends
        print(json.dumps(used_since(start)), flush=True)


def fill(arguments: argparse.Namespace) -> None:
    """One process that has names registered, and does nothing."""
    with WAYS[arguments.over].member(arguments) as register:
        for number in range(arguments.first, arguments.first + arguments.count):
            register(f"filled{number}")
        print("ready", flush=True)
        sys.stdin.read()


def victim(arguments: argparse.Namespace) -> None:
    """One process that is to be killed."""
    with WAYS[arguments.over].member(arguments) as register:
        register(f"b{arguments.first}-0")
        print("ready", flush=True)
        sys.stdin.read()


def few(arguments: argparse.Namespace) -> int:
    return FEW if arguments.seconds > SHORT_S else LEAST


def start(arguments: argparse.Namespace, *words: object) -> subprocess.Popen:
    command = [sys.executable, __file__, *sys.argv[1:], *map(str, words)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ready(process: subprocess.Popen, what: str) -> None:
    if process.stdout.readline() != "ready\n":
        raise RuntimeError(f"{what} has failed")


def end(processes: list[subprocess.Popen]) -> None:
    for one in processes:
        one.kill()
        one.wait()
        one.stdout.close()
        one.stdin.close()


def arrivals(arguments: argparse.Namespace, acks: Acks) -> list[int]:
    """Registers name after name; the time of each until the last search is told."""
    times = []
    with WAYS[arguments.over].member(arguments) as register:
        until_s = time.monotonic() + arguments.seconds
        sequence = 0
        while len(times) < few(arguments) or time.monotonic() < until_s:
            sequence += 1
            close = register(f"b{sequence}-{time.monotonic_ns()}")
            wait(acks, sequence, False)
            times.append(max(took for _, took, _ in acks.read()))
            close()
            time.sleep(PAUSE_S)
    return times[1:]


def deaths(arguments: argparse.Namespace, acks: Acks) -> list[int]:
    """Kills process after process; the searches' clock begins when they hear, so the beginning is added here."""
    times, sequence = [], 0
    until_s = time.monotonic() + arguments.seconds
    while len(times) < few(arguments) or time.monotonic() < until_s:
        sequence += 1
        process = start(arguments, "--victim", "--first", sequence)
        try:
            ready(process, "a process to be killed")
            time.sleep(5 * PAUSE_S)
            begun = time.monotonic_ns()
            process.send_signal(signal.SIGKILL)
            wait(acks, sequence, False)
            # The name says 0 as its beginning, so what was written is the moment itself.
            times.append(acks.read()[0][1] - begun)
        finally:
            end([process])
    return times[1:]


def idleness(arguments: argparse.Namespace, processes: list[int]) -> dict[str, object]:
    """CPU and wake-ups of all that is there while nothing happens."""
    known = [psutil.Process(pid) for pid in processes]
    time.sleep(1.0)

    def now() -> tuple[float, int]:
        times = [one.cpu_times() for one in known]
        return sum(one.user + one.system for one in times), sum(one.num_ctx_switches().voluntary for one in known)

    cpu, switches = now()
    time.sleep(IDLE_S)
    after, switches_after = now()
    return {"seconds": IDLE_S, "cpu_s": after - cpu, "wake_ups": switches_after - switches, "what": "idle", "count": len(known)}


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    mode, way = arguments.mode, WAYS[arguments.over]
    own_cpu, others_cpu = (arguments.cpus + ",").split(",")[:2] if arguments.cpus else ("", "")
    acks = Acks(arguments.path + ".acks", max(arguments.processes, 1))
    others: list[subprocess.Popen] = []
    with way.server(arguments) as pids:
        try:
            if mode == "election":
                return election(arguments, way)
            for first in range(0, arguments.size, PER_PROCESS):
                others.append(start(arguments, "--fill", "--first", first, "--count", min(PER_PROCESS, arguments.size - first)))
            for one in others:
                ready(one, "a process with names")
            searching = [
                start(arguments, "--number", number, "--cpu", others_cpu)
                for number in range(arguments.processes if mode in ("tell", "death", "idle") else 0)
            ]
            others += searching
            for one in searching:
                ready(one, "a process that searches")
            pin(own_cpu)
            begin, since = time.perf_counter_ns(), used()
            if mode == "idle":
                return idleness(arguments, [*pids(), *(one.pid for one in others)])
            if mode == "tell":
                times = arrivals(arguments, acks)
            elif mode == "death":
                times = deaths(arguments, acks)
            else:
                with way.member(arguments) as register, way.finder(arguments, mode == "ask") as find:
                    register("wanted")
                    until(lambda: find("wanted"))
                    times = calls(arguments, lambda: find("wanted"))
            near, far = used_since(since), [0, 0]
            for one in searching:
                one.stdin.close()
                cpu, switches = json.loads(one.stdout.readline())
                far[0], far[1] = far[0] + cpu, far[1] + switches
                one.wait(GIVE_UP_S)
        finally:
            end(others)
    count = len(times) * (BATCH if mode in ("find", "ask") else 1)
    return account(arguments.size, count, begin, near, tuple(far), times) | {"what": mode}


def election(arguments: argparse.Namespace, way) -> dict[str, object]:
    """Kills the daemon under many registered processes, several times."""
    times, begin, since = [], time.perf_counter_ns(), used()
    with way.crowd(arguments) as (kill, complete):
        until(complete, 120)
        for _ in range(few(arguments) // 2):
            time.sleep(1.0)
            begun = time.monotonic_ns()
            kill()
            until(complete, 60)
            times.append(time.monotonic_ns() - begun)
    return account(arguments.size, len(times), begin, used_since(since), (0, 0), times) | {"what": "election"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--over", choices=WAYS, required=True)
    parser.add_argument("--mode", choices=("find", "ask", "tell", "death", "idle", "election"), required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--searches", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--cpus", default="")
    parser.add_argument("--cpu", default="")
    parser.add_argument("--number", type=int, default=-1)
    parser.add_argument("--fill", action="store_true")
    parser.add_argument("--victim", action="store_true")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=0)
    arguments = parser.parse_args()
    WAYS[arguments.over].prepare(arguments)
    if arguments.fill:
        fill(arguments)
    elif arguments.victim:
        victim(arguments)
    elif arguments.number >= 0:
        pin(arguments.cpu)
        search(arguments)
    else:
        try:
            print(json.dumps(measure(arguments)))
        finally:
            Path(arguments.path + ".acks").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
