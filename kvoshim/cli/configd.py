"""kvoshim configd: serves the repository of services; verifies and restores one."""

from __future__ import annotations

import argparse

HELP = "run the repository of services, or verify and restore one"


def configure(parser: argparse.ArgumentParser) -> None:
    from kvoshim import process
    from kvoshim.services.configd.daemon import ConfigdProcess

    parser.description = (
        "Runs the repository of services in the foreground until SIGINT or SIGTERM. `kvoshim ctl configd` speaks to it. With "
        "--verify, --restore or --adopt it looks after the files of one that does not run."
    )
    process.add_options(ConfigdProcess, parser)
    tools = parser.add_mutually_exclusive_group()
    tools.add_argument("--verify", action="store_true", help="tell whether all files are as they were written, and do nothing else")
    tools.add_argument(
        "--restore",
        nargs="?",
        const="",
        metavar="BACKUP",
        help="go back to a backup (default: the newest good one); what was there is kept beside it",
    )
    tools.add_argument("--adopt", action="store_true", help="take over files of services that somebody has edited")


def run(args: argparse.Namespace) -> int:
    from kvoshim import process
    from kvoshim.services.configd.daemon import ConfigdProcess

    if not (args.verify or args.adopt or args.restore is not None):
        return process.run(ConfigdProcess, args, "kvoshim configd")
    from kvoshim.services.configd import place, tools
    from kvoshim.services.configd.disk import Disk

    directory = place.repository_directory(args.directory)
    if args.verify:
        report = tools.verify(Disk(), directory)
    elif args.adopt:
        report = tools.adopt(Disk(), directory)
    else:
        report = tools.restore(Disk(), directory, args.restore, volatile=place.volatile_directory(directory))
    for line in report.lines:
        print(line)
    return 0 if report.good else 1
