"""Applying operations: pure functions from a repository to the next one.

    transact(repository, operations, taken=now, expected=revision) -> (repository, events), or an error and nothing has changed
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from kvoshim.errors import ConflictError, InvalidServiceError, KvoshimError
from kvoshim.services.core import changing, validate
from kvoshim.services.core.changing import Moment
from kvoshim.services.core.model import (
    GENERAL,
    INITIAL,
    OVERRIDE,
    PREVIOUS,
    RUNNING,
    SYSTEM_SNAPSHOTS,
    Definition,
    Instance,
    Repository,
    Service,
    Snapshot,
    check_name,
    split,
)  # fmt: skip
from kvoshim.services.core.operations import (
    OPERATIONS_MAX,
    AnyOperation,
    Create,
    Delete,
    DropSnapshot,
    Enable,
    Event,
    Expect,
    Import,
    Mask,
    PutDependency,
    PutMethod,
    PutTemplate,
    Refresh,
    Remove,
    Report,
    Revert,
    SetProperty,
    Take,
    Unmask,
    Withdraw,
    keeps_nothing,
)  # fmt: skip

Outcome = tuple[Repository, list[Event]]


def transact(
    repository: Repository, operations: tuple[AnyOperation, ...], *, taken: float, expected: int | None = None
) -> tuple[Repository, tuple[Event, ...]]:
    """All of the operations, in their order. taken: Unix time in seconds. expected: the repository's revision.

    ConflictError, InvalidServiceError, UnknownServiceError: with the number of the operation, and nothing has changed."""
    if expected is not None and expected != repository.revision:
        raise ConflictError(f"the repository has revision {repository.revision}, not {expected}: read it again")
    if not 1 <= len(operations) <= OPERATIONS_MAX:
        raise InvalidServiceError(f"a transaction has 1 to {OPERATIONS_MAX} operations, not {len(operations)}")
    revision = repository.revision + (not keeps_nothing(operations))
    moment = Moment(revision, taken)
    result, events, touched = repository, [], {}
    for number, operation in enumerate(operations, 1):
        try:
            result, happened = _HANDLERS[type(operation)](result, operation, moment)
        except KvoshimError as error:
            place = f"operation {number} ({type(operation).__struct_config__.tag}): " if len(operations) > 1 else ""
            raise type(error)(f"{place}{error}") from None
        events += happened
        if not isinstance(operation, Report | Expect | Delete | Take | DropSnapshot):
            touched[getattr(operation, "target", None) or operation.service] = operation
    for target, operation in touched.items():
        validate.check_target(result, target, whole=isinstance(operation, Refresh | Import))
    return msgspec.structs.replace(result, revision=revision, pulse=repository.pulse + 1), tuple(events)


# --- what each does ---------------------------------------------


def _expect(repository: Repository, op: Expect, moment: Moment) -> Outcome:
    actual = changing.revision_of(repository, op.target)
    if actual != op.revision:
        state = f"has revision {actual}" if actual else "does not exist"
        wanted = f"revision {op.revision} was expected" if op.revision else "it was expected not to exist"
        raise ConflictError(f"{op.target} {state}, {wanted}")
    return repository, []


def _create(repository: Repository, op: Create, moment: Moment) -> Outcome:
    service, instance = split(op.target)
    if changing.revision_of(repository, op.target):
        raise ConflictError(f"{op.target} exists already")
    known = repository.services.get(service, Service(revision=moment.revision))
    if instance:
        known = changing.with_instance(known, instance, Instance(revision=moment.revision))
    return changing.with_service(repository, service, known), [Event(kind="created", target=op.target)]


def _delete(repository: Repository, op: Delete, moment: Moment) -> Outcome:
    service, instance = split(op.target)
    known = changing.service_of(repository, service)
    if not instance:
        services = dict(repository.services)
        del services[service]
        return msgspec.structs.replace(repository, services=services), [Event(kind="deleted", target=op.target)]
    changing.instance_of(repository, op.target)
    instances = dict(known.instances)
    del instances[instance]
    known = msgspec.structs.replace(known, instances=instances, revision=moment.revision)
    return changing.with_service(repository, service, known), [Event(kind="deleted", target=op.target)]


def _edit(repository: Repository, op: Any, moment: Moment, path: str, change: Callable[[Definition], Definition]) -> Outcome:
    validate.check_layer(op.layer)
    result = changing.edit(repository, op.target, op.layer, change, moment)
    return result, [Event(kind="edited", target=op.target, detail=path)]


def _set_property(repository: Repository, op: SetProperty, moment: Moment) -> Outcome:
    path = validate.check_path(f"groups/{op.group}/{op.name}")
    validate.check_value(op.value, path)
    return _edit(repository, op, moment, path, lambda was: changing.with_property(was, op.group, op.name, op.value))


def _put(section: str, field: str) -> Callable[[Repository, Any, Moment], Outcome]:
    def put(repository: Repository, op: Any, moment: Moment) -> Outcome:
        path = validate.check_path(f"{section}/{op.name}")
        value = getattr(op, field)
        validate.check_part(path, value)
        return _edit(repository, op, moment, path, lambda was: changing.with_part(was, section, op.name, value))

    return put


def _remove(repository: Repository, op: Remove, moment: Moment) -> Outcome:
    path = validate.check_path(op.path)
    return _edit(repository, op, moment, path, lambda was: changing.without(was, path, op.layer))


def _mask(repository: Repository, op: Mask, moment: Moment) -> Outcome:
    path = validate.check_path(op.path)
    return _edit(repository, op, moment, path, lambda was: changing.with_mask(was, path))


def _unmask(repository: Repository, op: Unmask, moment: Moment) -> Outcome:
    path = validate.check_path(op.path)
    return _edit(repository, op, moment, path, lambda was: changing.without_mask(was, path, op.layer))


def _import(repository: Repository, op: Import, moment: Moment) -> Outcome:
    validate.check_layer(op.layer)
    validate.check_definition(op.definition, op.service)
    for name, definition in op.instances.items():
        validate.check_definition(definition, f"{op.service}:{check_name(name, 'an instance')}")
    split(op.service)
    known = repository.services.get(op.service)
    service = known or Service(revision=moment.revision)
    before = service
    events = [] if known else [Event(kind="created", target=op.service)]
    service = changing.with_layer(service, op.layer, op.definition, moment)
    for name in {**service.instances, **op.instances}:
        old = service.instances.get(name)
        new = changing.with_layer(old or Instance(revision=moment.revision), op.layer, op.instances.get(name, Definition()), moment)
        snapshot = changing.snapshot(service, new, moment)
        snapshots = dict(new.snapshots)
        if old is None:
            events.append(Event(kind="created", target=f"{op.service}:{name}"))
        elif old.snapshots.get(INITIAL):
            snapshots[PREVIOUS] = changing.snapshot(before, old, moment)
        if INITIAL not in snapshots:
            snapshots |= {INITIAL: snapshot, RUNNING: snapshot}
            events.append(Event(kind="refreshed", target=f"{op.service}:{name}"))
        new = msgspec.structs.replace(new, snapshots=snapshots, revision=moment.revision)
        service = changing.with_instance(service, name, new)
    events.append(Event(kind="edited", target=op.service, detail=op.layer))
    return changing.with_service(repository, op.service, service), events


def _withdraw(repository: Repository, op: Withdraw, moment: Moment) -> Outcome:
    validate.check_layer(op.layer)
    service = changing.with_layer(changing.service_of(repository, op.service), op.layer, Definition(), moment)
    for name, instance in service.instances.items():
        service = changing.with_instance(service, name, changing.with_layer(instance, op.layer, Definition(), moment))
    return changing.with_service(repository, op.service, service), [Event(kind="edited", target=op.service, detail=op.layer)]


def _enable(repository: Repository, op: Enable, moment: Moment) -> Outcome:
    instance = changing.instance_of(repository, op.target)
    event = Event(kind="enabled" if op.enabled else "disabled", target=op.target, detail="temporary" if op.temporary else "")
    volatile = {name: group for name, group in instance.volatile.items() if name != OVERRIDE}
    if op.temporary:
        volatile[OVERRIDE] = {"enabled": op.enabled}
    repository = changing.with_instance_of(repository, op.target, msgspec.structs.replace(instance, volatile=volatile))
    if not op.temporary:
        repository = changing.edit(
            repository, op.target, "admin", lambda was: changing.with_property(was, GENERAL, "enabled", op.enabled), moment
        )
    return repository, [event]


def _report(repository: Repository, op: Report, moment: Moment) -> Outcome:
    instance = changing.instance_of(repository, op.target)
    check_name(op.group, "a group")
    for name, value in op.properties.items():
        validate.check_value(value, validate.check_path(f"groups/{op.group}/{name}"))
    group = op.properties if op.replace else {**instance.volatile.get(op.group, {}), **op.properties}
    volatile = {name: was for name, was in instance.volatile.items() if name != op.group}
    if group:
        volatile[op.group] = group
    repository = changing.with_instance_of(repository, op.target, msgspec.structs.replace(instance, volatile=volatile))
    return repository, [Event(kind="reported", target=op.target, detail=op.group)]


def _kept(repository: Repository, target: str, instance: Instance, snapshots: dict[str, Snapshot], moment: Moment) -> Repository:
    changed = msgspec.structs.replace(instance, snapshots={**instance.snapshots, **snapshots}, revision=moment.revision)
    return changing.with_instance_of(repository, target, changed)


def _refresh(repository: Repository, op: Refresh, moment: Moment) -> Outcome:
    instance = changing.instance_of(repository, op.target)
    service = changing.service_of(repository, split(op.target)[0])
    snapshots = {RUNNING: changing.snapshot(service, instance, moment)}
    before = instance.snapshots.get(RUNNING)
    if before is not None and (before.service, before.instance) != (service.layers, instance.layers):
        snapshots[PREVIOUS] = before
    return _kept(repository, op.target, instance, snapshots, moment), [Event(kind="refreshed", target=op.target)]


def _take(repository: Repository, op: Take, moment: Moment) -> Outcome:
    instance = changing.instance_of(repository, op.target)
    if check_name(op.snapshot, "a snapshot") == RUNNING:
        raise InvalidServiceError("the snapshot 'running' is what is in force: refresh takes it")
    if op.edited:
        snapshot = changing.snapshot(changing.service_of(repository, split(op.target)[0]), instance, moment)
    else:
        snapshot = changing.snapshot_of(instance, op.target, RUNNING)
    return (
        _kept(repository, op.target, instance, {op.snapshot: snapshot}, moment),
        [Event(kind="snapshot", target=op.target, detail=op.snapshot)],
    )


def _drop_snapshot(repository: Repository, op: DropSnapshot, moment: Moment) -> Outcome:
    instance = changing.instance_of(repository, op.target)
    if op.snapshot in SYSTEM_SNAPSHOTS:
        raise InvalidServiceError(f"the snapshot {op.snapshot!r} is the system's own and stays")
    changing.snapshot_of(instance, op.target, op.snapshot)
    snapshots = {name: one for name, one in instance.snapshots.items() if name != op.snapshot}
    changed = msgspec.structs.replace(instance, snapshots=snapshots, revision=moment.revision)
    return changing.with_instance_of(repository, op.target, changed), [Event(kind="snapshot", target=op.target, detail=op.snapshot)]


def _revert(repository: Repository, op: Revert, moment: Moment) -> Outcome:
    name, _ = split(op.target)
    instance = changing.instance_of(repository, op.target)
    snapshot = changing.snapshot_of(instance, op.target, op.snapshot)
    # Whether it is to run is no part of what was known good.
    enabled = instance.layers.get("admin", Definition()).groups.get(GENERAL)
    admin = snapshot.instance.get("admin", Definition())
    groups = {key: group for key, group in admin.groups.items() if key != GENERAL} | ({GENERAL: enabled} if enabled else {})
    instance = msgspec.structs.replace(instance, layers=snapshot.instance, revision=moment.revision)
    instance = changing.with_layer(instance, "admin", msgspec.structs.replace(admin, groups=groups), moment)
    service = changing.service_of(repository, name)
    if service.layers != snapshot.service:
        service = msgspec.structs.replace(service, layers=snapshot.service, revision=moment.revision)
    repository = changing.with_service(repository, name, service)
    return changing.with_instance_of(repository, op.target, instance), [Event(kind="reverted", target=op.target, detail=op.snapshot)]


_HANDLERS: dict[type, Callable[[Repository, Any, Moment], Outcome]] = {
    Expect: _expect,
    Create: _create,
    Delete: _delete,
    SetProperty: _set_property,
    PutMethod: _put("methods", "method"),
    PutDependency: _put("dependencies", "dependency"),
    PutTemplate: _put("templates", "template"),
    Remove: _remove,
    Mask: _mask,
    Unmask: _unmask,
    Import: _import,
    Withdraw: _withdraw,
    Enable: _enable,
    Report: _report,
    Refresh: _refresh,
    Take: _take,
    DropSnapshot: _drop_snapshot,
    Revert: _revert,
}
