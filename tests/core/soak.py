"""Random stress cases for as long as asked: scripts/soak [SECONDS] [--seed FIRST] [--jobs N] [--length SECONDS]."""

import argparse
import concurrent.futures
import dataclasses
import itertools
import sys
import tempfile
import time

import rig


def plain(case):
    """The same case on kernel sockets."""
    bare = {name: dataclasses.replace(getattr(case, name), shimmed=False) for name in ("server", "client")}
    return dataclasses.replace(case, **bare)


def main():
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=60, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, default=None, help="first seed (default: from the clock); others follow")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time (default: 2)")
    parser.add_argument("--length", type=float, default=0.7, help="seconds of each case (default: 0.7)")
    parser.add_argument("--grace", type=float, default=rig.GRACE, help="seconds beyond that until it counts as hung")
    parser.add_argument("--one", action="store_true", help="only the first seed, with what its ends print")
    parser.add_argument("--plain", action="store_true", help="without the library: checks the stress program itself")
    args = parser.parse_args()
    first = int(time.time()) * 1000 if args.seed is None else args.seed
    counts = {"good": 0, "wrong": 0, "hung": 0}
    moved = 0
    end = time.monotonic() + args.seconds

    def one(seed):
        case = rig.random_case(seed, args.length)
        if args.plain:
            case = plain(case)
        began = time.monotonic()
        outcome = rig.run(program, case, grace=args.grace)
        return seed, case, outcome, time.monotonic() - began

    with tempfile.TemporaryDirectory(prefix="kvoshim-soak-") as directory:
        program = rig.build(directory)
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            seeds = itertools.count(first)
            running = {pool.submit(one, next(seeds)) for _ in range(1 if args.one else args.jobs)}
            while running:
                done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    seed, case, outcome, took = future.result()
                    counts[outcome.verdict] += 1
                    moved += sum(one["received"] for one in outcome.totals.values())
                    if outcome.verdict != "good" or args.one:
                        print(f"{outcome.verdict}: seed {seed}: {case}\n{outcome.text}", flush=True)
                    elif took > args.length * 3 + 3 and not args.plain:
                        began = time.monotonic()
                        rig.run(program, plain(case), grace=60)
                        bare = time.monotonic() - began
                        if took > 2 * bare + 1:
                            print(f"slow: seed {seed}: {took:.1f} s, {bare:.1f} s without the library: {case}", flush=True)
                    if time.monotonic() < end and not args.one:
                        running.add(pool.submit(one, next(seeds)))
    print(f"{sum(counts.values())} cases from seed {first}, {moved / 1e6:.0f} MB: "
          + ", ".join(f"{number} {name}" for name, number in counts.items()))
    return counts["wrong"] + counts["hung"] > 0


if __name__ == "__main__":
    sys.exit(main())
