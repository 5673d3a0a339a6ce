"""kvoshim set: publishes a value and ends; the value stays."""

from __future__ import annotations

import argparse

from kvoshim.cli import _values

HELP = "set a key of an observable that no process holds open"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Sets a key. The value stays readable as long as the controller keeps it (an hour by default), and a "
        "later `set` of the same name goes on from there. A name that a process holds open is refused: only "
        "its owner can write its values."
    )
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("key", metavar="KEY")
    parser.add_argument("value", metavar="VALUE", help="JSON, or any other text as a string")
    parser.add_argument("--string", action="store_true", help="take VALUE as a string even if it is JSON")
    _values.add_controller(parser)


def run(args: argparse.Namespace) -> int:
    from kvoshim._values import check_key
    from kvoshim.kvo import Observable

    check_key(args.key)  # before anything is published
    with Observable(args.name, controller=args.controller, autostart=args.autostart) as observable:
        observable.set(args.key, args.value if args.string else _values.parse(args.value))
    return 0
