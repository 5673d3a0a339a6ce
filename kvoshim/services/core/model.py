"""The values that a repository of services is made of. Nothing here is ever changed: an operation makes new values (transacting.py).

    Repository
      services {"web/nginx": Service}
        layers {"manifest": Definition, "profile/site": Definition, "admin": Definition}     what is configured, by who says it
        instances {"default": Instance}
          layers                                             the same, for this instance only; wins over its service's
          snapshots {"running": Snapshot, ...}               layers of both as they were; "running" is what is in force
          volatile {"restarter": {"state": "online"}}        groups that are not kept over a boot, in force at once

An instance is named "service:instance"; "service" alone means its instance "default" where an instance is asked for.

The dicts in these values are shared between revisions of the repository, and must not be changed in place.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from kvoshim.errors import InvalidServiceError

# A property's type is its value's: bool, int (64 bits), float (finite), str, list (of str), map (str to str).
Value = bool | int | float | str | tuple[str, ...] | dict[str, str]
Kind = Literal["bool", "int", "float", "str", "list", "map"]
Group = dict[str, Value]

LayerName = Literal["manifest", "profile", "admin"]
LAYERS: tuple[LayerName, ...] = ("manifest", "profile", "admin")  # the later wins

Grouping = Literal["require-all", "require-any", "optional-all", "exclude-all"]
RestartOn = Literal["none", "error", "restart", "refresh"]  # each restarts for what those before it do, too

# Snapshots that the system itself takes; people may take others.
INITIAL, PREVIOUS, RUNNING, START, LAST_GOOD = "initial", "previous", "running", "start", "last-good"
SYSTEM_SNAPSHOTS = (INITIAL, PREVIOUS, RUNNING, START, LAST_GOOD)

GENERAL = "general"  # the group with "enabled": bool, which takes effect at once, without a refresh
OVERRIDE = "override"  # the volatile group with "enabled": until the next boot
RESTARTER = "restarter"  # the volatile group in which the restarter reports

DEFAULT = "default"
NAME_MAX = 200  # bytes: a service's name is a file's as well

_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(?:/[A-Za-z0-9][A-Za-z0-9_.-]*)*")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename="kebab"):
    """Base of the values below: in JSON, a field `restart_on` is "restart-on" and a field with its default is left out."""


class Dependency(Part, frozen=True):
    """What a service waits for. targets: "service", "service:instance" or "file:/absolute/path". restart_on: which ends of a target
    restart the dependent."""

    grouping: Grouping
    targets: tuple[str, ...]
    restart_on: RestartOn = "none"


class Method(Part, frozen=True):
    """A program that is run for a service: "start", "stop", "refresh", "check", or a hook. exec: its arguments, the first one the
    program; (":kill", "SIGTERM") sends a signal instead. timeout_s: 0 is no limit. user, group: "" is the restarter's own. umask: -1
    is the restarter's own. limits: of setrlimit, {"nofile": "1024:4096"} or {"core": "unlimited"}."""

    exec: tuple[str, ...]
    timeout_s: float = 60.0
    env: dict[str, str] = {}
    directory: str = ""
    user: str = ""
    group: str = ""
    umask: int = -1
    limits: dict[str, str] = {}


class PropertyTemplate(Part, frozen=True):
    """What a property may be. default: what it is where nobody says. minimum, maximum: of a number, or of the length of a str, list or
    map. choices: of a str, or of each str in a list."""

    type: Kind
    required: bool = False
    default: Value | None = None
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    description: str = ""


class Template(Part, frozen=True):
    """What a group may hold. open: other properties than these as well."""

    properties: dict[str, PropertyTemplate] = {}
    required: bool = False
    open: bool = False
    description: str = ""


class Definition(Part, frozen=True):
    """What one layer says of a service or instance. masked: what lower layers say and this one takes away: "groups/config",
    "groups/config/port", "methods/refresh", "dependencies/database"."""

    description: str = ""
    groups: dict[str, Group] = {}
    dependencies: dict[str, Dependency] = {}
    methods: dict[str, Method] = {}
    templates: dict[str, Template] = {}
    masked: tuple[str, ...] = ()


# By layer, or by "layer/source" where several files speak in one layer.
Layers = dict[str, Definition]


class Snapshot(Part, frozen=True):
    """The layers of an instance and its service at one moment. revision: the repository's. taken: Unix time in seconds."""

    revision: int
    taken: float
    service: Layers = {}
    instance: Layers = {}


class Instance(Part, frozen=True):
    """revision: the repository's at the latest change of it that is kept."""

    revision: int = 0
    layers: Layers = {}
    snapshots: dict[str, Snapshot] = {}
    volatile: dict[str, Group] = {}


class Service(Part, frozen=True):
    """revision: the repository's at the latest change of its own layers, or of its instances' being there."""

    revision: int = 0
    layers: Layers = {}
    instances: dict[str, Instance] = {}


class Repository(Part, frozen=True):
    """revision: counts transactions that change what is kept. pulse: counts all, also those of volatile groups only."""

    revision: int = 0
    pulse: int = 0
    services: dict[str, Service] = {}


class View(Part, frozen=True):
    """An instance's configuration composed of all layers (composing.py). conflicts: what two sources of one layer say differently."""

    description: str = ""
    groups: dict[str, Group] = {}
    dependencies: dict[str, Dependency] = {}
    methods: dict[str, Method] = {}
    templates: dict[str, Template] = {}
    conflicts: tuple[str, ...] = ()

    def get(self, group: str, name: str, default: Value | None = None) -> Value | None:
        """A property; where nobody says, what its template says, else `default`."""
        value = self.groups.get(group, {}).get(name)
        if value is None:
            template = self.templates.get(group)
            known = template.properties.get(name) if template else None
            value = known.default if known else None
        return default if value is None else value


def split(name: str) -> tuple[str, str]:
    """("web/nginx", "default") of "web/nginx:default"; the instance is "" if none is named. InvalidServiceError."""
    service, colon, instance = name.partition(":")
    check_service_name(service)
    if colon:
        check_name(instance, "an instance")
    return service, instance


def full_name(service: str, instance: str) -> str:
    return f"{service}:{instance}"


def check_service_name(name: str) -> str:
    """InvalidServiceError if no service may be called so."""
    if not _SERVICE.fullmatch(name) or len(name) > NAME_MAX:
        raise InvalidServiceError(
            f"{name[:NAME_MAX]!r} is no name of a service: words of letters, digits and _.- behind a letter or digit, with / between "
            f"them, {NAME_MAX} bytes at most"
        )
    return name


def check_name(name: str, what: str) -> str:
    """InvalidServiceError if no instance, group, property, snapshot or source (what: which, with its article) may be called so."""
    if not _NAME.fullmatch(name) or len(name) > NAME_MAX:
        raise InvalidServiceError(f"{name[:NAME_MAX]!r} is no name of {what}: letters, digits and _.-, {NAME_MAX} bytes at most")
    return name


def kind_of(value: object) -> Kind:
    """A value's type. InvalidServiceError if no property can have it."""
    match value:
        case bool():
            return "bool"
        case int() if -(1 << 63) <= value < 1 << 63:
            return "int"
        case float() if value - value == 0.0:  # neither infinite nor NaN
            return "float"
        case str():
            return "str"
        case tuple() if all(isinstance(one, str) for one in value):
            return "list"
        case dict() if all(isinstance(one, str) for pair in value.items() for one in pair):
            return "map"
    raise InvalidServiceError(
        f"{str(value)[:100]!r} is no value of a property: bool, int of 64 bits, finite float, str, list of str or map of str to str"
    )
