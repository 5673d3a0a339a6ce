"""How soon hosts know of each other: two hosts as network namespaces, one shared home directory (hosts_harness.py).

    python measure.py [--registrations 200] [--losses 5]

Prints the time from registering on one host to the notification on the other; from cutting a host off to the notification that what is
registered there is gone; from its return until it is seen again; what the bridges and servers take. Asserts nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "registry"), str(HERE.parent)]

from hosts_harness import World, names  # noqa: E402
from registry_harness import until  # noqa: E402

PARSER = argparse.ArgumentParser()
PARSER.add_argument("--registrations", type=int, default=200)
PARSER.add_argument("--losses", type=int, default=5)
LEASE_S = 3


def told(peer, kind: str, name: str, after: float) -> float:
    """When a peer was told of it (its clock is this process's), waiting for it."""
    return until(lambda: next(
        (event["time"] for event in list(peer.events)
         if event["kind"] == kind and event.get("name") == name and event["time"] > after), None,
    ))  # fmt: skip


def show(what: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    last = ordered[int(len(ordered) * 0.99)]
    print(f"{what}: median {statistics.median(ordered) * 1e3:.2f} ms, p99 {last * 1e3:.2f} ms, max {ordered[-1] * 1e3:.2f} ms")


def registering(a, b, count: int) -> None:
    seen, gone = [], []
    for number in range(count):
        begun = time.monotonic()
        a.do("register", f"n{number}", {})
        seen.append(told(b, "added", f"n{number}", begun) - begun)
        begun = time.monotonic()
        a.do("close", f"n{number}")
        gone.append(told(b, "removed", f"n{number}", begun) - begun)
    show("registered on one host until told on the other", seen)
    show("deregistered", gone)


def losing(world: World, alpha, beta, b, count: int) -> None:
    lost, back = [], []
    for turn in range(count):
        time.sleep(0.29 * turn % 1)  # at any moment between two beats
        begun = time.monotonic()
        alpha.link("down")
        lost.append(told(b, "removed", "kept", begun) - begun)
        time.sleep(1)
        begun = time.monotonic()
        alpha.link("up")
        back.append(told(b, "added", "kept", begun) - begun)
        world.meet(alpha, beta)
    print(f"cut off until told, lease {LEASE_S} s:", ", ".join(f"{one:.3f} s" for one in lost))
    print("the link is back until told:", ", ".join(f"{one:.3f} s" for one in back))


def resting(*hosts) -> None:
    processes = [process for host in hosts for process in host.processes()]
    used = {process.pid: sum(process.cpu_times()[:2]) for process in processes}
    time.sleep(5)
    for process in processes:
        cpu = sum(process.cpu_times()[:2]) - used[process.pid]
        words = " ".join(process.cmdline())
        what = next((one for one in ("nats-server", "kvoshim.federation", "registry serve") if one in words), "a peer")
        print(f"at rest: {what}: {process.memory_info().rss >> 20} MiB, {cpu / 5:.1%} of a CPU")


def main() -> None:
    arguments = PARSER.parse_args()
    world = World()
    try:
        alpha, beta = world.two(LEASE_S)
        a, b = alpha.peer(), beta.peer()
        a.do("register", "kept", {})
        b.do("watch", "*")
        until(lambda: names(b))
        registering(a, b, arguments.registrations)
        losing(world, alpha, beta, b, arguments.losses)
        resting(alpha, beta)
    finally:
        world.close()


if __name__ == "__main__":
    main()
