"""kvoshim doctor: can this be accelerated, and why not?"""

from __future__ import annotations

import argparse
import json
import os
import sys

HELP = "say whether, and why not, a socket path, a process or a program can be accelerated"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Examines a PID, a socket path ('@name' for an abstract one) or a program. Exit codes: 0 it can be accelerated, "
        "1 it cannot (the reason comes first), 2 wrong usage, or nothing of that name."
    )
    parser.add_argument("subject", metavar="PATH|PID|CMD")
    parser.add_argument(
        "--paths",
        metavar="GLOBS",
        default=os.environ.get("KVOSHIM_PATHS") or "*",
        help="what a socket path is held against (default: KVOSHIM_PATHS, or all)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from kvoshim.doctor import BAD, examine
    from kvoshim.errors import UnknownSubjectError

    try:
        kind, findings = examine(args.subject, args.paths)
    except UnknownSubjectError as error:
        print(f"kvoshim doctor: {error}", file=sys.stderr)
        return 2
    can = all(finding.level != BAD for finding in findings)
    if args.json:
        rows = [finding.as_dict() for finding in findings]
        print(json.dumps({"subject": args.subject, "kind": kind, "can": can, "findings": rows}))
    else:
        print(f"{kind} {args.subject}: {'can' if can else 'cannot'} be accelerated")
        for finding in findings:
            print(f"  {finding.level:4}  {finding.text}")
    return 0 if can else 1
