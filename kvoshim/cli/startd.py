"""kvoshim startd: the restarter in the foreground."""

from __future__ import annotations

import argparse

HELP = "run the restarter of services under a spawner"


def configure(parser: argparse.ArgumentParser) -> None:
    from kvoshim import process
    from kvoshim.services.startd.daemon import StartdProcess

    parser.description = (
        "Runs the restarter in the foreground until SIGINT or SIGTERM; services run on without it. `kvoshim svc up` starts a spawner, "
        "which starts this and keeps it alive."
    )
    process.add_options(StartdProcess, parser)


def run(args: argparse.Namespace) -> int:
    from kvoshim import process
    from kvoshim.services.startd.daemon import StartdProcess

    return process.run(StartdProcess, args, "kvoshim startd")
