"""The `kvoshim` command. Each module of this package whose name has no underscore in front is a subcommand:

    HELP                  one line
    configure(parser)     adds its arguments to an argparse parser
    run(args) -> int      does it and returns the exit code

Only the module of the command that is used is imported. Exit codes: 0 done, 1 refused or failed (one line on
standard error says why), 2 wrong usage, 130 interrupted; a command may have others and says so in its help.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import sys

from kvoshim import __version__
from kvoshim.errors import KvoshimError


def commands() -> list[str]:
    """The names of all subcommands."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


class _Parser(argparse.ArgumentParser):
    """An option that only begins like a known one is an error: it would change its meaning with a new
    option."""

    def __init__(self, **options) -> None:
        super().__init__(allow_abbrev=False, **options)


def _parser(chosen: str | None, only_names: bool) -> argparse.ArgumentParser:
    parser = _Parser(prog="kvoshim", description="Processes of one host talk at the speed of memory.")
    parser.add_argument("--version", action="version", version=f"kvoshim {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name in commands() if chosen is None else [chosen]:
        module = importlib.import_module(f"{__name__}.{name}")
        subparser = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
        if not only_names:
            module.configure(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    chosen = arguments[0] if arguments and arguments[0] in commands() else None
    args = _parser(chosen, only_names=arguments[:1] in (["-h"], ["--help"])).parse_args(arguments)
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except KvoshimError as error:
        print(f"kvoshim {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
