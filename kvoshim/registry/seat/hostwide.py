"""The global file: what the administrator says of the registry of all users of a host.

    {"host": {"directory": "/run/kvoshim", "user": "root"}}

Everybody may read it, only the administrator write it. Its other sections are other parts'. Without the file, the defaults are in
force.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass

import msgspec

from kvoshim.errors import ConfigurationError

VARIABLE = "KVOSHIM_REGISTRY_CONFIG"
DEFAULT = "/etc/kvoshim/registry.json"


class HostSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """directory: where the registry is; it belongs to `user`, who alone may start it."""

    directory: str = "/run/kvoshim"
    user: str | int = 0

    def __post_init__(self) -> None:
        if not os.path.isabs(self.directory) or "\0" in self.directory:
            raise ValueError("directory is a whole path")


@dataclass(frozen=True)
class Hostwide:
    directory: str
    owner: int


def path() -> str:
    return os.environ.get(VARIABLE, "") or DEFAULT


def document() -> dict:
    """The global file's sections; {} without a file. ConfigurationError if it cannot be read or trusted."""
    place = path()
    try:
        facts = os.stat(place)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigurationError(f"{place} cannot be read: {error.strerror}") from None
    if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & 0o022:
        raise ConfigurationError(
            f"{place} is not to be trusted: it belongs to user {facts.st_uid}, mode {stat.S_IMODE(facts.st_mode):o}"
        )
    from kvoshim.process import jsontext  # the whole package comes along, for those who need it

    value = jsontext.read(place).value
    if not isinstance(value, dict):
        raise ConfigurationError(f"{place} holds no JSON object")
    return value


def settings() -> Hostwide:
    """ConfigurationError."""
    try:
        section = msgspec.convert(document().get("host", {}), HostSection)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path()}: host: {error}") from None
    if isinstance(section.user, int):
        return Hostwide(section.directory, section.user)
    try:
        return Hostwide(section.directory, pwd.getpwnam(section.user).pw_uid)
    except KeyError:
        raise ConfigurationError(f"{path()}: host: there is no user {section.user!r}") from None
