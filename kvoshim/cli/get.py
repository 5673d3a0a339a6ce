"""kvoshim get: one value."""

from __future__ import annotations

import argparse
import json

from kvoshim.cli import _values

HELP = "print the value of a key"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", type=_values.target, help="an observable's name, or pid:PID")
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("--json", action="store_true", help="print JSON, strings in quotes")
    _values.add_controller(parser)


def run(args: argparse.Namespace) -> int:
    from kvoshim.kvo import Observer

    with Observer(controller=args.controller, autostart=args.autostart) as observer:
        value = observer.get(args.name, args.key)
    print(json.dumps(_values.jsonable(value), ensure_ascii=False) if args.json else _values.show(value))
    return 0
