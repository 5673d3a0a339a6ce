"""The spawner's program: where it is, its command line, its exit codes."""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Iterable, Sequence

PROGRAM = "kvoshim-spawner"
SOCKET_PATH_MAX = 100  # bytes

#: Exit codes of its own. One that ended as its controller asked has the code that finish() named; one that ended by a signal, without
#: a controller that finished in time, has 128 + the signal's number.
EXIT_MEANINGS = {
    1: "it could not begin",
    2: "wrong usage",
    3: "another one runs at this socket",
    7: "signals cannot be taken",
    8: "the socket cannot be bound",
}


def program_path() -> str:
    """Absolute path of the program. FileNotFoundError: the installation is incomplete."""
    path = str(importlib.resources.files("kvoshim") / PROGRAM)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is missing: install kvoshim again (scripts/setup, or pip install kvoshim)")
    return path


def command(
    socket: str, daemons: Iterable[Sequence[str]] = (), grace_s: float = 30.0, term_s: float = 5.0, ok: Iterable[int] = ()
) -> list[str]:
    """The command line of a spawner that listens at this path.

    daemons: command lines of the programs that it starts and keeps alive, the program as a path; it knows them apart by nothing, and
    the last one is, in general, its controller. grace_s: how long the controller has, from a signal on, to stop the services in
    order. term_s: how long what is left then has from SIGTERM to SIGKILL. ok: exit codes that become 0.
    """
    words = [program_path(), "--socket", socket, "--grace-ms", str(round(grace_s * 1000)), "--term-ms", str(round(term_s * 1000))]
    for code in ok:
        words += ["--ok", str(code)]
    for daemon in daemons:
        if "--daemon" in daemon:
            raise ValueError("--daemon cannot be an argument of a daemon")
        words += ["--daemon", *daemon]
    return words
