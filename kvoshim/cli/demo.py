"""kvoshim demo: the main job on real input, in one command."""

import sys
import tempfile
import time

HELP = "show it at work: live values observed across processes, and unmodified programs with and without the shim"


def configure(parser):
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="how long, about (default: 10)")


def run(args):
    from rich.console import Console

    from kvoshim.demo import observing, sockets

    if args.seconds < 2:
        print("kvoshim demo: --seconds: at least 2", file=sys.stderr)
        return 2
    console, failures = Console(), []
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kvoshim-demo-") as directory:
        try:
            changes, missed = observing.observe(args.seconds * 0.4, console)
            console.print(f"observed {changes} changes; the publisher was killed: the registry told after {missed * 1e3:.1f} ms\n")
        except Exception as error:
            failures.append(f"observation: {error}")
        try:
            show_round_trip(console, sockets.round_trip(directory, args.seconds * 0.15), failures)
        except Exception as error:
            failures.append(f"stream server and client: {error}")
        try:
            show_redis(console, sockets.redis_rates(directory, args.seconds * 0.15), failures)
        except Exception as error:
            failures.append(f"Redis: {error}")
    console.print(f"finished after {time.monotonic() - start:.1f} s")
    for failure in failures:
        print(f"kvoshim demo: failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def show_round_trip(console, result, failures):
    from rich.table import Table

    table = Table(title="an unmodified socketserver and its client: round trip of 64 bytes")
    for heading in ("", "median", "p99", "round trips"):
        table.add_column(heading, justify="right")
    for name in ("kernel", "shim"):
        row = result[name]
        table.add_row(name, f"{row['median_us']:.2f} µs", f"{row['p99_us']:.2f} µs", f"{row['count']}")
    ratio = result["kernel"]["median_us"] / result["shim"]["median_us"]
    table.caption = f"{ratio:.1f} times faster; {result['accelerated']} connection ends accelerated"
    console.print(table)
    if result["accelerated"] < 2:
        failures.append("stream server and client: the connection was not accelerated")


def show_redis(console, result, failures):
    if result is None:
        console.print("redis-server and redis-benchmark are not installed: left out")
        return
    console.print(f"redis-benchmark GET, one client: {result['kernel']:,.0f} requests/s on the kernel socket, "
                  f"{result['shim']:,.0f} through the shim: {result['shim'] / result['kernel']:.1f} times")
    if result["accelerated"] < 2:
        failures.append("Redis: no connection was accelerated")
