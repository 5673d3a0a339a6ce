"""kvoshim list: who publishes what, who observes it."""

from __future__ import annotations

import argparse
import json

from kvoshim.cli import _values

HELP = "list the observables, their keys and who observes them"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
    _values.add_controller(parser)


def _keys(observer, row: dict) -> dict[str, int]:
    """The observable's keys and their revisions, read from its store."""
    from kvoshim.errors import UnknownNameError

    if not row["pid"]:
        return {}
    try:
        return {key: observer.revision(row["name"], key) for key in observer.keys(row["name"])}
    except UnknownNameError:  # it has gone since
        return {}


def run(args: argparse.Namespace) -> int:
    from kvoshim.kvo import Observer

    with Observer(controller=args.controller, autostart=args.autostart) as observer:
        rows = observer.observables()
        for row in rows:
            row["keys"] = _keys(observer, row)
    if args.json:
        print(json.dumps(rows, ensure_ascii=False))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "PID", "state", "program", "keys", "observers")
    for row in rows:
        state = "live" if row["live"] else "ended" if row["pid"] else "awaited"
        observers = [
            f"{one['pid']}: {'all keys' if one['key'] is None else one['key']}" for one in row["observers"]
        ]
        table.add_row(
            row["name"],
            str(row["pid"] or ""),
            state,
            row["program"],
            "\n".join(f"{key} (revision {revision})" for key, revision in row["keys"].items()),
            "\n".join(observers),
        )
    # Names and keys are other people's text: nothing in them is markup.
    Console(markup=False, highlight=False, emoji=False).print(table if rows else "no observables")
    return 0
