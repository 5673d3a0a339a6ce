"""Reading a value from a store, in C: prints one line of JSON.

    read.py --module FILE [--seconds S] [--cpu N]

Nobody writes meanwhile. The figure is the least of many batches, in nanoseconds of one read.
"""

import argparse
import json
import mmap
import os
import sys
from time import perf_counter, process_time

from kvoshim._store import Writer
from lock import load


def measure(module, seconds: float) -> dict[str, object]:
    writer = Writer("bench", max_keys=1, capacity=1 << 16)
    writer.set("k", 42)
    with mmap.mmap(writer.fd, writer.limits["capacity"], prot=mmap.PROT_READ) as store:
        cpu, start, times = process_time(), perf_counter(), []
        while len(times) < 10 or perf_counter() - start < seconds:
            took, value = module.time_batch(store)
            if value != 42:
                sys.exit(f"read.py: the value is {value}, not 42")
            times.append(took)
        return {
            "what": "read",
            "batches": len(times),
            "seconds": perf_counter() - start,
            "min_ns": min(times),
            "cpu_client_s": process_time() - cpu,
            "cpu_server_s": 0.0,
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--module", required=True)
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument("--cpu", type=int)
    arguments = parser.parse_args()
    if arguments.cpu is not None:
        os.sched_setaffinity(0, {arguments.cpu})
    print(json.dumps(measure(load(arguments.module, "store_read"), arguments.seconds)))


if __name__ == "__main__":
    main()
