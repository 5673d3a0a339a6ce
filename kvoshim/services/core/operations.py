"""What can be done to a repository, and what happens then, as values. transacting.py does it.

An operation's `target` is a service, or "service:instance". `layer` is "manifest", "profile" or "admin", or with a source
"profile/site".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from kvoshim.services.core.model import PREVIOUS, Definition, Dependency, Group, Method, Template, Value

OPERATIONS_MAX = 10_000  # of one transaction


class Operation(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename="kebab", tag_field="op"
):  # fmt: skip
    """Base of all operations; in JSON, "op" says which one it is."""


class Expect(Operation, frozen=True, tag="expect"):
    """Refuses the transaction unless the target has this revision; 0: unless there is no such target."""

    target: str
    revision: int


class Create(Operation, frozen=True, tag="create"):
    """Makes an empty service or instance; an instance's service is made with it if need be."""

    target: str


class Delete(Operation, frozen=True, tag="delete"):
    """Removes an instance, or a service with all of its instances."""

    target: str


class SetProperty(Operation, frozen=True, tag="set-property"):
    """Says what a property is."""

    target: str
    group: str
    name: str
    value: Value
    layer: str = "admin"


class PutMethod(Operation, frozen=True, tag="put-method"):
    target: str
    name: str
    method: Method
    layer: str = "admin"


class PutDependency(Operation, frozen=True, tag="put-dependency"):
    target: str
    name: str
    dependency: Dependency
    layer: str = "admin"


class PutTemplate(Operation, frozen=True, tag="put-template"):
    """Says what a group may hold."""

    target: str
    name: str
    template: Template
    layer: str = "admin"


class Remove(Operation, frozen=True, tag="remove"):
    """Takes back what a layer says under a path ("groups/config", "groups/config/port", "methods/start"): what is below it shows
    again."""

    target: str
    path: str
    layer: str = "admin"


class Mask(Operation, frozen=True, tag="mask"):
    """Hides what is below a layer under a path."""

    target: str
    path: str
    layer: str = "admin"


class Unmask(Operation, frozen=True, tag="unmask"):
    target: str
    path: str
    layer: str = "admin"


class Import(Operation, frozen=True, tag="import"):
    """Replaces all that a layer says of a service and of its instances; makes those that are missing. The first import of an
    instance is kept as its snapshot "initial" and put in force, a later one keeps what was before as "previous"."""

    service: str
    definition: Definition = Definition()
    instances: dict[str, Definition] = {}
    layer: str = "manifest"


class Withdraw(Operation, frozen=True, tag="withdraw"):
    """Takes back all that a layer says of a service and of its instances."""

    service: str
    layer: str


class Enable(Operation, frozen=True, tag="enable"):
    """Says whether an instance is to run, in force at once. temporary: until the next boot only; else an override ends."""

    target: str
    enabled: bool = True
    temporary: bool = False


class Report(Operation, frozen=True, tag="report"):
    """Sets properties of a volatile group, or with `replace` all of it. A group without properties is gone."""

    target: str
    properties: Group
    group: str = "restarter"
    replace: bool = False


class Refresh(Operation, frozen=True, tag="refresh"):
    """Puts the edited configuration in force. What was before is kept as "previous"."""

    target: str


class Take(Operation, frozen=True, tag="take"):
    """Keeps the configuration in force as a snapshot, or with `edited` the edited one."""

    target: str
    snapshot: str
    edited: bool = False


class DropSnapshot(Operation, frozen=True, tag="drop-snapshot"):
    target: str
    snapshot: str


class Revert(Operation, frozen=True, tag="revert"):
    """Makes the edited configuration, of the instance and of its service, what a snapshot holds. In force after a refresh."""

    target: str
    snapshot: str = PREVIOUS


AnyOperation = (
    Expect | Create | Delete | SetProperty | PutMethod | PutDependency | PutTemplate | Remove | Mask | Unmask | Import | Withdraw
    | Enable | Report | Refresh | Take | DropSnapshot | Revert
)  # fmt: skip


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has happened to a service or instance. detail: a path, group or snapshot."""

    kind: Literal["created", "deleted", "edited", "enabled", "disabled", "reported", "refreshed", "snapshot", "reverted"]
    target: str
    detail: str = ""


def keeps_nothing(operations: Iterable[AnyOperation]) -> bool:
    """Whether these change volatile groups only: they need no place in what is kept over a boot."""
    return all(isinstance(one, Report | Expect) or isinstance(one, Enable) and one.temporary for one in operations)
