"""The directory for the sockets of a user's daemons."""

from __future__ import annotations

import os
import stat

from kvoshim.errors import DirectoryError


def private_path() -> str:
    """$XDG_RUNTIME_DIR/kvoshim if that is there, else /tmp/kvoshim-UID."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return os.path.join(runtime, "kvoshim") if os.path.isdir(runtime) else f"/tmp/kvoshim-{os.geteuid()}"


def private_directory() -> str:
    """The same, made with mode 0700. DirectoryError if it cannot be made or is not the user's alone."""
    directory = private_path()
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise DirectoryError(f"the directory for sockets cannot be made: {error}") from None
    facts = os.lstat(directory)
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise DirectoryError(
            f"{directory} is not a directory of yours alone (owner {facts.st_uid}, mode {facts.st_mode & 0o7777:o}); "
            "remove it, or name a socket's path elsewhere"
        )
    return directory
