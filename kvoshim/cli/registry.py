"""kvoshim registry: who is there, where the registry is, and the daemon itself."""

from __future__ import annotations

import argparse

from kvoshim.cli import _registry_entries, _registry_seat

HELP = "find registered processes, and serve the registry"


def configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(parser))
    _registry_entries.add(actions)
    _registry_seat.add(actions)


def run(args: argparse.Namespace) -> int:
    return args.act(args)
