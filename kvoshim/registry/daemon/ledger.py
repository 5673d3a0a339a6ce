"""What a registry leaves to the one that takes its place: above which numbers to go on, the key of its receipts, and which
processes to wait for.

One file beside the registry's socket, mode 0600, written in place; whatever is wrong with it, the registry begins without:

    0     magic, 8; base, 8; key, 32
    64    a record for each process that has something registered: PID, 4; its start time in clock ticks since boot, 8
    76    ...

The base of a term is the clock in nanoseconds, and at least 2^44 above the last one. No term gives so many numbers, so numbers rise
for ever, if the clock is set back or the file is lost: both at once would have to happen.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import struct
import time

from kvoshim import identity
from kvoshim.registry.catalogue import Former, Who
from kvoshim.registry.entry import Entry
from kvoshim.registry.wire import Receipt

log = logging.getLogger("kvoshim.registry")

_MAGIC = b"KVOLEDG1"
_HEAD = struct.Struct("<8sQ32s")
_RECORD = struct.Struct("<IQ")
_RECORDS_AT = 64
_RECORDS_MAX = 65536
_TERM = 1 << 44
_BASE_MAX = 1 << 62


class Ledger:
    """For who holds the registry's lock. base: of this term; expected: (PID, start time) of the living processes that were
    registered with the registry before."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.expected: set[tuple[int, int]] = set()
        self._slots: dict[tuple[int, int], int] = {}
        self._free: list[int] = []
        self._next = 0
        self._fd = -1
        last, self._key = 0, os.urandom(32)
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            last = self._read()
        except OSError as error:
            log.warning("nothing is known of the registry before: %s cannot be read: %s", path, error)
        self.base = max(time.time_ns(), last + _TERM)
        self._write(_HEAD.pack(_MAGIC, self.base, self._key), 0)
        if self._fd >= 0:
            os.ftruncate(self._fd, _RECORDS_AT)

    def _read(self) -> int:
        facts = os.fstat(self._fd)
        if facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
            raise PermissionError("it is not this user's alone")
        data = os.pread(self._fd, _RECORDS_AT + _RECORD.size * _RECORDS_MAX, 0)
        if len(data) < _HEAD.size:
            return 0
        magic, base, key = _HEAD.unpack_from(data)
        if magic != _MAGIC or base > _BASE_MAX:
            return 0
        self._key = key
        records = data[_RECORDS_AT:]
        for pid, start in _RECORD.iter_unpack(records[: len(records) - len(records) % _RECORD.size]):
            if pid and identity.alive(pid, start):
                self.expected.add((pid, start))
        return base

    def _write(self, data: bytes, at: int) -> None:
        if self._fd < 0:
            return
        try:
            os.pwrite(self._fd, data, at)
        except OSError as error:
            log.warning("the ledger %s cannot be written: %s", self.path, error)

    def note(self, who: Who) -> None:
        """The process has something registered."""
        identity_ = who.pid, who.start
        if identity_ in self._slots or not who.pid:
            return
        slot = self._free.pop() if self._free else self._next
        if slot >= _RECORDS_MAX:
            return
        self._next = max(self._next, slot + 1)
        self._slots[identity_] = slot
        self._write(_RECORD.pack(*identity_), _RECORDS_AT + slot * _RECORD.size)

    def strike(self, who: Who) -> None:
        """It has nothing registered any more."""
        slot = self._slots.pop((who.pid, who.start), None)
        if slot is not None:
            self._free.append(slot)
            self._write(bytes(_RECORD.size), _RECORDS_AT + slot * _RECORD.size)

    def receipt(self, entry: Entry) -> Receipt:
        seal = self._seal(entry.name, entry, entry.pid, entry.start, entry.uid)
        return Receipt(entry.id, entry.serial, entry.token, entry.since, seal)

    def former(self, name: str, who: Who, receipt: Receipt | None) -> Former | None:
        """What the receipt says, if it is one of this place's, for this process and name."""
        if receipt is None or not hmac.compare_digest(receipt.seal, self._seal(name, receipt, who.pid, who.start, who.uid)):
            return None
        return Former(receipt.id, receipt.serial, receipt.token, receipt.since)

    def _seal(self, name: str, numbers: Entry | Receipt, pid: int, start: int, uid: int) -> bytes:
        what = f"{numbers.id} {numbers.serial} {numbers.token} {numbers.since!r} {pid} {start} {uid} {name}"
        return hmac.digest(self._key, what.encode("utf-8", "surrogatepass"), hashlib.sha256)[:16]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
