"""From layers to what they mean together.

What an instance is, path by path ("groups/config/port", "methods/start"): what the highest layer of the instance says, else what the
highest layer of its service says. A mask takes away what is below it: the lower layers of its own level and, on an instance, all of
the service's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from kvoshim.errors import UnknownServiceError
from kvoshim.services.core.model import (
    GENERAL,
    LAYERS,
    OVERRIDE,
    RUNNING,
    Definition,
    Instance,
    Layers,
    Service,
    Snapshot,
    View,
)  # fmt: skip

SECTIONS = ("groups", "dependencies", "methods", "templates")


class Said(msgspec.Struct, frozen=True):
    """What is said under one path. where: "service" or "instance". layer: a key of its layers."""

    value: Any
    where: str
    layer: str


def paths_of(definition: Definition) -> Iterator[tuple[str, Any]]:
    """Each path that a definition says something of, and what."""
    for group, properties in definition.groups.items():
        for name, value in properties.items():
            yield f"groups/{group}/{name}", value
    for section in SECTIONS[1:]:
        for name, value in getattr(definition, section).items():
            yield f"{section}/{name}", value


def flatten(service: Layers, instance: Layers) -> tuple[dict[str, Said], tuple[str, ...]]:
    """What is said under each path, and the conflicts: what two sources of the deciding layer say differently."""
    said: dict[str, Said] = {}
    conflicts: dict[str, str] = {}
    for where, layers in (("service", service), ("instance", instance)):
        for layer in LAYERS:
            sources = sorted(key for key in layers if key == layer or key.startswith(f"{layer}/"))
            for source in sources:
                for mask in layers[source].masked:
                    _take_away(mask, said, conflicts)
            fresh: dict[str, Said] = {}
            for source in sources:
                for path, value in paths_of(layers[source]):
                    other = fresh.get(path)
                    if other is None:
                        conflicts.pop(path, None)
                        fresh[path] = Said(value, where, source)
                    elif other.value != value or type(other.value) is not type(value):
                        conflicts[path] = f"{path}: {other.layer} and {source} of the {where} differ"
            said.update(fresh)
    return said, tuple(conflicts[path] for path in sorted(conflicts))


def _take_away(mask: str, said: dict[str, Said], conflicts: dict[str, str]) -> None:
    for known in [path for path in said if path == mask or path.startswith(f"{mask}/")]:
        del said[known]
        conflicts.pop(known, None)


def compose(service: Layers, instance: Layers) -> View:
    """The view of an instance with these layers."""
    said, conflicts = flatten(service, instance)
    parts: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for path, one in said.items():
        section, name, *rest = path.split("/")
        if rest:
            parts[section].setdefault(name, {})[rest[0]] = one.value
        else:
            parts[section][name] = one.value
    return View(description=_description(service, instance), conflicts=conflicts, **parts)


def _description(service: Layers, instance: Layers) -> str:
    for layers in (instance, service):
        for layer in reversed(LAYERS):
            for key in sorted(layers):
                if (key == layer or key.startswith(f"{layer}/")) and layers[key].description:
                    return layers[key].description
    return ""


def edited(service: Service, instance: Instance) -> View:
    """What the instance's configuration is as edited: in force after its next refresh."""
    return compose(service.layers, instance.layers)


def of_snapshot(snapshot: Snapshot) -> View:
    return compose(snapshot.service, snapshot.instance)


def running(instance: Instance) -> View | None:
    """The configuration in force; None for an instance that was never refreshed."""
    snapshot = instance.snapshots.get(RUNNING)
    return None if snapshot is None else of_snapshot(snapshot)


def snapshot_of(instance: Instance, name: str) -> Snapshot:
    """UnknownServiceError, with the snapshots that there are."""
    try:
        return instance.snapshots[name]
    except KeyError:
        known = ", ".join(sorted(instance.snapshots)) or "none"
        raise UnknownServiceError(f"there is no snapshot {name!r} (there are: {known})") from None


def is_refreshed(service: Service, instance: Instance) -> bool:
    """Whether the configuration in force is the edited one."""
    snapshot = instance.snapshots.get(RUNNING)
    return snapshot is not None and snapshot.service == service.layers and snapshot.instance == instance.layers


def enabled(service: Service, instance: Instance) -> bool:
    """Whether the instance is to run: by the temporary override if there is one, else by general/enabled as edited."""
    override = instance.volatile.get(OVERRIDE, {}).get("enabled")
    if override is not None:
        return override is True
    said = flatten(service.layers, instance.layers)[0].get(f"groups/{GENERAL}/enabled")
    return said is not None and said.value is True


def difference(old: View, new: View) -> dict[str, tuple[Any, Any]]:
    """Path -> (before, after) of what two views say differently; None where one says nothing."""
    before, after = (
        dict(paths_of(Definition(groups=v.groups, dependencies=v.dependencies, methods=v.methods, templates=v.templates)))
        for v in (old, new)
    )
    return {
        path: (before.get(path), after.get(path))
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path) or type(before.get(path)) is not type(after.get(path))
    }
