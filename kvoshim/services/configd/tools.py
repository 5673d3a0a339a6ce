"""Looking after the files of a repository that no daemon serves: verify, restore, adopt."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from msgspec.structs import replace

from kvoshim.errors import DamagedRepositoryError, InvalidServiceError, RepositoryError
from kvoshim.services.configd import backups, files, journal, recovery
from kvoshim.services.configd.disk import Disk
from kvoshim.services.configd.journal import Header, Journal
from kvoshim.services.configd.recovery import journal_name
from kvoshim.services.configd.schema import Schema
from kvoshim.services.configd.volatile import NAME, known_revision
from kvoshim.services.core import validate
from kvoshim.services.core.model import Repository, check_name, check_service_name


@dataclass
class Report:
    """For people."""

    good: bool = True
    lines: list[str] = field(default_factory=list)


class _Locked:
    """RepositoryError if a daemon serves the repository."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        try:
            self._handle = disk.lock(os.path.join(directory, "lock"))
        except BlockingIOError:
            raise RepositoryError(f"{directory} is in use: end its configd first") from None
        except OSError as error:
            raise RepositoryError(f"{directory} cannot be locked: {error.strerror or error}") from None

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self._disk.close(self._handle)


def verify(disk: Disk, directory: str, schema: Schema | None = None) -> Report:
    """Whether everything is as it was written; changes nothing. RepositoryError if there is no repository."""
    schema = schema or Schema()
    if not disk.names(directory):
        raise RepositoryError(f"there is no repository in {directory}")
    found = recovery.recover(disk, directory, schema, None)
    report = Report(not found.reason)
    if found.reason:
        report.lines.append(f"damaged: {found.reason}")
    else:
        report.lines.append(f"good: revision {found.repository.revision}, {len(found.repository.services)} services")
    report.lines += found.notes
    for one in backups.listed(disk, directory):
        path = os.path.join(directory, backups.FOLDER, one.file)
        try:
            backup = backups.load(disk, path)
            backups.repository_of(backup, schema, path)
            report.lines.append(f"good: backup {path}, revision {backup.revision}, {len(backup.services)} services")
        except (RepositoryError, OSError) as error:
            report.good = False
            report.lines.append(f"damaged: {error}")
    return report


def restore(disk: Disk, directory: str, backup: str = "", schema: Schema | None = None, volatile: str = "") -> Report:
    """Goes back to a backup: a path, a name below backups/, or "" for the newest good one. What was there is moved to damaged-N/.
    volatile: the directory of what is not kept over a boot, which knows of revisions, too.

    Can be cut short at any point, and begun again. RepositoryError, OSError."""
    schema = schema or Schema()
    with _Locked(disk, directory):
        if backup:
            path = backup if os.path.sep in backup else os.path.join(directory, backups.FOLDER, backup)
            repository = backups.repository_of(backups.load(disk, path), schema, path)
        else:
            newest = backups.newest(disk, directory, schema)
            if newest is None:
                raise RepositoryError(f"there is no good backup in {os.path.join(directory, backups.FOLDER)}")
            repository, path = newest
        revision, number = _beyond(disk, directory, repository, volatile)
        aside = _move_aside(disk, directory)
        disk.make_directory(os.path.join(directory, files.SERVICES))
        repository = replace(repository, revision=revision, pulse=revision)
        _write_anew(disk, directory, repository, number, schema, None)
    count = len(repository.services)
    return Report(lines=[f"restored {path} as revision {revision}, {count} services", f"what was there is in {aside}"])


def _beyond(disk: Disk, directory: str, repository: Repository, volatile: str) -> tuple[int, int]:
    """A revision and a journal's number that nothing here has had: who compares revisions must not be deceived."""
    revision, number = repository.revision, 0
    try:
        revision = max(revision, known_revision(journal.read(disk.read(os.path.join(volatile, NAME)))))
    except OSError:
        pass
    for folder in [directory, *(os.path.join(directory, name) for name in disk.names(directory) if name.startswith("damaged-"))]:
        try:
            revision = max(revision, files.read_index(disk, folder).revision)
        except (RepositoryError, OSError):
            pass
        for known in recovery.journals(disk, folder):
            number = max(number, known)
            contents = journal.read(disk.read(os.path.join(folder, journal_name(known))))
            revision = max([revision, *(entry.revision for entry in contents.entries)])
    return revision + 1, number + 1


def _move_aside(disk: Disk, directory: str) -> str:
    taken = [int(name[8:]) for name in disk.names(directory) if name.startswith("damaged-") and name[8:].isdigit()]
    aside = os.path.join(directory, f"damaged-{max(taken, default=0) + 1}")
    disk.make_directory(aside)
    # The index first: without it, whatever is left here is known to be damaged.
    names = disk.names(directory)
    for name in [files.INDEX, files.SERVICES, *(journal_name(one) for one in recovery.journals(disk, directory))]:
        if name in names:
            disk.rename(os.path.join(directory, name), os.path.join(aside, name))
            disk.sync_directory(aside)
            disk.sync_directory(directory)
    return aside


def _write_anew(
    disk: Disk, directory: str, repository: Repository, number: int, schema: Schema, before: files.Checkpoint | None
) -> files.Checkpoint:  # fmt: skip
    fresh = Journal.create(disk, os.path.join(directory, journal_name(number)), Header(journal=number, schema=schema.version))
    fresh.close()
    disk.sync_directory(directory)
    return files.write(disk, directory, repository, number, schema, before)


def adopt(disk: Disk, directory: str, schema: Schema | None = None) -> Report:
    """Takes over files of services that somebody has edited, as one new revision; in force after a refresh. Transactions that were
    not in files yet are applied to what was edited.

    InvalidServiceError names what does not fit; nothing has changed then. RepositoryError, OSError."""
    schema = schema or Schema()
    with _Locked(disk, directory):
        edited: list[str] = []
        found = recovery.recover(disk, directory, schema, None, edited)
        if found.reason:
            raise DamagedRepositoryError(f"{found.reason}: nothing can be adopted, see --restore")
        if not edited:
            return Report(lines=["no file has been edited"])
        revision = found.repository.revision + 1
        services = dict(found.repository.services)
        for name in edited:
            _check(name, services[name])
            instances = {short: replace(one, revision=revision, volatile={}) for short, one in services[name].instances.items()}
            services[name] = replace(services[name], revision=revision, instances=instances)
        repository = replace(found.repository, revision=revision, pulse=found.repository.pulse + 1, services=services)
        for name in edited:
            validate.check_target(repository, name, whole=True)
        _write_anew(disk, directory, repository, found.number + 1, schema, found.checkpoint)
        # What the index before named is swept away at the next start.
    return Report(lines=[f"adopted as revision {revision}: {name}" for name in edited])


def _check(name: str, service) -> None:
    """InvalidServiceError."""
    check_service_name(name)
    levels = {name: service.layers}
    for short, instance in service.instances.items():
        levels[f"{name}:{check_name(short, 'an instance')}"] = instance.layers
        for snapshot, one in instance.snapshots.items():
            check_name(snapshot, "a snapshot")
            levels[f"{name}:{short}, snapshot {snapshot}"] = {**one.service, **one.instance}
    for of, layers in levels.items():
        for layer, definition in layers.items():
            validate.check_definition(definition, f"{of}, layer {validate.check_layer(layer)}")
    if any(instance.volatile for instance in service.instances.values()):
        raise InvalidServiceError(f"{name}: volatile groups are not kept in files")
