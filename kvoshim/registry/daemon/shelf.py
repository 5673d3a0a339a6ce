"""The published store: a key for each entry, in memory that only the registry can write. Its journal is what searches read."""

from __future__ import annotations

import os

import msgspec

from kvoshim import identity
from kvoshim._store import Writer
from kvoshim.registry.entry import Entry

_HEAP = 256 << 20  # bytes of address space for entries of more than 80 bytes; used as needed
_JOURNAL = 8 << 20  # bytes: some 25,000 changes, for who looks seldom
_encode = msgspec.msgpack.Encoder().encode


class Shelf:
    """entries: how many there can be at a time."""

    def __init__(self, entries: int) -> None:
        start = identity.start_time(os.getpid())
        self._writer = Writer("registry", min(2 * entries, 65536), _HEAP, start=start, history=_JOURNAL)
        self.revision = 0

    @property
    def fd(self) -> int:
        return self._writer.fd

    def put(self, entry: Entry) -> None:
        self.revision = self._writer.set(f"{entry.id:x}", _encode(entry))

    def drop(self, entry: Entry) -> None:
        self.revision = self._writer.remove(f"{entry.id:x}")

    def close(self) -> None:
        self._writer.finish()
        self._writer.close()
