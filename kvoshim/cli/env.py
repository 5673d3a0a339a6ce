"""kvoshim env: print the variables for a shell."""

from kvoshim import launcher
from kvoshim.cli import _shim_options

HELP = "print the variables that put a shell's commands under the shim (eval \"$(kvoshim env)\")"


def configure(parser):
    _shim_options.add(parser)


def run(args):
    print(launcher.shell_lines(launcher.variables(args.paths, args.spin_us, args.ring_size, args.warmup)))
    return 0
