"""kvoshim bench: kernel sockets, the shim and its peers measured in one run."""

from __future__ import annotations

import argparse

HELP = "measure this machine: kernel sockets, the shim, bare rings and other transports in one run"

_PRESETS = {
    "quick": "fewer sizes, 3 repetitions, 0.1 s a run",
    "full": "all cases, 3 repetitions, 0.25 s a run",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Measures kernel sockets, the shim, the bare limits and other transports, in turn, in one run, and holds the "
        "result against kvoshim's demands. Figures taken on a busy machine mean nothing. Needs a C compiler. Exit codes: "
        "0 all demands hold, 1 a run failed, 2 wrong usage or nothing can be measured, 3 a demand is missed."
    )
    option = parser.add_argument
    amount = parser.add_mutually_exclusive_group()
    for name, text in _PRESETS.items():
        amount.add_argument(f"--{name}", action="store_const", const=name, dest="preset", help=text)
    parser.set_defaults(preset="default")
    option("--only", action="append", default=[], metavar="NAME", help="a case or block, see --list; repeatable")
    option("--json", metavar="FILE", help="write all runs to FILE")
    option("--plot", metavar="DIR", help="draw the result into DIR, as SVG and PNG (needs matplotlib)")
    option("--from", dest="from_file", metavar="FILE", help="measure nothing: show (and draw) a result of --json")
    option("--repetitions", type=int, metavar="N", help="instead of the preset's 3")
    option("--seconds", type=float, metavar="S", help="length of one run, instead of 0.1, 0.2 or 0.25")
    option("--list", action="store_true", help="name cases and blocks, then end")
    option("--checkout", metavar="DIR", help="kvoshim's source tree: measure the core's lock too, keep results in it")


def run(args: argparse.Namespace) -> int:
    from kvoshim.bench import command

    return command.run(args)
