"""The state of the world as files: one JSON file for each service, and an index of them that is replaced in one step.

    DIRECTORY/
      index.json                      what is in force: version, revision, first journal, each service's file and its SHA-256
      services/web+nginx@17.json      "web/nginx" as it was at revision 17; never written twice
      journal-000003                  what has happened since (journal.py)
      backups/                        (backups.py)
      lock                            held by whoever may write

A service's file has a new name with each checkpoint that changes it. So a checkpoint that is cut short at any point leaves the files
of the one before untouched, and what it has written is swept away at the next start.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from kvoshim.errors import DamagedRepositoryError
from kvoshim.services.configd.disk import Disk, write_file
from kvoshim.services.configd.schema import Schema
from kvoshim.services.core.model import Repository, Service

INDEX = "index.json"
SERVICES = "services"
_FILE = re.compile(r".+@\d+\.json")


class Filed(msgspec.Struct, frozen=True):
    """A service's file: its name below services/, and the SHA-256 of its bytes in hex."""

    file: str
    sha256: str


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """journal: the first one whose transactions these files do not have. checksum: SHA-256 of the index without it."""

    schema: int
    revision: int
    pulse: int
    journal: int
    services: dict[str, Filed]
    checksum: str = ""

    def seal(self) -> str:
        return hashlib.sha256(msgspec.json.encode(replace(self, checksum=""))).hexdigest()


def pretty(value: object) -> bytes:
    """JSON for people."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def kept(service: Service) -> Service:
    """The service without what is not kept over a boot."""
    if not any(instance.volatile for instance in service.instances.values()):
        return service
    return replace(service, instances={name: replace(one, volatile={}) for name, one in service.instances.items()})


def file_of(name: str, revision: int) -> str:
    return f"{name.replace('/', '+')}@{revision}.json"


@dataclass(frozen=True)
class Checkpoint:
    """What is on the disk. values: each service as it is in its file."""

    index: Index
    values: dict[str, Service]

    @property
    def files(self) -> set[str]:
        return {one.file for one in self.index.services.values()}


def read_index(disk: Disk, directory: str) -> Index:
    """DamagedRepositoryError; FileNotFoundError if there is none; OSError."""
    path = os.path.join(directory, INDEX)
    try:
        index = msgspec.json.decode(disk.read(path), type=Index)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedRepositoryError(f"{path} is no index: {error}") from None
    if index.seal() != index.checksum:
        raise DamagedRepositoryError(f"{path} is not as it was written: its checksum is another")
    for name, filed in index.services.items():
        if os.path.basename(filed.file) != filed.file:
            raise DamagedRepositoryError(f"{path} names {filed.file!r} for {name!r}, which is no file of {SERVICES}/")
    return index


def raw(disk: Disk, directory: str, filed: Filed, edited: bool = False) -> msgspec.Raw:
    """A service as it is in its file. edited: even if that has been edited. DamagedRepositoryError; OSError."""
    path = os.path.join(directory, SERVICES, filed.file)
    try:
        data = disk.read(path)
    except FileNotFoundError:
        raise DamagedRepositoryError(f"{path} is missing") from None
    if not edited and hashlib.sha256(data).hexdigest() != filed.sha256:
        raise DamagedRepositoryError(f"{path} is not as it was written (if somebody has edited it: --adopt takes it over)")
    return msgspec.Raw(data)


def read(disk: Disk, directory: str, index: Index, schema: Schema, edited: list[str] | None = None) -> Checkpoint:
    """All files of an index. DamagedRepositoryError names every file that is not as it was written; with `edited`, such a file counts,
    and its service is put there. OSError."""
    values, wrong = {}, []
    for name, filed in index.services.items():
        try:
            data = raw(disk, directory, filed, edited is not None)
            values[name] = schema.service(data, index.schema, filed.file)
            if edited is not None and hashlib.sha256(data).hexdigest() != filed.sha256:
                edited.append(name)
        except DamagedRepositoryError as error:
            wrong.append(str(error))
    if wrong:
        raise DamagedRepositoryError("; ".join(wrong))
    return Checkpoint(index, values)


def write(
    disk: Disk, directory: str, repository: Repository, journal: int, schema: Schema, before: Checkpoint | None
) -> Checkpoint:  # fmt: skip
    """Puts a repository on the disk. before: the checkpoint that is there, whose files of services that have not changed stay.
    OSError: that one is in force still."""
    folder = os.path.join(directory, SERVICES)
    filed, values = {}, {}
    for name, service in repository.services.items():
        value = kept(service)
        if before is not None and before.index.schema == schema.version and before.values.get(name) == value:
            filed[name], values[name] = before.index.services[name], before.values[name]
            continue
        data = pretty(value)
        file = file_of(name, repository.revision)
        if before is not None and file in before.files:
            raise DamagedRepositoryError(f"{file} is to be written twice, with other contents: revisions have gone back")
        handle = disk.create(os.path.join(folder, file))
        try:
            disk.write(handle, 0, data)
            disk.sync(handle)
        finally:
            disk.close(handle)
        filed[name], values[name] = Filed(file, hashlib.sha256(data).hexdigest()), value
    disk.sync_directory(folder)
    index = Index(schema=schema.version, revision=repository.revision, pulse=repository.pulse, journal=journal, services=filed)
    index = replace(index, checksum=index.seal())
    write_file(disk, os.path.join(directory, INDEX), pretty(index))
    return Checkpoint(index, values)


def sweep(disk: Disk, directory: str, index: Index, before: Index | None = None) -> list[str]:
    """Removes files of services that the index does not name, unless somebody has edited one: that one is kept as *.edited, and
    returned. before: the index that named them. OSError."""
    folder = os.path.join(directory, SERVICES)
    named = {one.file for one in index.services.values()}
    known = {} if before is None else {one.file: one.sha256 for one in before.services.values()}
    edited = []
    for name in disk.names(folder):
        if name in named or not _FILE.fullmatch(name):  # what somebody has put there stays
            continue
        path = os.path.join(folder, name)
        if name in known and hashlib.sha256(disk.read(path)).hexdigest() != known[name]:
            disk.rename(path, f"{path}.edited")
            edited.append(f"{path}.edited")
        else:
            disk.remove(path)
    return edited
