"""The kvoshim command. Each subcommand is a module of this package with HELP, configure(parser) and run(args) -> exit
code; it is imported only when it is the one that was asked for."""

import argparse
import importlib
import sys

COMMANDS = {
    "run": "kvoshim.cli.run",
    "env": "kvoshim.cli.env",
    "demo": "kvoshim.cli.demo",
}


def main(argv=None):
    """Runs one command line (list of str; default: sys.argv). Returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    import kvoshim

    parser = argparse.ArgumentParser(prog="kvoshim", description=kvoshim.__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"kvoshim {kvoshim.__version__}")
    commands = parser.add_subparsers(dest="subcommand", metavar="COMMAND", required=True)
    wanted = argv[0] if argv and argv[0] in COMMANDS else None
    for name, module_name in COMMANDS.items():
        if wanted is not None and name != wanted:
            continue
        module = importlib.import_module(module_name)
        module.configure(commands.add_parser(name, help=module.HELP, description=module.HELP))
    args = parser.parse_args(argv)
    return importlib.import_module(COMMANDS[args.subcommand]).run(args)
