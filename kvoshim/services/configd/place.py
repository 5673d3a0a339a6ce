"""Where a repository is: its directory, its socket, and what is not kept over a boot."""

from __future__ import annotations

import os

from kvoshim.directories import private_directory, private_path
from kvoshim.errors import ConfigurationError, DirectoryError


def default_directory() -> str:
    """The user's own, below XDG_STATE_HOME or ~/.local/state."""
    state = os.environ.get("XDG_STATE_HOME", "") or os.path.expanduser("~/.local/state")
    return os.path.abspath(os.path.join(state, "kvoshim", "services"))


def repository_directory(chosen: str | os.PathLike[str] = "") -> str:
    """`chosen`, else KVOSHIM_SERVICES, else the user's own."""
    return os.path.abspath(os.fspath(chosen) or os.environ.get("KVOSHIM_SERVICES", "") or default_directory())


def beside(directory: str, name: str) -> str:
    """A socket of the repository in this directory: in the directory; for the user's own repository, and where the directory cannot be
    written, in the user's directory for sockets. ConfigurationError."""
    if directory == default_directory():
        return os.path.join(private_path(), name)
    path = os.path.join(directory, name)
    if os.path.isdir(directory) and not os.path.exists(path) and not os.access(directory, os.W_OK):
        return os.path.join(volatile_directory(directory), name)
    return path


def socket_path(directory: str) -> str:
    """Where the configd of this directory listens."""
    return beside(directory, "configd.sock")


def volatile_directory(directory: str) -> str:
    """Where its journal of what is not kept over a boot lies: one for each repository. ConfigurationError."""
    try:
        return os.path.join(private_directory(), "services", directory.strip("/").replace("/", "+")[-200:])
    except DirectoryError as error:
        raise ConfigurationError(str(error)) from None


def boot() -> str:
    """Which boot this is: of the machine and, in a container, of its first process."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        machine = file.read().strip()
    try:
        with open("/proc/1/stat", "rb") as stat:
            return f"{machine}-{int(stat.read().rpartition(b')')[2].split()[19])}"
    except (OSError, IndexError, ValueError):
        return machine
