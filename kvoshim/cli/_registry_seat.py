"""kvoshim registry explain, kvoshim registry private: where the registry is."""

from __future__ import annotations

import argparse
import json
import sys

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # the shell's exit codes


def add(actions) -> None:
    """Adds both to the actions of `kvoshim registry`. args.act(args) does what was chosen."""
    explain = actions.add_parser(
        "explain",
        help="tell which registry would be used, and why",
        description="Tells which registry a program in this environment would use, and why. Changes nothing and starts nothing. "
        "Exit code 0: it would find one, or start one; 1: it would not.",
    )
    scopes = "user, host, private:DIR or semi-private:DIR (default: as a program would choose)"
    explain.add_argument("--scope", metavar="TEXT", help=scopes)
    explain.add_argument("--json", action="store_true", help="print JSON")
    explain.set_defaults(act=_explain)

    private = actions.add_parser(
        "private",
        help="run a command with a registry of its own",
        usage="kvoshim registry private [--semi] -- CMD [ARGS ...]",
        description="Runs a command with a registry that only it and its children see. Ends with the command, with its exit code.",
    )
    private.add_argument("--semi", action="store_true", help="show them, too, what is registered outside")
    private.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD ARGS", help="the command and its arguments")
    private.set_defaults(act=_private)


def _explain(args: argparse.Namespace) -> int:
    from kvoshim.registry.seat import Scope, explain
    from kvoshim.registry.seat.explaining import FAILS

    found = explain(Scope.parse(args.scope) if args.scope else None)
    if args.json:
        print(json.dumps(found.as_dict(), ensure_ascii=False))
    else:
        marks = {True: "+", False: "-", None: " "}
        for step in found.steps:
            print(f"{marks[step.good]} {_printable(step.words)}")
        print(f"= {_printable(found.words)}")
    return 1 if found.outcome == FAILS else 0


def _printable(text: str) -> str:
    """Names in it are other people's."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _private(args: argparse.Namespace) -> int:
    from kvoshim.registry.seat import launch_private

    command = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
    if not command:
        print("kvoshim registry private: no command given; usage: kvoshim registry private [--semi] -- CMD ARGS", file=sys.stderr)
        return 2
    try:
        return launch_private(command, args.semi)
    except OSError as error:
        print(f"kvoshim registry private: {command[0]}: {error.strerror}", file=sys.stderr)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
