"""What the registry's store says, kept in this process: finding is a look at one number of the store and into a dict. The store's
journal tells what is new.

When the registry has died, its successor's store fills again as the living come back, and as other hosts are heard. Until it says that
all have, or are, what is not in it yet still counts: no search sees somebody go who was there all the time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from kvoshim import identity
from kvoshim._store import Reader
from kvoshim.registry.entry import Entry, Pattern, order

log = logging.getLogger("kvoshim.registry")

Kind = Literal["present", "end", "added", "removed", "changed"]
_decode = msgspec.msgpack.Decoder(Entry).decode


class Event(NamedTuple):
    """What a search tells. kind: "present" for what was there when it began, then once "end" (with no entry), then "added", "removed"
    and "changed". before: what a changed entry was."""

    kind: Kind
    entry: Entry | None = None
    before: Entry | None = None


class Mirror:
    """Not thread-safe: its client has a lock."""

    def __init__(self, reader: Reader, settled: bool) -> None:
        self.entries: dict[int, Entry] = {}
        self._names: dict[str, dict[int, Entry]] = {}
        self._taken: dict[str, int] = {}  # revisions that the whole had already, by key
        self._unconfirmed: set[int] = set()  # of entries from the store before
        self._settled = self._whole = True
        self._host = os.uname().nodename
        self._reader = reader
        self.rebase(reader, settled)

    def rebase(self, reader: Reader, settled: bool, whole: bool = True) -> list[Event]:
        """Goes on with another registry's store. settled, whole: as in wire.Welcome."""
        if self._reader is not reader:
            self._reader.close()
        self._reader = reader
        self._unconfirmed = set(self.entries)
        self._settled, self._whole = settled, whole
        return self._take_all() + (self.settle() if settled else [])

    def close(self) -> None:
        self._reader.close()

    def settle(self) -> list[Event]:
        """The store has all that there is on this host."""
        self._settled = True
        return self.catch_up() + self._give_up()

    def complete(self) -> list[Event]:
        """The store has all that there is on other hosts."""
        self._whole = True
        return self.catch_up() + self._give_up()

    def _give_up(self) -> list[Event]:
        """What has not come back is gone, where all have."""
        gone = [
            number for number in self._unconfirmed
            if (self._settled if self.entries[number].host == self._host else self._whole)
        ]  # fmt: skip
        self._unconfirmed.difference_update(gone)
        return [event for number in gone for event in self._remove(number)]

    def _take_all(self) -> list[Event]:
        """The whole store. The journal is read on from the revision before, since what is written meanwhile may be missing here;
        its end would be too late, for an entry comes there before it is in force."""
        self.revision = self._reader.revision()
        _, self._position, _ = self._reader.history(0, self.revision, True)
        _, found = self._reader.newer(0)
        self._taken = {one.key: one.revision for one in found if one.revision > self.revision}
        events, seen = [], set()
        for one in found:
            entry = self._entry_of(one)
            if entry is not None:
                seen.add(entry.id)
                events += self._set(entry)
        for number in self.entries.keys() - seen - self._unconfirmed:
            events += self._remove(number)
        return events

    def catch_up(self) -> list[Event]:
        """What has changed since the last time. CorruptStoreError."""
        revision = self._reader.revision()
        if revision == self.revision:
            return []
        changes, position, gap = self._reader.history(self._position, revision)
        if gap or any(not one.kept for one in changes):
            return self._take_all()
        events: list[Event] = []
        for one in changes:
            if one.revision <= self._taken.get(one.key, 0):
                continue  # was there when the whole was taken
            entry = self._entry_of(one)
            if entry is not None:
                events += self._set(entry)
            elif one.state == "removed":
                events += self._remove(_number(one.key))
        self._position, self.revision = position, revision
        self._taken = {}
        return events

    @staticmethod
    def _entry_of(found) -> Entry | None:
        if found.state != "set":
            return None
        try:
            entry = _decode(found.value)
            if entry.id == _number(found.key):
                return entry
        except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
            pass
        log.error("what the registry's store has under %r is no entry", found.key)
        return None

    def _set(self, entry: Entry) -> list[Event]:
        before = self.entries.get(entry.id)
        self._unconfirmed.discard(entry.id)
        if before == entry:
            return []
        self.entries[entry.id] = entry
        self._names.setdefault(entry.name, {})[entry.id] = entry
        return [Event("changed", entry, before) if before is not None else Event("added", entry)]

    def _remove(self, number: int) -> list[Event]:
        entry = self.entries.pop(number, None)
        if entry is None:
            return []
        named = self._names[entry.name]
        del named[number]
        if not named:
            del self._names[entry.name]
        return [Event("removed", entry)]

    def bury(self) -> list[Event]:
        """Lets go of those of the store before whose processes have ended meanwhile."""
        dead = [
            number for number in self._unconfirmed
            if (entry := self.entries[number]).host == self._host and entry.pid and not identity.alive(entry.pid, entry.start)
        ]  # fmt: skip
        self._unconfirmed.difference_update(dead)
        return [event for number in dead for event in self._remove(number)]

    def find(self, pattern: Pattern) -> list[Entry]:
        """By name, the owner first."""
        return sorted(self._matching(pattern), key=order)

    def named(self, name: str) -> list[Entry]:
        found = list(self._names.get(name, {}).values())
        if len(found) > 1:
            found.sort(key=order)
        return found

    def _matching(self, pattern: Pattern) -> Iterator[Entry]:
        if pattern.exact:
            yield from self._names.get(pattern.text, {}).values()
            return
        for name, named in self._names.items():
            if pattern.matches(name):
                yield from named.values()


def _number(key: str) -> int:
    try:
        return int(key, 16)
    except ValueError:
        return -1
