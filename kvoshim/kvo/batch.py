"""Several changes of one observable under one revision."""

from __future__ import annotations

import threading
from typing import Any

REMOVED = object()


class Batch:
    """What a thread has set since batch(); published when the block ends, dropped if it raises.

    Only the thread that began it takes part. A key that is set several times counts once, with its last value.
    """

    def __init__(self, observable) -> None:
        self._observable = observable
        self.thread = threading.get_ident()
        self.depth = 0  # of the blocks that have joined
        self.sets: dict[str, tuple[Any, float, bool]] = {}
        self.removals: dict[str, str] = {}
        self.expect: dict[str, int] = {}
        self.revision = 0  # of the transaction, once it is there

    def set(self, key: str, value: Any, ttl: float = 0, ephemeral: bool = False) -> None:
        self.removals.pop(key, None)
        self.sets.pop(key, None)  # to the end: dependent keys come after what they depend on
        self.sets[key] = value, ttl, ephemeral

    def delete(self, key: str, reason: str = "deleted") -> None:
        present = self.sets.pop(key, None) is not None
        if not present or self._observable.has(key):
            self.removals[key] = reason

    def look(self, key: str) -> Any:
        """What the batch will make of a key: a value, REMOVED, or None: nothing."""
        if key in self.removals:
            return REMOVED
        found = self.sets.get(key)
        return None if found is None else found[:1]

    def expecting(self, key: str, revision: int) -> None:
        """The batch is to fail with a ConflictError unless the key still has this revision (0: no value) then."""
        self.expect[key] = revision

    def __enter__(self) -> Batch:
        self._observable._begin_batch(self)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._observable._end_batch(self, kind is None)
