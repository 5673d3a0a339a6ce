"""The form in which services are kept, and the way from an older one.

A change of the form of Service (core/model.py) or of an operation that older files would not fit raises VERSION, and adds to
MIGRATIONS the step from the version before. A repository is migrated when it is opened: what was before is kept as a backup, and
everything is written anew at once.

Version history: 1, the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kvoshim.errors import DamagedRepositoryError, RepositoryError
from kvoshim.services.core.model import Service
from kvoshim.services.core.operations import AnyOperation

VERSION = 1


@dataclass(frozen=True)
class Migration:
    """One step. service, operation: a JSON object as the version before had it -> as this one has it; an operation may also become
    several, or none."""

    service: Callable[[dict[str, Any]], dict[str, Any]] = lambda document: document
    operation: Callable[[dict[str, Any]], list[dict[str, Any]]] = lambda document: [document]


MIGRATIONS: dict[int, Migration] = {}  # by the version that a step leads to


@dataclass(frozen=True)
class Schema:
    """version: of what is written. migrations: by the version that each leads to."""

    version: int = VERSION
    migrations: Mapping[int, Migration] = field(default_factory=lambda: MIGRATIONS)

    def check(self, version: int, what: str) -> None:
        """RepositoryError if there is no way from this version."""
        if version > self.version:
            raise RepositoryError(f"{what} has version {version} of the repository's form, later than this program's {self.version}")
        for step in range(version + 1, self.version + 1):
            if step not in self.migrations:
                raise RepositoryError(f"{what} has version {version} of the repository's form: there is no way from it to {step}")

    def service(self, data: bytes | msgspec.Raw, version: int, what: str) -> Service:
        """DamagedRepositoryError if this is no service."""
        try:
            if version == self.version:
                return msgspec.json.decode(data, type=Service)
            document = msgspec.json.decode(data)
            for step in range(version + 1, self.version + 1):
                document = self.migrations[step].service(document)
            return msgspec.convert(document, Service)
        except (msgspec.MsgspecError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedRepositoryError(f"{what} is no service: {error}") from None

    def operations(self, data: msgspec.Raw, version: int, what: str) -> tuple[AnyOperation, ...]:
        """DamagedRepositoryError if these are no operations."""
        try:
            if version == self.version:
                return msgspec.json.decode(data, type=tuple[AnyOperation, ...])
            documents = msgspec.json.decode(data)
            for step in range(version + 1, self.version + 1):
                documents = [new for old in documents for new in self.migrations[step].operation(old)]
            return msgspec.convert(documents, tuple[AnyOperation, ...])
        except (msgspec.MsgspecError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedRepositoryError(f"{what} holds what is no operation: {error}") from None
