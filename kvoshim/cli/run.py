"""kvoshim run: start a command with its Unix sockets in shared memory."""

import argparse
import os
import shutil
import sys

from kvoshim import launcher
from kvoshim.cli import _shim_options

HELP = "start a command with its Unix sockets in shared memory"

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # the shell's exit codes


def configure(parser):
    parser.usage = "kvoshim run [--paths GLOBS] [--spin-us N] [--ring-size BYTES] [--warmup CALLS] -- CMD [ARGS ...]"
    _shim_options.add(parser)
    parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- CMD ARGS", help="the command and its arguments")


def run(args):
    command = args.argv[1:] if args.argv[:1] == ["--"] else args.argv
    if not command:
        print("kvoshim run: no command given; usage: kvoshim run [OPTIONS] -- CMD ARGS", file=sys.stderr)
        return 2
    program = command[0]
    found = program if os.sep in program else shutil.which(program)
    if found is None:
        for directory in os.get_exec_path():
            if os.path.exists(os.path.join(directory, program)):
                print(f"kvoshim run: {program}: not executable", file=sys.stderr)
                return NOT_EXECUTABLE
        print(f"kvoshim run: {program}: command not found", file=sys.stderr)
        return NOT_FOUND
    os.environ.update(launcher.variables(args.paths, args.spin_us, args.ring_size, args.warmup))
    try:
        os.execv(found, command)
    except FileNotFoundError:
        print(f"kvoshim run: {found}: no such file, or its interpreter is missing", file=sys.stderr)
        return NOT_FOUND
    except OSError as error:
        print(f"kvoshim run: {found}: {error.strerror}", file=sys.stderr)
        return NOT_EXECUTABLE
