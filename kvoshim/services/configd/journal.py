"""The journal: what was done, one line for each commit, text that a person can read.

    CRC32, 8 hex digits; space; bytes of the JSON; space; the JSON; newline

The first line is the header. A line of transactions names the checksum of the line of transactions before it ("after"), so that none
can be missing. Once the last line is known to be on the disk, a mark ("synced") follows it, which itself need not be. The next line
takes the mark's place.

Why marks. A line that is not whole is either torn, and then nobody was told that it is kept: drop it; or it was kept and is damaged:
do not go on as if nothing had happened. Transactions of one commit are one line, and the next is written only when this one is on the
disk. So a bad line with anything good behind it was kept, and the mark is such a thing behind the last line. (Were marks to stay, a
later line might reach the disk before the mark ahead of it.) What remains: the last line is damaged and its mark never reached the
disk, that is, the machine lost power within seconds.

Behind all of it lie zeros, written and synced beforehand: a sync of bytes that are there already is quicker than of a file that has
grown.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from kvoshim.errors import StorageError
from kvoshim.services.configd.disk import Disk
from kvoshim.services.core.model import Group
from kvoshim.services.core.operations import AnyOperation

AHEAD = 256 << 10  # zeros that are written at a time
_HEAD = re.compile(rb"([0-9a-f]{8}) (\d{1,10}) ")
_encode = msgspec.json.Encoder().encode


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """schema: version of what follows. The others are of a journal that is not kept over a boot: which boot it is of, and all volatile
    groups by target, at that revision and pulse."""

    journal: int
    schema: int
    epoch: str = ""
    revision: int = 0
    pulse: int = 0
    state: dict[str, dict[str, Group]] = {}


class Entry(msgspec.Struct, frozen=True):
    """One transaction. revision, pulse: of the repository behind it. taken: Unix time in seconds."""

    pulse: int
    revision: int
    taken: float
    operations: tuple[AnyOperation, ...]


class RawEntry(msgspec.Struct, frozen=True):
    """The same as it was written, perhaps by an older version."""

    pulse: int
    revision: int
    taken: float
    operations: msgspec.Raw


class _Commit(msgspec.Struct, frozen=True):
    after: int
    entries: Sequence[Entry]


class _Line(msgspec.Struct, frozen=True):
    after: int | None = None
    entries: tuple[RawEntry, ...] = ()
    synced: int | None = None


_decode_header = msgspec.json.Decoder(Header).decode
_decode_line = msgspec.json.Decoder(_Line).decode


def line(body: bytes) -> tuple[bytes, int]:
    """A line of the journal, and its checksum."""
    checksum = zlib.crc32(body)
    return b"%08x %d %s\n" % (checksum, len(body), body), checksum


def _body(data: bytes, offset: int) -> tuple[bytes, int, int] | None:
    """(JSON, checksum, where the next line begins) of the line here; None if it is not whole or not as it was written."""
    head = _HEAD.match(data, offset)
    if head is None:
        return None
    end = head.end() + int(head[2])
    body = data[head.end() : end]
    checksum = int(head[1], 16)
    if data[end : end + 1] != b"\n" or zlib.crc32(body) != checksum:
        return None
    return body, checksum, end + 1


@dataclass
class Contents:
    """header: None if it is not there whole. good: bytes up to which all is well, without the mark. torn: bytes behind it and its mark
    that were never acknowledged. size: of the file, with the zeros. damage: what is wrong behind `good`, "" if nothing is."""

    header: Header | None = None
    entries: list[RawEntry] = field(default_factory=list)
    good: int = 0
    chain: int = 0
    torn: int = 0
    size: int = 0
    damage: str = ""


def read(data: bytes) -> Contents:
    """What a journal holds, up to the first thing that is wrong."""
    found = Contents(size=len(data))
    data = data.rstrip(b"\0")
    at = 0
    while at < len(data):
        whole = _body(data, at)
        if whole is None:
            if _anything_good_behind(data, at):
                found.damage = f"the line at byte {at} is not as it was written"
            else:
                found.torn = len(data) - at
            break
        body, checksum, end = whole
        try:
            if found.header is None:
                found.header = _decode_header(body)
                found.chain = checksum
            else:
                one = _decode_line(body)
                if one.synced is not None:
                    at = end
                    continue
                if one.after != found.chain:
                    found.damage = f"a line is missing before byte {at}"
                    break
                found.entries += one.entries
                found.chain = checksum
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            found.damage = f"the line at byte {at} is none of a journal: {error}"
            break
        found.good = at = end
    return found


def _anything_good_behind(data: bytes, offset: int) -> bool:
    while (offset := data.find(b"\n", offset) + 1) and offset < len(data):
        if _body(data, offset) is not None:
            return True
    return False


class Journal:
    """A journal that is being written. durable: what append() has taken is on the disk when it returns."""

    def __init__(self, disk: Disk, path: str, handle: int, size: int, chain: int, durable: bool, end: int) -> None:
        self.path = path
        self.size = size
        self._end = end  # of the zeros
        self._marked = True
        self.broken = ""  # why nothing more can be appended
        self._disk = disk
        self._handle = handle
        self._chain = chain
        self._durable = durable

    @classmethod
    def create(cls, disk: Disk, path: str, header: Header, durable: bool = True) -> Journal:
        """A new one; its name is the caller's to sync. OSError."""
        data, chain = line(_encode(header))
        handle = disk.create(path)
        try:
            disk.write(handle, 0, data.ljust(AHEAD, b"\0") if durable else data)
            if durable:
                disk.sync(handle)
        except BaseException:
            disk.close(handle)
            raise
        return cls(disk, path, handle, len(data), chain, durable, AHEAD)

    @classmethod
    def reopen(cls, disk: Disk, path: str, contents: Contents, durable: bool = True) -> Journal:
        """Goes on with one behind what was read of it, which is on the disk then; what is torn there is cut off. OSError."""
        handle = disk.open(path)
        try:
            if contents.torn:
                disk.truncate(handle, contents.good)
            if durable:
                disk.sync(handle)
        except BaseException:
            disk.close(handle)
            raise
        return cls(disk, path, handle, contents.good, contents.chain, durable, contents.good if contents.torn else contents.size)

    def append(self, entries: Sequence[Entry]) -> None:
        """All of them or none. StorageError: they have not happened; or, if `broken` is set now, nobody can say."""
        if self.broken:
            raise StorageError(self.broken)
        data, checksum = line(_encode(_Commit(self._chain, entries)))
        try:
            self._write(data)
            if self._durable:
                self._disk.sync(self._handle)
        except OSError as error:
            self._take_back(error)
            why = error.strerror or error
            raise StorageError(f"the transaction has not happened, {self.path} cannot be written: {why}") from error
        self.size += len(data)
        self._chain = checksum
        self._marked = False

    def _write(self, data: bytes) -> None:
        end = self.size + len(data)
        if self._durable and end > self._end:
            try:
                self._disk.write(self._handle, self.size, data.ljust(len(data) + AHEAD, b"\0"))
                self._end = end + AHEAD
                return
            except OSError:  # no room for zeros: there may be some for the line
                self._end = self.size
                self._disk.truncate(self._handle, self.size)
        self._disk.write(self._handle, self.size, data)

    def mark(self) -> None:
        """Puts the mark behind the last line. It need not be there before anybody is told."""
        if self._marked or not self._durable or self.broken:
            return
        self._marked = True
        data, _ = line(b'{"synced":%d}' % self._chain)
        try:
            self._disk.write(self._handle, self.size, data)
        except OSError as error:  # it is not needed, but half of it must not stay
            try:
                self._take_back(error)
            except StorageError:
                pass  # what was acknowledged stands; the next one is refused

    def _take_back(self, error: OSError) -> None:
        """Makes sure that nothing of a failed line is found at the next start. A sync that fails may be told once only, and what it
        was about may be on the disk or not: only cutting it off, and a sync of that, makes it certain."""
        try:
            self._end = self.size
            self._disk.truncate(self._handle, self.size)
            if self._durable:
                self._disk.sync(self._handle)
        except OSError as again:
            self.broken = (
                f"{self.path} cannot be written ({error.strerror or error}), nor cut off behind what was kept "
                f"({again.strerror or again}): only the next start tells whether the latest transaction has happened"
            )
            raise StorageError(self.broken) from error

    def settle(self) -> None:
        """Before another journal follows this one: the last mark is on the disk, too, and nothing else behind the line. OSError."""
        self.mark()
        if self.broken:  # half a mark
            self._end = self.size
            self._disk.truncate(self._handle, self.size)
        self._disk.sync(self._handle)
        self.broken = ""

    def close(self) -> None:
        self._disk.close(self._handle)
