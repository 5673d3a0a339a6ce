"""kvoshim controller: serves observers and observables."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys

HELP = "run the controller of Key-Value Observation"

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Runs the controller in the foreground until SIGINT or SIGTERM. Clients start one by themselves where "
        "none runs. Exit codes: 0 ended by a signal or idle, 1 the socket cannot be bound, 3 a controller "
        "already runs."
    )
    parser.add_argument(
        "--socket",
        metavar="PATH",
        help="where to serve (default: KVOSHIM_CONTROLLER, else a path of "
        "your own below XDG_RUNTIME_DIR or /tmp)",
    )
    parser.add_argument(
        "--detach",
        action="store_true",
        help="go to the background once the socket is bound, and end when idle",
    )
    parser.add_argument(
        "--idle-exit",
        type=float,
        metavar="S",
        help="end after S seconds with no clients and no kept values; 0: never (default: 60 with --detach)",
    )
    parser.add_argument(
        "--retain",
        type=float,
        default=3600.0,
        metavar="S",
        help="keep the values of an ended observable for S seconds; 0: for ever (default: 3600)",
    )


def run(args: argparse.Namespace) -> int:
    from kvoshim.kvo.paths import controller_path

    path = controller_path(args.socket)
    idle = args.idle_exit if args.idle_exit is not None else 60.0 if args.detach else 0.0
    if not args.detach:
        return _serve(path, idle, args.retain, None)
    ready, ready_writer = os.pipe()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(ready_writer)
        with os.fdopen(ready, "rb") as answer:
            text = answer.read().decode()
        code = int(text.split(" ", 1)[0]) if text else 1
        if code:
            print(f"kvoshim controller: {text.partition(' ')[2] or 'it ended at once'}", file=sys.stderr)
            os.waitpid(pid, 0)
        return code
    os.close(ready)
    os.setsid()
    code = 1
    try:
        code = _serve(path, idle, args.retain, ready_writer)
    finally:
        os._exit(code)


def _serve(path: str, idle: float, retain: float, ready: int | None) -> int:
    from kvoshim.errors import ControllerUnavailableError
    from kvoshim.kvo.controller.catalog import Limits
    from kvoshim.kvo.controller.loop import AlreadyRunningError, Controller

    try:
        controller = Controller(path, Limits(retain_s=retain), idle)
    except ControllerUnavailableError as error:
        code = 3 if isinstance(error, AlreadyRunningError) else 1
        if ready is None:
            print(f"kvoshim controller: {error}", file=sys.stderr)
        else:
            os.write(ready, f"{code} {error}".encode())
        return code
    _log_to(foreground=ready is None)
    if ready is not None:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        os.write(ready, b"0")
        os.close(ready)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    else:
        print(f"kvoshim controller: serving {path}", file=sys.stderr, flush=True)
    controller.run()
    return 0


def _log_to(foreground: bool) -> None:
    """KVOSHIM_LOG_FILE names the log, KVOSHIM_LOG its level; without a file a controller in the foreground
    logs to standard error, one in the background nowhere."""
    level = _LEVELS.get(os.environ.get("KVOSHIM_LOG", "").lower(), logging.INFO)
    file = os.environ.get("KVOSHIM_LOG_FILE", "")
    file = "" if file in ("-", "stderr") else file
    handler: logging.Handler
    try:
        handler = (
            logging.FileHandler(file)
            if file
            else logging.StreamHandler()
            if foreground
            else logging.NullHandler()
        )
    except OSError as error:
        print(f"kvoshim controller: no log: {error}", file=sys.stderr)
        handler = logging.StreamHandler() if foreground else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s"))
    logging.getLogger("kvoshim").addHandler(handler)
    logging.getLogger("kvoshim").setLevel(level)
