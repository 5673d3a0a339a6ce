"""A repository's directory, opened: what was acknowledged is there, and stays there.

    Storage.open(…)      recovers, and makes the disk what it should be: a torn end cut off, an older version migrated, a backup made
    commit(entries)      on the disk when it returns
    checkpoint(...)      the journal's transactions become files
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from kvoshim.errors import ReadOnlyRepositoryError, RepositoryError, StorageError
from kvoshim.services.configd import backups, files, recovery
from kvoshim.services.configd.disk import Disk
from kvoshim.services.configd.journal import Entry, Header, Journal
from kvoshim.services.configd.recovery import journal_name
from kvoshim.services.configd.schema import Schema
from kvoshim.services.configd.volatile import Volatile
from kvoshim.services.core.model import Repository


@dataclass(frozen=True)
class Job:
    """A checkpoint under way. journal: the first one whose transactions it does not have. before: the one that it replaces."""

    repository: Repository
    journal: int
    before: files.Checkpoint


class Storage:
    """repository: as it was found. reason: why it is for reading only, "" if it is not. notes: what people should know. fresh: it was
    made just now."""

    def __init__(self, disk: Disk, directory: str, schema: Schema, volatile: Volatile) -> None:
        self.disk = disk
        self.directory = directory
        self.reason = ""
        self.notes: list[str] = []
        self.fresh = False
        self.repository = Repository()
        self._schema = schema
        self._volatile = volatile
        self._journal: Journal | None = None
        self._number = 0
        self._checkpoint: files.Checkpoint | None = None
        self._lock = -1

    @classmethod
    def open(
        cls, disk: Disk, directory: str, *, now: float, volatile: str, epoch: str, schema: Schema | None = None
    ) -> Storage:  # fmt: skip
        """volatile: the directory for what is not kept over a boot; epoch: which boot this is. now: Unix time in seconds.

        RepositoryError: it is open elsewhere, or it was written by a later version. Damage and a disk that cannot be written are no
        errors: the repository is for reading only then."""
        schema = schema or Schema()
        self = cls(disk, directory, schema, Volatile(disk, volatile, epoch, schema.version))
        try:
            self._begin(now)
        except BaseException:
            self.close()
            raise
        return self

    def _begin(self, now: float) -> None:
        disk, directory = self.disk, self.directory
        refused: OSError | None = None
        try:
            for path in (directory, os.path.join(directory, files.SERVICES), os.path.join(directory, backups.FOLDER)):
                disk.make_directory(path)
            self._lock = disk.lock(os.path.join(directory, "lock"))
        except BlockingIOError:
            raise RepositoryError(f"{directory} is in use by another process") from None
        except OSError as error:
            refused = error
        found = recovery.recover(disk, directory, self._schema, self._volatile)
        self.repository, self.reason, self.notes, self.fresh = found.repository, found.reason, found.notes, found.fresh
        self._checkpoint = found.checkpoint
        if not self.reason and refused is not None:
            self.reason = f"{directory} cannot be written: {refused.strerror or refused}"
        if not self.reason:
            try:
                self._make_good(found, now)
            except OSError as error:
                self.reason = f"{directory} cannot be written: {error.strerror or error}"
        self._volatile.renew(self.repository)

    def _make_good(self, found: recovery.Found, now: float) -> None:
        """Makes the disk what it should be. Can be cut short at any point, and begun again. OSError."""
        disk, directory = self.disk, self.directory
        if found.fresh:
            self._rotate(1)
            self._checkpoint = files.write(disk, directory, self.repository, 1, self._schema, None)
            return
        self._number = found.number
        # What was found is what a process that was killed had written: not all of it need be on the disk.
        disk.sync_directory(os.path.join(directory, files.SERVICES))
        disk.sync_directory(directory)
        if found.migrated:
            self._keep_old_version(found, now)
            self.repository = replace(self.repository, revision=self.repository.revision + 1, pulse=self.repository.pulse + 1)
            self._rotate(found.number + 1)
            self._checkpoint = files.write(disk, directory, self.repository, self._number, self._schema, self._checkpoint)
            self.notes.append(f"migrated from version {found.migrated} to {self._schema.version}; what was before is a backup")
        else:
            self._journal = Journal.reopen(disk, os.path.join(directory, journal_name(found.number)), found.contents)
        self._clear(found.checkpoint.index)
        if not found.migrated:
            self._backup_at_start(now)

    def _keep_old_version(self, found: recovery.Found, now: float) -> None:
        """A backup of the files as the older version wrote them; its journal's transactions are only in the new ones."""
        index = found.checkpoint.index
        raws = {
            name: files.raw(self.disk, self.directory, filed) for name, filed in index.services.items()
        }  # fmt: skip
        backup = backups.Backup(schema=index.schema, revision=index.revision, taken=now, services=raws)
        backups.write(self.disk, self.directory, "migration", backup)

    def _backup_at_start(self, now: float) -> None:
        """Unless the newest one is of this revision."""
        there = backups.listed(self.disk, self.directory)
        if there:
            try:
                newest = backups.load(self.disk, os.path.join(self.directory, backups.FOLDER, there[-1].file))
                if newest.revision == self.repository.revision and newest.schema == self._schema.version:
                    return
            except RepositoryError as error:
                self.notes.append(str(error))
        if self.repository.services:
            self.backup("boot", self.repository, now)

    # --- what happens ---------------------------------------------

    @property
    def journal_size(self) -> int:
        """Bytes, of what a checkpoint would take in."""
        return 0 if self._journal is None else self._journal.size

    @property
    def volatile(self) -> Volatile:
        return self._volatile

    def check_writable(self) -> None:
        """ReadOnlyRepositoryError."""
        if self.reason:
            raise ReadOnlyRepositoryError(f"the repository is for reading only: {self.reason}")

    def commit(self, entries: Sequence[Entry]) -> None:
        """Keeps transactions, all or none. StorageError: they have not happened (if `reason` is set now, nobody can say)."""
        try:
            self._journal.append(entries)
        except StorageError:
            self.reason = self._journal.broken
            raise

    def mark(self) -> None:
        """See Journal.mark()."""
        if self._journal is not None:
            self._journal.mark()

    def checkpoint(self, repository: Repository) -> list[str]:
        """Writes files of all that has happened; returns those that were kept aside because somebody has edited them. repository:
        the one behind the latest commit. StorageError: nothing is lost, the journal has it."""
        job = self.begin_checkpoint(repository)
        return [] if job is None else self.end_checkpoint(job, self.write_checkpoint(job))

    def begin_checkpoint(self, repository: Repository) -> Job | None:
        """The first part of it: another journal takes what comes from now on. None: there is nothing to write. StorageError."""
        self._volatile.renew(repository)  # first: the journal's transactions may have reported something as well
        if self.reason or self._checkpoint.index.revision == repository.revision:
            return None
        try:
            self._rotate(self._number + 1)
        except OSError as error:
            raise self._no_checkpoint(error) from error
        return Job(repository, self._number, self._checkpoint)

    def write_checkpoint(self, job: Job) -> files.Checkpoint:
        """The long part, which any thread may do, while commits go on. StorageError."""
        try:
            return files.write(self.disk, self.directory, job.repository, job.journal, self._schema, job.before)
        except OSError as error:
            raise self._no_checkpoint(error) from error

    def end_checkpoint(self, job: Job, checkpoint: files.Checkpoint) -> list[str]:
        """The last part: what is not needed any more goes. StorageError."""
        self._checkpoint = checkpoint
        try:
            return self._clear(job.before.index)
        except OSError as error:
            raise self._no_checkpoint(error) from error

    def _no_checkpoint(self, error: OSError) -> StorageError:
        return StorageError(f"{self.directory}: no checkpoint could be written: {error.strerror or error}")

    def _rotate(self, number: int) -> None:
        """Begins another journal."""
        if self._journal is not None:
            self._journal.settle()
        fresh = Journal.create(
            self.disk, os.path.join(self.directory, journal_name(number)), Header(journal=number, schema=self._schema.version)
        )  # fmt: skip
        try:
            self.disk.sync_directory(self.directory)
        except BaseException:
            fresh.close()
            raise
        if self._journal is not None:
            self._journal.close()
        self._journal, self._number = fresh, number

    def _clear(self, before: files.Index) -> list[str]:
        """Removes what no checkpoint needs any more."""
        index = self._checkpoint.index
        edited = files.sweep(self.disk, self.directory, index, before)
        for number in recovery.journals(self.disk, self.directory):
            if number < index.journal or number > self._number:
                self.disk.remove(os.path.join(self.directory, journal_name(number)))
        return edited

    def backup(self, kind: backups.Kind, repository: Repository, now: float) -> str:
        """Returns its path. OSError."""
        return backups.write(self.disk, self.directory, kind, backups.contents(repository, self._schema, now))

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self._volatile.close()
        if self._lock >= 0:
            self.disk.close(self._lock)
            self._lock = -1
