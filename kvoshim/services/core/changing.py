"""Small steps from one value to the next, of which transacting.py is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec.structs import replace

from kvoshim.errors import InvalidServiceError, UnknownServiceError
from kvoshim.services.core import composing
from kvoshim.services.core.model import Definition, Instance, Repository, Service, Snapshot, Value, split


class Moment(NamedTuple):
    """revision: that the transaction will have. taken: Unix time in seconds."""

    revision: int
    taken: float


# --- finding ---------------------------------------------


def service_of(repository: Repository, name: str) -> Service:
    """UnknownServiceError."""
    split(name)
    try:
        return repository.services[name]
    except KeyError:
        raise UnknownServiceError(f"there is no service {name!r}") from None


def instance_of(repository: Repository, target: str) -> Instance:
    """UnknownServiceError; InvalidServiceError if the target names a service only."""
    name, instance = split(target)
    service = service_of(repository, name)
    if not instance:
        raise InvalidServiceError(f"{target!r} names a service; an instance is {', '.join(known(name, service)) or target + ':NAME'}")
    try:
        return service.instances[instance]
    except KeyError:
        there = ", ".join(known(name, service)) or "none"
        raise UnknownServiceError(f"there is no instance {target!r} (there are: {there})") from None


def known(name: str, service: Service) -> list[str]:
    return [f"{name}:{instance}" for instance in sorted(service.instances)]


def revision_of(repository: Repository, target: str) -> int:
    """0: there is no such service or instance."""
    name, instance = split(target)
    service = repository.services.get(name)
    found = service.instances.get(instance) if service is not None and instance else service
    return 0 if found is None else found.revision


def snapshot_of(instance: Instance, target: str, name: str) -> Snapshot:
    """UnknownServiceError."""
    try:
        return composing.snapshot_of(instance, name)
    except UnknownServiceError as error:
        raise UnknownServiceError(f"{target}: {error}") from None


# --- putting in place ---------------------------------------------


def with_service(repository: Repository, name: str, service: Service) -> Repository:
    return replace(repository, services={**repository.services, name: service})


def with_instance(service: Service, name: str, instance: Instance) -> Service:
    """The service's own revision rises only when an instance comes."""
    changes: dict[str, Any] = {"instances": {**service.instances, name: instance}}
    if name not in service.instances:
        changes["revision"] = max(service.revision, instance.revision)
    return replace(service, **changes)


def with_instance_of(repository: Repository, target: str, instance: Instance) -> Repository:
    name, short = split(target)
    return with_service(repository, name, with_instance(repository.services[name], short, instance))


def with_layer(level: Any, layer: str, definition: Definition, moment: Moment) -> Any:
    """A service or instance whose layer is this; an empty one is not kept. The same value if nothing changes."""
    layers = {name: one for name, one in level.layers.items() if name != layer}
    if definition != Definition():
        layers[layer] = definition
    return level if layers == level.layers else replace(level, layers=layers, revision=moment.revision)


def edit(repository: Repository, target: str, layer: str, change: Callable[[Definition], Definition], moment: Moment) -> Repository:
    """Changes what a layer says of a service or instance. UnknownServiceError if there is none."""
    name, instance = split(target)
    level = instance_of(repository, target) if instance else service_of(repository, name)
    level = with_layer(level, layer, change(level.layers.get(layer, Definition())), moment)
    return with_instance_of(repository, target, level) if instance else with_service(repository, name, level)


def snapshot(service: Service, instance: Instance, moment: Moment) -> Snapshot:
    return Snapshot(revision=moment.revision, taken=moment.taken, service=service.layers, instance=instance.layers)


# --- one layer's definition ---------------------------------------------


def with_property(was: Definition, group: str, name: str, value: Value) -> Definition:
    return replace(was, groups={**was.groups, group: {**was.groups.get(group, {}), name: value}})


def with_part(was: Definition, section: str, name: str, value: Any) -> Definition:
    return replace(was, **{section: {**getattr(was, section), name: value}})


def without(was: Definition, path: str, layer: str) -> Definition:
    """UnknownServiceError if the layer says nothing under the path."""
    section, name, *rest = path.split("/")
    parts = dict(getattr(was, section))
    if name not in parts or rest and rest[0] not in parts[name]:
        raise UnknownServiceError(f"the layer {layer!r} says nothing of {path!r}")
    if rest:
        parts[name] = {key: value for key, value in parts[name].items() if key != rest[0]}
        if not parts[name]:
            del parts[name]
    else:
        del parts[name]
    return replace(was, **{section: parts})


def with_mask(was: Definition, path: str) -> Definition:
    return was if path in was.masked else replace(was, masked=tuple(sorted((*was.masked, path))))


def without_mask(was: Definition, path: str, layer: str) -> Definition:
    """UnknownServiceError if there is no such mask."""
    if path not in was.masked:
        raise UnknownServiceError(f"the layer {layer!r} does not mask {path!r}")
    return replace(was, masked=tuple(one for one in was.masked if one != path))
