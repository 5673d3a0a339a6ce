"""kvoshim observe: a line for each change."""

from __future__ import annotations

import argparse
import datetime
import json
import queue
import signal
import time

from kvoshim.cli import _values

HELP = "print a line for each change of a key, or of all keys, until interrupted"


def _natural(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1e9:
        raise ValueError
    return number


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name",
        metavar="NAME",
        type=_values.target,
        help="an observable's name (it need not be there yet), or pid:PID",
    )
    parser.add_argument("key", metavar="KEY", nargs="?", help="a key, a path or a pattern (engine.*); default: all keys")
    parser.add_argument("--count", type=_natural, metavar="N", help="end after N changes")
    parser.add_argument("--seconds", type=_seconds, metavar="S", help="end after S seconds")
    parser.add_argument(
        "--no-initial", dest="initial", action="store_false", help="leave out the values that are there"
    )
    parser.add_argument("--mode", choices=("latest", "every"), default="latest", help="every: do not merge changes")
    parser.add_argument("--since", type=int, metavar="REVISION", help="only what follows this revision")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    _values.add_controller(parser)


def _line(change, as_json: bool) -> str:
    if as_json:
        return json.dumps(
            {
                "name": change.target,
                "key": change.key,
                "kind": change.kind,
                "value": _values.jsonable(change.new),
                "revision": change.revision,
                "merged": change.merged,
                "missed": change.missed,
                "reason": change.reason,
                "timestamp": change.timestamp,
            },
            ensure_ascii=False,
        )
    if change.kind in ("gone", "back"):
        text = {"gone": "is gone; its last values stay readable", "back": "is back"}[change.kind]
        return f"{datetime.datetime.now():%H:%M:%S.%f}  {change.target} {text}"
    moment = datetime.datetime.fromtimestamp(change.timestamp)
    if change.kind == "error":
        return f"{datetime.datetime.now():%H:%M:%S.%f}  {change.target} {change.key}: {change.error}"
    value = f"({change.reason})" if change.kind == "deletion" else _values.show(change.new)
    about = f"(revision {change.revision}, {change.kind})"
    return f"{moment:%H:%M:%S.%f}  {change.target} {change.key} = {value}  {about}"


def run(args: argparse.Namespace) -> int:
    from kvoshim.kvo import Observer

    changes: queue.SimpleQueue = queue.SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: changes.put(None))
    deadline = None if args.seconds is None else time.monotonic() + args.seconds
    left = args.count
    with Observer(controller=args.controller, autostart=args.autostart) as observer:
        options = "new|initial" if args.initial else "new"
        observer.observe(args.name, args.key, changes.put, options=options, mode=args.mode, since=args.since)
        while left is None or left > 0:
            try:
                change = changes.get(
                    timeout=None if deadline is None else max(0.0, deadline - time.monotonic())
                )
            except queue.Empty:
                break
            if change is None:  # interrupted: the ordinary way to end
                break
            print(_line(change, args.json), flush=True)
            left = None if left is None else left - 1
    return 0
