"""Backups: the whole repository as one JSON file each, in backups/. Of each kind the four newest stay.

Kinds: "boot", at a start, before anything is changed; "import", after manifests were imported; "migration", what an older version had
written, as it was; "hand", whenever somebody asks for one.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Literal, get_args

import msgspec
from msgspec.structs import replace

from kvoshim.errors import DamagedRepositoryError, RepositoryError
from kvoshim.services.configd.disk import Disk, write_file
from kvoshim.services.configd.files import kept, pretty
from kvoshim.services.configd.schema import Schema
from kvoshim.services.core.model import Repository

Kind = Literal["boot", "import", "migration", "hand"]
FOLDER = "backups"
KEPT = 4
_NAME = re.compile(rf"({'|'.join(get_args(Kind))})-(\d{{6,}})\.json")


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """taken: Unix time in seconds. checksum: SHA-256 of all without it."""

    schema: int
    revision: int
    taken: float
    services: dict[str, msgspec.Raw]
    checksum: str = ""

    def seal(self) -> str:
        plain = {name: msgspec.json.decode(raw) for name, raw in self.services.items()}
        whole = msgspec.json.encode([self.schema, self.revision, self.taken, plain])
        return hashlib.sha256(whole).hexdigest()


class Named(msgspec.Struct, frozen=True, order=True):
    """A backup's file. number: rises with each of any kind."""

    number: int
    kind: str
    file: str


def listed(disk: Disk, directory: str) -> list[Named]:
    """All backups, the oldest first. OSError."""
    found = []
    for name in disk.names(os.path.join(directory, FOLDER)):
        if match := _NAME.fullmatch(name):
            found.append(Named(int(match[2]), match[1], name))
    return sorted(found)


def contents(repository: Repository, schema: Schema, taken: float) -> Backup:
    services = {name: msgspec.Raw(msgspec.json.encode(kept(service))) for name, service in repository.services.items()}
    return Backup(schema=schema.version, revision=repository.revision, taken=float(taken), services=services)


def write(disk: Disk, directory: str, kind: Kind, backup: Backup) -> str:
    """Keeps a backup and drops what is beyond the four newest of its kind; returns its path. OSError."""
    folder = os.path.join(directory, FOLDER)
    there = listed(disk, directory)
    number = there[-1].number + 1 if there else 1
    path = os.path.join(folder, f"{kind}-{number:06}.json")
    write_file(disk, path, pretty(replace(backup, checksum=backup.seal())))
    for old in [one for one in there if one.kind == kind][: -(KEPT - 1)]:
        disk.remove(os.path.join(folder, old.file))
    for name in disk.names(folder):
        if name.endswith(".new"):  # of one that was cut short
            disk.remove(os.path.join(folder, name))
    return path


def load(disk: Disk, path: str) -> Backup:
    """DamagedRepositoryError; OSError."""
    try:
        backup = msgspec.json.decode(disk.read(path), type=Backup)
        seal = backup.seal()
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedRepositoryError(f"{path} is no backup: {error}") from None
    if seal != backup.checksum:
        raise DamagedRepositoryError(f"{path} is not as it was written: its checksum is another")
    return backup


def repository_of(backup: Backup, schema: Schema, path: str) -> Repository:
    """DamagedRepositoryError; RepositoryError if it is of a version that there is no way from."""
    schema.check(backup.schema, path)
    services = {name: schema.service(raw, backup.schema, f"{path}: {name}") for name, raw in backup.services.items()}
    return Repository(revision=backup.revision, services=services)


def newest(disk: Disk, directory: str, schema: Schema) -> tuple[Repository, str] | None:
    """The newest backup that is as it was written; None if there is none. OSError."""
    for one in reversed(listed(disk, directory)):
        path = os.path.join(directory, FOLDER, one.file)
        try:
            return repository_of(load(disk, path), schema, path), path
        except RepositoryError:
            continue
    return None
