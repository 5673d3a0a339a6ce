"""Where the controller is: one per user, unless KVOSHIM_CONTROLLER names a socket."""

from __future__ import annotations

import os

from kvoshim.directories import private_directory
from kvoshim.errors import ControllerUnavailableError, DirectoryError

_PATH_MAX = 107 - len(".standby.lock")  # bytes of a Unix socket's path, with room for our suffixes


def controller_path(path: str | os.PathLike[str] | None = None) -> str:
    """The path of the controller's socket: `path`, else KVOSHIM_CONTROLLER, else the user's own.

    The user's own lies in $XDG_RUNTIME_DIR/kvoshim or /tmp/kvoshim-UID, which is made with mode 0700 and must
    belong to the user. ControllerUnavailableError if it does not, or if the path is longer than a socket's
    may be.
    """
    chosen = os.fspath(path) if path is not None else os.environ.get("KVOSHIM_CONTROLLER", "")
    if not chosen:
        try:
            chosen = os.path.join(private_directory(), "controller.sock")
        except DirectoryError as error:
            raise ControllerUnavailableError(f"{error}; or set KVOSHIM_CONTROLLER") from None
    chosen = os.path.abspath(chosen)
    if len(os.fsencode(chosen)) > _PATH_MAX:
        raise ControllerUnavailableError(
            f"the controller's path {chosen!r} is longer than {_PATH_MAX} bytes; "
            "set KVOSHIM_CONTROLLER to a shorter one"
        )
    return chosen


def channel_path(path: str) -> str:
    """The descriptor channel's socket."""
    return path + ".fds"


def control_path(path: str) -> str:
    """The control channel's socket."""
    return path + ".ctl"


def life_lock(path: str) -> str:
    """The PID file: locked by the controller as long as it lives."""
    return path + ".lock"


def term_path(path: str) -> str:
    """Which controller is the one: see term.py."""
    return path + ".term"


def standby_path(path: str) -> str:
    """Where a controller in waiting has its own control channel and PID file, while it waits."""
    return path + ".standby"


def start_lock(path: str) -> str:
    """Locked by the client that is starting a controller."""
    return path + ".start"
