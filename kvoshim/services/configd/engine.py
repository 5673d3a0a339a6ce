"""Transactions, one after the other, and kept many at a time.

    add(...)     applies a transaction behind those that wait; its errors are its own
    commit()     keeps all that wait with one write and one sync; only now does anybody see them
    settle()     what need not be done before they are told

Isolation: transactions are serial; `repository` shows what is kept and nothing else. If the disk refuses, all that wait have not
happened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from kvoshim.errors import StorageError
from kvoshim.services.configd.journal import Entry
from kvoshim.services.configd.recovery import without_expectations
from kvoshim.services.configd.storage import Storage
from kvoshim.services.core.model import Repository
from kvoshim.services.core.operations import AnyOperation, Event, Import, keeps_nothing
from kvoshim.services.core.transacting import transact


@dataclass(frozen=True)
class Done:
    """A transaction that has been kept."""

    revision: int
    pulse: int
    events: tuple[Event, ...]


class Engine:
    """clock: Unix time in seconds."""

    def __init__(self, storage: Storage, clock: Callable[[], float]) -> None:
        self.storage = storage
        self.repository: Repository = storage.repository
        self.imported = False  # since the latest backup
        self._clock = clock
        self._ahead = self.repository  # with what waits
        self._waiting: list[tuple[Entry, Done]] = []
        self._note: Entry | None = None

    def __len__(self) -> int:
        """Transactions that wait."""
        return len(self._waiting)

    def add(self, operations: tuple[AnyOperation, ...], expected: int | None = None) -> None:
        """ConflictError, InvalidServiceError, UnknownServiceError, ReadOnlyRepositoryError: nothing waits."""
        if not keeps_nothing(operations):
            self.storage.check_writable()
        taken = float(self._clock())
        ahead, events = transact(self._ahead, operations, taken=taken, expected=expected)
        entry = Entry(ahead.pulse, ahead.revision, taken, without_expectations(operations))
        self._waiting.append((entry, Done(ahead.revision, ahead.pulse, events)))
        self._ahead = ahead

    def commit(self) -> list[Done]:
        """What waited, in its order. StorageError: none of it has happened."""
        waiting, self._waiting = self._waiting, []
        entries = [entry for entry, _ in waiting if entry.operations]
        kept = [entry for entry in entries if not keeps_nothing(entry.operations)]
        try:
            if kept:
                self.storage.commit(kept)
        except StorageError:
            self._ahead = self.repository
            raise
        reports = [entry for entry in entries if keeps_nothing(entry.operations)]
        if reports:
            self.storage.volatile.append(reports)
        elif kept:
            self._note = replace(kept[-1], operations=())
        self.repository = self._ahead
        self.imported |= any(isinstance(one, Import) for entry in kept for one in entry.operations)
        return [done for _, done in waiting]

    def settle(self) -> None:
        """What is to be done after a commit, and may be done when everybody has been told of it."""
        self.storage.mark()
        if self._note is not None:
            self.storage.volatile.append([self._note])  # which revision there was
            self._note = None

    def transact(self, operations: tuple[AnyOperation, ...], expected: int | None = None) -> Done:
        """One transaction, kept when this returns. Errors as add() and commit()."""
        self.add(operations, expected)
        done = self.commit()[-1]
        self.settle()
        return done

    def checkpoint(self) -> list[str]:
        """See Storage.checkpoint(). StorageError."""
        return self.storage.checkpoint(self.repository)

    def backup_imports(self) -> str:
        """A backup if there was an import since the latest; its path, or "". OSError."""
        if not self.imported or self.storage.reason:
            return ""
        path = self.storage.backup("import", self.repository, self._clock())
        self.imported = False
        return path
