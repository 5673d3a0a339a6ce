"""From what is on the disk to the repository that was acknowledged; changes nothing there.

    index, services' files  ->  the latest checkpoint
    journals in their order ->  + every transaction since
    volatile journal        ->  + what was reported, if it is of this boot

Damage. What is not as it was written is never guessed at: the repository opens for reading only, with the reason. It shows the state
up to the damage if only the journal has any, else the newest good backup.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from kvoshim.errors import DamagedRepositoryError, KvoshimError, RepositoryError
from kvoshim.services.configd import backups, files, journal
from kvoshim.services.configd.disk import Disk
from kvoshim.services.configd.schema import Schema
from kvoshim.services.configd.volatile import Volatile, known_revision, with_state
from kvoshim.services.core.model import Repository
from kvoshim.services.core.operations import AnyOperation, Expect, keeps_nothing
from kvoshim.services.core.transacting import transact

_JOURNAL = re.compile(r"journal-(\d{6,})")
_NEVER = 1 << 63


def journal_name(number: int) -> str:
    return f"journal-{number:06}"


def journals(disk: Disk, directory: str) -> list[int]:
    """The numbers of the journals that there are. OSError."""
    return sorted(int(match[1]) for name in disk.names(directory) if (match := _JOURNAL.fullmatch(name)))


@dataclass
class Found:
    """reason: why it is for reading only, "" if it is not. fresh: there is nothing yet. checkpoint: with its files. number, contents:
    of the last journal. notes: what people should know. migrated: from which version, 0 if from none."""

    repository: Repository = Repository()
    reason: str = ""
    fresh: bool = False
    checkpoint: files.Checkpoint | None = None
    number: int = 0
    contents: journal.Contents = field(default_factory=journal.Contents)
    notes: list[str] = field(default_factory=list)
    migrated: int = 0


def recover(disk: Disk, directory: str, schema: Schema, volatile: Volatile | None, edited: list[str] | None = None) -> Found:
    """edited: files that were edited count, and their services are put there.

    RepositoryError if it is of a version that there is no way from, and there is no backup either. OSError."""
    found = Found()
    try:
        _recover(disk, directory, schema, volatile, found, edited)
    except (DamagedRepositoryError, OSError) as error:
        found.reason = str(error)
        backup = backups.newest(disk, directory, schema)
        if backup is None:
            found.repository = Repository()
            found.notes.append("there is no good backup: nothing is known of any service")
        else:
            found.repository = backup[0]
            found.notes.append(f"what is shown is the backup {backup[1]}")
    return found


def _recover(
    disk: Disk, directory: str, schema: Schema, volatile: Volatile | None, found: Found, edited: list[str] | None
) -> None:  # fmt: skip
    numbers = journals(disk, directory)
    try:
        index = files.read_index(disk, directory)
    except FileNotFoundError:
        _check_nothing_is_there(disk, directory, numbers)
        found.fresh = True
        return
    schema.check(index.schema, os.path.join(directory, files.INDEX))
    found.migrated = index.schema if index.schema != schema.version else 0
    found.checkpoint = files.read(disk, directory, index, schema, edited)
    found.repository = Repository(revision=index.revision, pulse=index.pulse, services=found.checkpoint.values)
    entries = _entries(disk, directory, schema, [number for number in numbers if number >= index.journal], index, found)
    _replay(entries, volatile, schema, found)


def _check_nothing_is_there(disk: Disk, directory: str, numbers: list[int]) -> None:
    """A repository is complete once it has an index. Before that, there can be an empty journal, and nothing else."""
    path = os.path.join(directory, files.INDEX)
    for number in numbers:
        contents = journal.read(disk.read(os.path.join(directory, journal_name(number))))
        if contents.entries or contents.damage or number != 1:
            raise DamagedRepositoryError(f"{path} is missing, and {journal_name(number)} is there")
    if disk.names(os.path.join(directory, files.SERVICES)) or backups.listed(disk, directory):
        raise DamagedRepositoryError(f"{path} is missing, and files of services or backups are there")


def _entries(
    disk: Disk, directory: str, schema: Schema, numbers: list[int], index: files.Index, found: Found
) -> list[tuple[journal.RawEntry, int, str]]:  # fmt: skip
    """(entry, its version, its journal's path), and the first damage in found.reason."""
    entries: list[tuple[journal.RawEntry, int, str]] = []
    read = {number: journal.read(disk.read(os.path.join(directory, journal_name(number)))) for number in numbers}
    while numbers and numbers[-1] > index.journal and not read[numbers[-1]].entries and not read[numbers[-1]].damage:
        numbers.pop()  # it was being made when something failed, or nothing has come yet: the one before may still be the one in use
    for place, number in enumerate(numbers or [index.journal]):
        path = os.path.join(directory, journal_name(number))
        if number != index.journal + place or not numbers:
            found.reason = f"{os.path.join(directory, journal_name(index.journal + place))} is missing"
            break
        contents = read[number]
        last = number == numbers[-1]
        found.number, found.contents = number, contents
        if contents.header is None or contents.damage or contents.header.journal != number:
            found.reason = f"{path}: {contents.damage or 'its first line is not as it was written'}"
        elif contents.torn and not last:
            found.reason = f"{path}: {contents.torn} bytes at its end are not as they were written"
        elif contents.torn:
            found.notes.append(f"{path}: {contents.torn} bytes of a transaction that was cut short were dropped")
        if contents.header is not None:
            schema.check(contents.header.schema, path)
            found.migrated = found.migrated or (contents.header.schema if contents.header.schema != schema.version else 0)
            entries += [(entry, contents.header.schema, path) for entry in contents.entries]
        if found.reason:
            break
    return entries


def _replay(entries: list[tuple[journal.RawEntry, int, str]], volatile: Volatile | None, schema: Schema, found: Found) -> None:
    left = volatile.read() if volatile is not None else None
    _check_nothing_is_missing(entries, left, found)
    since = left.header.pulse if left is not None else _NEVER  # volatile groups are as in `left` at this pulse
    reported = [] if left is None else left.entries
    try:
        for pulse, entry, version, path in _in_order(entries, reported, schema, since):
            if entry is None:
                found.repository = replace(with_state(found.repository, left.header.state), pulse=max(pulse, found.repository.pulse))
            elif path:
                operations = schema.operations(entry.operations, version, path)
                found.repository = _apply(found.repository, entry, operations, pulse > since, path, version == schema.version)
            elif bytes(entry.operations) != b"[]":
                _report(found, entry, schema)
    except DamagedRepositoryError as error:
        found.reason = found.reason or str(error)


def _check_nothing_is_missing(entries, left: journal.Contents | None, found: Found) -> None:
    """What was acknowledged in this boot is known from elsewhere, too."""
    there = max([found.repository.revision, *(entry.revision for entry, _, _ in entries)])
    known = 0 if left is None else known_revision(left)
    if known > there and not found.reason:
        found.reason = f"the transactions of revision {there + 1} to {known} were acknowledged, and are not as they were written: gone"


def _in_order(entries, reported, schema: Schema, since: int) -> Iterator[tuple[int, journal.RawEntry | None, int, str]]:
    """All by pulse; no entry: the volatile state comes here; no path: a volatile entry."""
    merged = [(entry.pulse, 0, entry, version, path) for entry, version, path in entries]
    merged += [(entry.pulse, 1, entry, schema.version, "") for entry in reported]
    if since != _NEVER:
        merged.append((since, 2, None, 0, ""))
    for pulse, _, entry, version, path in sorted(merged, key=lambda one: one[:2]):
        yield pulse, entry, version, path


def _apply(
    repository: Repository, entry: journal.RawEntry, operations: tuple[AnyOperation, ...], whole: bool, path: str, same: bool
) -> Repository:  # fmt: skip
    """One transaction that was kept. whole: with what it reports; else that is of another boot, or known already."""
    if not whole:
        operations = tuple(one for one in operations if not keeps_nothing([one]))
    try:
        result = transact(repository, operations, taken=entry.taken)[0] if operations else repository
    except KvoshimError as error:
        raise DamagedRepositoryError(f"{path}: the transaction of revision {entry.revision} does not fit: {error}") from None
    if same and result.revision != entry.revision or entry.pulse <= repository.pulse:
        raise DamagedRepositoryError(f"{path}: a transaction of revision {entry.revision} follows revision {repository.revision}")
    return replace(result, pulse=entry.pulse, revision=entry.revision)


def _report(found: Found, entry: journal.RawEntry, schema: Schema) -> None:
    """A volatile transaction. One that does not fit has lost its ground, and is of no more use."""
    try:
        operations = schema.operations(entry.operations, schema.version, "volatile")
        result = transact(found.repository, operations, taken=entry.taken)[0]
        found.repository = replace(result, pulse=max(entry.pulse, found.repository.pulse), revision=found.repository.revision)
    except (RepositoryError, KvoshimError) as error:
        found.notes.append(f"a report does not fit any more: {error}")


def without_expectations(operations: tuple[AnyOperation, ...]) -> tuple[AnyOperation, ...]:
    """What is to be kept of a transaction that has happened."""
    return tuple(one for one in operations if not isinstance(one, Expect))
