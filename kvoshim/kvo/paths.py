"""Where the controller is: one per user, unless a private registry gives its group one of its own, or KVOSHIM_CONTROLLER names a
socket."""

from __future__ import annotations

import os

from kvoshim.directories import private_directory
from kvoshim.errors import ControllerUnavailableError, DirectoryError, RegistryPlaceError

_NAME = "controller.sock"
_PATH_MAX = 107 - len(".standby.lock")  # bytes of a Unix socket's path, with room for our suffixes


def controller_path(path: str | os.PathLike[str] | None = None) -> str:
    """The path of the controller's socket: `path`, else KVOSHIM_CONTROLLER, else as own_place() says. ControllerUnavailableError."""
    return place(path)[0]


def place(path: str | os.PathLike[str] | None = None) -> tuple[str, str]:
    """The same, and the scope of the registry that the controller is to be found in; empty: its place was chosen."""
    chosen = os.fspath(path) if path is not None else os.environ.get("KVOSHIM_CONTROLLER", "")
    own, registry = (chosen, "") if chosen else own_place()
    return checked(own), registry


def own_place() -> tuple[str, str]:
    """Where the controller is that nobody has chosen a place for, and the scope of its registry.

    In a private registry's directory while that registry lives; else $XDG_RUNTIME_DIR/kvoshim or /tmp/kvoshim-UID, which is made with
    mode 0700 and must belong to the user. ControllerUnavailableError if it does not.
    """
    from kvoshim.registry import seat  # not for those who have chosen a place

    scope = seat.choose()
    try:
        if scope.private and scope.places()[0].holder():
            return os.path.join(scope.directory, _NAME), scope.text
    except RegistryPlaceError:
        pass  # as if it did not live
    try:
        return os.path.join(private_directory(), _NAME), "host" if scope.public else "user"
    except DirectoryError as error:
        raise ControllerUnavailableError(f"{error}; or set KVOSHIM_CONTROLLER") from None


def checked(path: str) -> str:
    """The whole path. ControllerUnavailableError if it is longer than a socket's may be."""
    path = os.path.abspath(path)
    if len(os.fsencode(path)) > _PATH_MAX:
        raise ControllerUnavailableError(
            f"the controller's path {path!r} is longer than {_PATH_MAX} bytes; "
            "set KVOSHIM_CONTROLLER to a shorter one"
        )
    return path


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
