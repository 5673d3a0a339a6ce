"""One observation: what has to be delivered. docs/kvo.md has the contract.

Latest (this file) compares what is in the store with what was delivered; Every (every.py) goes through the store's journal.
Both run where the client's messages are taken in, one refresh at a time, behind a gate that close() takes too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kvoshim.errors import KvoshimError
from kvoshim.kvo.change import Change
from kvoshim.kvo.delivery import FORGET_AT, Delivery, Seen
from kvoshim.kvo.wire import REVISION_END, REVISION_FRESH

if TYPE_CHECKING:
    from kvoshim.kvo.handle import Handle


class Observation(Delivery):
    """In mode latest."""

    # --- what the client calls ---------------------------------------------

    def begin(self, handle: Handle | None) -> None:
        """All registrations are in force; `handle`: the store as it is then. Without INITIAL and `since`, what it holds
        is taken as known, so that exactly what is set after observe() has returned is delivered. Later calls, after a
        reconnection, change nothing. A refresh follows in each case."""
        with self._gate:
            if self.closed or self._begun:
                return
            self._begun = True
            if handle is None and self.since is not None:
                self._first = "since"
            elif handle is None:
                self._sync(0)
            elif self.since is not None or self._initial:
                self._first = "since" if self.since is not None else "initial"
            else:
                self.instance, self._pid, self.live = handle.instance, handle.pid, handle.live
                self._note(handle)

    def refresh(self, handle: Handle, slot: int | None) -> None:
        """Delivers what has changed in one slot, or anywhere (None)."""
        with self._gate:
            if self.closed or not self._begun:
                return
            self.progress = time.monotonic()
            first, self._first = self._first, None
            if self._again:
                slot = None
            try:
                if self.instance != handle.instance:
                    if self.instance:
                        self._doubt(handle)
                    self._enter(handle)
                    slot = None
                elif handle.live and not self.live:
                    self._pid = handle.pid
                    self._lifecycle("back")
                if first is not None:
                    self._begin_reading(handle, first)
                else:
                    self._refresh(handle, slot)
                self._based, self._again = True, False
                if len(self._seen) > self._forget_at and self._several:
                    self._forget(handle)
                if not handle.live and not self.closed:
                    self._let_go(handle)
            except KvoshimError as error:
                self._first, self._again = first, True  # the snapshot is still to come
                self._fail(self.selector.one, error)
                if not handle.live:
                    self._lifecycle("gone")
            self._release()
            if self._written:
                self.client.tally.took(self._written)
                self._written = 0

    # --- how a store is read ---------------------------------------------

    def _doubt(self, handle: Handle) -> None:
        """A successor's revisions are above its predecessor's, unless that one has lied about them."""
        for seen in [*self._seen.values(), *self._parts.values()]:
            if seen.revision >= REVISION_FRESH:
                seen.revision = 0
        if self._floor >= REVISION_FRESH:
            self._floor = 0
        if self.last > handle.reader.revision():
            self.client.ask_above(self)

    def _enter(self, handle: Handle) -> None:
        """Another store has the name now, or it is the first one."""
        if self.instance:
            self._based = False
            self._lifecycle("gone")
            self._pid = handle.pid
            self._lifecycle("back")
        self._pid = handle.pid
        self.instance = handle.instance
        self.processed = 0
        for seen in [*self._seen.values(), *self._parts.values()]:
            seen.count = 0
        self._slots.clear()

    def _note(self, handle: Handle) -> None:
        """Takes what is there as delivered."""
        reader = handle.reader
        self.processed, found = reader.newer(0, self.selector.which, self._keeps)
        for one in found:
            self._take(one, "note")

    def _begin_reading(self, handle: Handle, first: str) -> None:
        """The snapshot, or what followed the revision asked for."""
        reader = handle.reader
        above, self._based = 0, False
        if first == "since":
            oldest = reader.oldest[1]
            if oldest <= self.since <= reader.revision():
                above = self.since
                self._know(handle, above)
            else:
                self._call(Change(target=self.name, key=self.selector.one, kind="compacted", revision=oldest, pid=self._pid))
                first = "initial"
        self.processed, found = reader.newer(above, self.selector.which, self._values)
        self._deliver(found, "initial" if first == "initial" else "setting")
        self._sync(self.processed)

    def _know(self, handle: Handle, revision: int) -> None:
        """Takes as delivered what was last changed at or before a revision."""
        reader = handle.reader
        for one in reader.newer(0, self.selector.which, self._keeps)[1]:
            if one.revision <= revision:
                self._take(one, "note")

    def _sync(self, revision: int) -> None:
        self.synced.set()
        if self._marks:
            self._call(Change(target=self.name, key=self.selector.one, kind="synced", revision=revision, pid=self._pid))

    def _refresh(self, handle: Handle, slot: int | None) -> None:
        reader = handle.reader
        if self.selector.keys is not None and self.selector.path is None:
            self._take_key(handle, self.selector.given)
            return
        if slot is not None and self.selector.path is None:
            key = reader.key_of(slot)
            old = self._slots.get(slot)
            if (old is None or old == key) and (key is None or not self.selector.matches(key)):
                return
            if old == key or old is None:
                found = reader.read(key, self._values)
                if not found.together:  # else the others of its revision come along
                    self._take(found, "setting")
                    return
        self._scan(handle)

    def _take_key(self, handle: Handle, key: str) -> None:
        try:
            found = handle.reader.read(key, self._values)
        except KvoshimError as error:
            self._fail(key, error)
            return
        self._take_found(found, key, handle)

    def _take_found(self, found, key: str, handle: Handle) -> None:
        if found.state == "absent":
            seen = self._seen.get(key)
            if seen is not None and seen.present:
                self._vanish(key, seen, handle)
        else:
            self._take(found, "setting")

    def _scan(self, handle: Handle) -> None:
        """Everything that has changed since the last scan, as of one moment."""
        reader = handle.reader
        known = reader.directory()
        self._slots = {number: key for key, number in known.items() if self.selector.matches(key)}
        revision, found = reader.newer(self.processed, self.selector.which, self._values)
        self._tell_vanished(handle, known)
        self._deliver(found, "setting")
        self.processed = revision

    def _forget(self, handle: Handle) -> None:
        """Lets go of deleted keys that have left the store: who observes all keys would keep every key that ever was."""
        if not self.every:
            self._scan(handle)  # so that what was delivered of them is not above `processed`
        self._floor = self.last
        known = handle.reader.directory()
        for key, seen in list(self._seen.items()):
            if not seen.present and key not in known and seen.revision <= self.processed:
                del self._seen[key]
        self._forget_at = 2 * len(self._seen) + FORGET_AT

    def _tell_vanished(self, handle: Handle, known: dict[str, int]) -> None:
        """What was there and is not in the directory any more."""
        kept = self._seen if self.selector.path is None else self._parts
        gone = [key for key, seen in kept.items() if seen.present and key not in known]
        together = self._vanished_at(handle)
        for place, key in enumerate(gone):
            if self.selector.path is None:
                self._vanish(key, kept[key], handle, together, together > 0 and place + 1 < len(gone))
            else:
                part, moment = kept[key], (time.time_ns(), time.monotonic_ns())
                part.present, part.revision = False, min(max(part.revision + 1, handle.reader.oldest[1]), REVISION_END)
                self._evaluate(max(part.revision, self.last + 1), 0, "setting", "deleted", *moment)

    def _vanished_at(self, handle: Handle) -> int:
        """The revision of all deletions that are found together; 0: each has its own."""
        return 0

    def _vanish(self, key: str, seen: Seen, handle: Handle, together: int = 0, more: bool = False) -> None:
        """Deleted, and its slot has gone to another key since (or its store to another one): the deletion was later than
        what was seen."""
        revision = together or max(seen.revision + 1, handle.reader.oldest[1])
        self._tell(key, seen, "deletion", None, revision, 0, time.time_ns(), time.monotonic_ns(), reason="deleted", more=more)

    def _deliver(self, found: list, kind: str) -> None:
        for place, one in enumerate(found):
            more = place + 1 < len(found) and found[place + 1].revision == one.revision
            self._take(one, kind, more)

    # --- the observable's life ---------------------------------------------

    def _let_go(self, handle: Handle) -> None:
        """The owner has ended: so do the keys that were bound to it."""
        if self.live:
            reader = handle.reader
            for one in reader.newer(0, self.selector.which, False)[1]:
                seen = self._seen.get(one.key)
                if one.reason == "owner-died" and seen is not None and seen.present:
                    self._tell(one.key, seen, "deletion", None, reader.revision() + 1, 0, time.time_ns(), time.monotonic_ns(),
                               reason=one.reason)
        self._lifecycle("gone")

    def bookmark(self, handle: Handle | None) -> int:
        """The revision up to which everything was delivered: what to resume from."""
        if handle is None or handle.instance != self.instance or not self._gate.enter_at_once():
            return self.processed
        try:
            reader = handle.reader
            revision, found = reader.newer(self.processed, self.selector.which, False)
            seen = self._parts if self.selector.path is not None else self._seen
            if all(one.key in seen and one.revision <= seen[one.key].revision for one in found):
                self.processed = max(self.processed, revision)
            return self.processed
        except KvoshimError:
            return self.processed
        finally:
            self._gate.__exit__()
