"""kvoshim connections: what each connection on a selected path does."""

from __future__ import annotations

import argparse
import json
import time

HELP = "list the connections of programs under the shim: path, peer, traffic, sleeps, or why they are plain"


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise ValueError
    return number


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Lists the connections on selected paths of your processes (root: of everybody's), live and plain, as their "
        "own counters show them. The processes are not disturbed."
    )
    parser.add_argument("--json", action="store_true", help="print JSON: a list of processes, a line each time")
    parser.add_argument(
        "--watch", type=_seconds, nargs="?", const=1.0, metavar="SECONDS", help="again and again (default: each second)"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="also what each process has accelerated and declined so far, by reason, with or without open connections",
    )


def _clean(text: str) -> str:
    """Names and paths are other people's text: nothing in them may move the cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _bytes(n: int) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} TiB"


def _connections(processes: list[dict]):
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("PID", "program", "ID", "side", "state", "path", "peer"):
        table.add_column(heading, no_wrap=True)
    for heading in ("sent", "received", "msgs out", "msgs in", "sleeps", "bells", "saved", "spins won", "lost"):
        table.add_column(heading, justify="right", no_wrap=True)
    for process in processes:
        for one in process["connections"]:
            numbers = ("sends", "receives", "sleeps", "bells", "bells_saved", "spins_won", "spins_lost")
            table.add_row(
                str(process["pid"]),
                _clean(process["program"]),
                str(one["id"]),
                one["side"],
                f"{one['state']}: {one['reason']}" if one["reason"] else one["state"],
                _clean(one["path"]),
                _clean(f"{one['peer_pid'] or '?'} {one['peer_program']}".rstrip()),
                _bytes(one["sent"]),
                _bytes(one["received"]),
                *(str(one[name]) for name in numbers),
            )
    return table if table.row_count else "no connections"


def _counts(processes: list[dict]):
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("PID", "program", "accelerated", "declined"):
        table.add_column(heading, no_wrap=True)
    for process in processes:
        declined = ", ".join(f"{reason} {n}" for reason, n in process["refused"].items())
        table.add_row(str(process["pid"]), _clean(process["program"]), str(process["accelerated"]), declined or "-")
    return table if table.row_count else "no processes"


def _show(console, processes: list[dict], args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(processes), flush=True)
        return
    console.print(_connections(processes))
    if args.all:
        console.print("")
        console.print(_counts(processes))


def run(args: argparse.Namespace) -> int:
    from kvoshim.statistics import processes

    console = None
    if not args.json:
        from rich.console import Console

        console = Console(markup=False, highlight=False, emoji=False)
        if not console.is_terminal:
            console = Console(markup=False, highlight=False, emoji=False, width=1000)  # for grep: a line a connection
    while True:
        found = processes()
        if not args.all:
            found = [process for process in found if process["connections"]]
        if console is not None and args.watch and console.is_terminal:
            console.clear()
        _show(console, found, args)
        if args.watch is None:
            return 0
        time.sleep(args.watch)
