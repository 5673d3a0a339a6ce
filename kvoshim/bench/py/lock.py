"""The core's look-up and lock on one connection that nobody else uses: prints one line of JSON.

    lock.py --module FILE [--threads 1|2] [--seconds S] [--cpu N]

With one thread the process needs no lock; with a second one, which sleeps, it takes it each time. Batches with and
without it alternate; the figure is the difference of the least of each, in nanoseconds.
"""

import argparse
import importlib.util
import json
import os
import socket
import sys
import threading
from time import perf_counter, process_time


def load(path: str, name: str = "core_lock"):
    """The extension module in that file."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure(core_lock, seconds: float) -> dict[str, object]:
    """Alternating batches for so long."""
    cpu, start = process_time(), perf_counter()
    pairs = []
    while len(pairs) < 10 or perf_counter() - start < seconds:
        pairs.append(core_lock.time_batch())
    locked, empty = (min(times) for times in zip(*pairs, strict=True))
    return {
        "what": "lock",
        "batches": len(pairs),
        "seconds": perf_counter() - start,
        "locked_ns": locked,
        "empty_ns": empty,
        "min_ns": locked - empty,
        "cpu_client_s": process_time() - cpu,
        "cpu_server_s": 0.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--module", required=True)
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1)
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument("--cpu", type=int)
    arguments = parser.parse_args()
    if arguments.cpu is not None:
        os.sched_setaffinity(0, {arguments.cpu})
    done = threading.Event()
    second = threading.Thread(target=done.wait)
    if arguments.threads == 2:
        second.start()
    try:
        here, there = socket.socketpair()
        with here, there:
            core_lock = load(arguments.module)
            alone = core_lock.open_connection(here.fileno())
            if alone != (arguments.threads == 1):
                sys.exit(f"lock.py: {'no' if alone else 'a'} lock is taken with {arguments.threads} threads")
            print(json.dumps(measure(core_lock, arguments.seconds)))
    finally:
        done.set()
        if arguments.threads == 2:
            second.join()


if __name__ == "__main__":
    main()
