"""kvoshim controller: serves observers and observables."""

from __future__ import annotations

import argparse

HELP = "run the controller of Key-Value Observation"


def configure(parser: argparse.ArgumentParser) -> None:
    from kvoshim import process
    from kvoshim.kvo.controller.daemon import ControllerProcess

    parser.description = (
        "Runs the controller in the foreground until SIGINT or SIGTERM. Clients start one by themselves where "
        "none runs. `kvoshim ctl controller` speaks to it."
    )
    process.add_options(ControllerProcess, parser)


def run(args: argparse.Namespace) -> int:
    from kvoshim import process
    from kvoshim.kvo.controller.daemon import ControllerProcess

    return process.run(ControllerProcess, args, "kvoshim controller")
