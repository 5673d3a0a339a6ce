"""What a daemon's section of a configuration may hold, and the way from a document to it.

A daemon names its model: a subclass of Configuration, whose fields are the section's keys (`retain_s` is written
"retain-s"). Unknown keys and values of the wrong type are errors that name file, line and column.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Literal, TypeVar

import msgspec

from kvoshim.errors import ConfigurationError
from kvoshim.process.jsontext import Document, Path


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A JSON object of a configuration; base of every part of a model."""


class Access(Section, frozen=True, kw_only=True):
    """Gives callers of the control channel a role. user, group: name or number; user "*" is everybody."""

    role: Literal["read", "write"]
    user: str | int | None = None
    group: str | int | None = None

    def __post_init__(self) -> None:
        if (self.user is None) == (self.group is None):
            raise ValueError("one of user and group is to be given")


class ControlSocket(Section, frozen=True, kw_only=True):
    """Where the control channel is, who may use it, and how much of it. The daemon's own user and root may
    always write."""

    path: str = ""  # default: in the user's own directory
    access: tuple[Access, ...] = ()
    clients: int = msgspec.field(default=64)  # connections at a time; callers that may only read get half of them
    timeout_s: float = 10.0  # for a command to arrive whole, and for an answer to be taken
    command_bytes: int = 1 << 20  # of one command; callers that may only read have a sixteenth

    def __post_init__(self) -> None:
        if not 2 <= self.clients <= 4096:
            raise ValueError("clients is a number from 2 to 4096")
        if not 0.01 <= self.timeout_s <= 3600:
            raise ValueError("timeout-s is a number from 0.01 to 3600")
        if not 4096 <= self.command_bytes <= 1 << 26:
            raise ValueError("command-bytes is a number from 4096 to 67108864")


class Logging(Section, frozen=True, kw_only=True):
    """Where the log goes. file: "stderr", or a path, which is opened again when it has been moved away."""

    level: Literal["", "debug", "info", "warning", "error"] = ""  # default: KVOSHIM_LOG, else info
    file: str = ""  # default: KVOSHIM_LOG_FILE, else stderr in the foreground and nowhere in the background


class Configuration(Section, frozen=True, kw_only=True):
    """What every daemon's section may hold. user_context: anything, for whoever writes the file."""

    control_socket: ControlSocket = ControlSocket()
    logging: Logging = Logging()
    statistic_samples: int = 20  # kept of each statistic
    user_context: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if not 1 <= self.statistic_samples <= 1000:
            raise ValueError("statistic-samples is a number from 1 to 1000")


Model = TypeVar("Model", bound=Configuration)


def section_of(document: Document, module: str) -> dict[str, object]:
    """The module's section. ConfigurationError if there is none."""
    if not isinstance(document.value, dict):
        raise ConfigurationError(f'a configuration is an object: {{"{module}": {{…}}}}', document.where(()))
    section = document.value.get(module)
    if module not in document.value:
        raise ConfigurationError(f"there is no section {module!r}", document.where(()))
    if not isinstance(section, dict):
        raise ConfigurationError(f"the section {module!r} is no object", document.where((module,)))
    return section


def convert(document: Document, module: str, model: type[Model]) -> Model:
    """The module's settings. ConfigurationError with the place of what does not fit the model."""
    section = section_of(document, module)
    try:
        return msgspec.convert(section, model)
    except msgspec.ValidationError as error:
        problem, path = _split(str(error))
        raise ConfigurationError(problem, document.where((module, *path))) from None


_AT = re.compile(r"^(.*?)(?: - at `\$((?:[^`])*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[\.\.\.\]")
_FIELD = re.compile(r"unknown field `(.*)`$")


def _split(message: str) -> tuple[str, Path]:
    """msgspec's message and the path that it names; an unknown field's name belongs to the path."""
    problem, at = _AT.match(message).groups()
    path: list[str | int] = []
    for name, index in _STEP.findall(at or ""):
        if not name and not index:
            break  # a key of a dict, which msgspec does not name
        path.append(int(index) if index else name)
    if field := _FIELD.search(problem):
        path.append(field[1])
    shown = "/".join(str(step) for step in path)
    return f"{shown}: {problem}" if shown else problem, tuple(path)


def plain(settings: msgspec.Struct) -> dict[str, Any]:
    """The settings as JSON values, defaults included."""
    return msgspec.to_builtins(settings, str_keys=True)


def hash_of(section: dict[str, Any]) -> str:
    """SHA-256 of a section in one fixed order: equal settings have equal hashes, however they were written."""
    return hashlib.sha256(json.dumps(section, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
