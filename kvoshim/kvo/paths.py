"""Where the controller is: one per user, unless KVOSHIM_CONTROLLER names a socket."""

from __future__ import annotations

import os
import stat

from kvoshim.errors import ControllerUnavailableError

_PATH_MAX = 107 - len(".start")  # bytes of a Unix socket's path, with room for our suffixes


def controller_path(path: str | os.PathLike[str] | None = None) -> str:
    """The path of the controller's socket: `path`, else KVOSHIM_CONTROLLER, else the user's own.

    The user's own lies in $XDG_RUNTIME_DIR/kvoshim or /tmp/kvoshim-UID, which is made with mode 0700 and must
    belong to the user. ControllerUnavailableError if it does not, or if the path is longer than a socket's
    may be.
    """
    chosen = os.fspath(path) if path is not None else os.environ.get("KVOSHIM_CONTROLLER", "")
    if not chosen:
        chosen = os.path.join(_private_directory(), "controller.sock")
    chosen = os.path.abspath(chosen)
    if len(os.fsencode(chosen)) > _PATH_MAX:
        raise ControllerUnavailableError(
            f"the controller's path {chosen!r} is longer than {_PATH_MAX} bytes; "
            "set KVOSHIM_CONTROLLER to a shorter one"
        )
    return chosen


def _private_directory() -> str:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    directory = os.path.join(runtime, "kvoshim") if os.path.isdir(runtime) else f"/tmp/kvoshim-{os.geteuid()}"
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise ControllerUnavailableError(f"the controller's directory cannot be made: {error}") from None
    facts = os.lstat(directory)
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise ControllerUnavailableError(
            f"{directory} is not a directory of yours alone (owner {facts.st_uid}, "
            f"mode {facts.st_mode & 0o7777:o}); "
            "remove it, or set KVOSHIM_CONTROLLER to a socket's path elsewhere"
        )
    return directory


def channel_path(path: str) -> str:
    """The descriptor channel's socket."""
    return path + ".fds"


def life_lock(path: str) -> str:
    """Locked by the controller as long as it lives."""
    return path + ".lock"


def start_lock(path: str) -> str:
    """Locked by the client that is starting a controller."""
    return path + ".start"
