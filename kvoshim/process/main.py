"""The command line of a daemon: step 1 of its launch, and what becomes of the others' exceptions."""

from __future__ import annotations

import argparse
import os
import sys

from kvoshim.errors import LaunchError
from kvoshim.process.builtin import build_text, version_text
from kvoshim.process.controller import Controller
from kvoshim.process.launch import Exit
from kvoshim.process.process import Process


def add_options(kind: type[Process], parser: argparse.ArgumentParser) -> None:
    """The options of every daemon, and those of this one."""
    parser.epilog = "Exit codes: " + "; ".join(f"{one.value} {one.meaning}" for one in Exit) + "."
    need = "needed" if kind.needs_file else "default: none, and its defaults"
    parser.add_argument("-c", "--config", metavar="FILE", help=f"configuration file ({need})")
    parser.add_argument("-t", "--check", action="store_true", help="check the configuration, and do nothing else")
    parser.add_argument("--detach", action="store_true", help="go to the background once the daemon is ready")
    parser.add_argument("--pid-file", metavar="FILE", help="locked while the daemon lives (default: beside its control socket)")
    parser.add_argument("--ready-fd", type=int, default=-1, metavar="N", help="descriptor that gets a newline when it is ready")
    parser.add_argument("--build-report", action="store_true", help="tell what the daemon is made of, and do nothing else")
    parser.add_argument("--version", action="store_true", help="tell the version, and do nothing else")
    kind.add_options(parser)


def main(kind: type[Process], arguments: list[str] | None = None) -> int:
    """Runs a daemon from its command line to its exit code."""
    parser = argparse.ArgumentParser(prog=kind.name, description=kind.__doc__, allow_abbrev=False)
    add_options(kind, parser)
    return run(kind, parser.parse_args(arguments), kind.name)


def run(kind: type[Process], arguments: argparse.Namespace, prog: str) -> int:
    """The same with a command line that was parsed. prog: how the daemon is called in messages."""
    if arguments.build_report or arguments.version:
        print(build_text(kind) if arguments.build_report else version_text(kind))
        return Exit.ENDED
    controller = Controller(kind, arguments, prog)
    try:
        controller.read_configuration()
        if arguments.check:
            print(f"{prog}: {controller.manager.proposed.source} is valid")
            return Exit.ENDED
        if arguments.detach:
            return _in_background(controller)
        return controller.run(lambda: _say(f"{prog}: {controller.process.announcement()}"))
    except LaunchError as error:
        _say(f"{prog}: {controller.log.clean(str(error))}")
        return error.exit_code


def _say(text: str) -> None:
    """A line on standard error, if there is anybody to read it."""
    try:
        if sys.stderr is not None:
            print(text, file=sys.stderr, flush=True)
    except OSError:
        pass


def _in_background(controller: Controller) -> int:
    """Steps 3 to 8 in a child of its own session; returns when it is ready (0) or has failed (its exit code)."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            code, _, text = answer.read().decode(errors="replace").partition(" ")
        if code != "0":
            _, status = os.waitpid(pid, 0)
            _say(f"{controller.prog}: {text or 'it ended before it was ready'}")
            return int(code) if code else os.waitstatus_to_exitcode(status) or Exit.NOT_STARTED
        return Exit.ENDED
    code = int(Exit.RUN)
    try:
        os.close(reader)
        os.setsid()
        code = _launch(controller, writer)
    finally:
        os._exit(code)  # nothing of the parent's is undone here


def _launch(controller: Controller, writer: int) -> int:
    is_ready = False

    def ready() -> None:
        nonlocal is_ready
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        is_ready = True
        os.write(writer, b"0 ")
        os.close(writer)

    try:
        return controller.run(ready)
    except LaunchError as error:
        if not is_ready:
            os.write(writer, f"{int(error.exit_code)} {controller.log.clean(str(error))}".encode(errors="replace"))
        return error.exit_code


