"""Observation of every change: the store's journal is read entry by entry.

The journal is bounded. What it no longer has when it is looked at is skipped; then the newest value of each key concerned
is delivered first, and the number of changes that were lost goes with the next one of that key.
"""

from __future__ import annotations

from kvoshim.kvo.change import Change
from kvoshim.kvo.handle import Handle
from kvoshim.kvo.observation import Observation

AT_ONCE = 256  # entries that are read before they are delivered: what the processor's cache has room for


class Every(Observation):
    every = True
    _position = 0  # in the journal
    _above = 0  # revisions of a former store that were delivered
    _stock_due = False  # another store has the name: what it begins with is still to be delivered

    def _enter(self, handle: Handle) -> None:
        if self.instance:
            # What is below was another store's: a store that has begun there publishes it again, above.
            self._above = self.last
            self._stock_due = True
        super()._enter(handle)

    def _note(self, handle: Handle) -> None:
        super()._note(handle)
        self._seek(handle, self.processed)

    def _seek(self, handle: Handle, revision: int) -> None:
        """Goes behind the last entry up to a revision."""
        reader = handle.reader
        self._position = reader.history(reader.history_bounds()[0], revision, skim=True)[1]

    def _begin_reading(self, handle: Handle, first: str) -> None:
        reader = handle.reader
        self._based = False
        if first == "since":
            if reader.oldest[0] <= self.since <= reader.revision():
                self._know(handle, self.since)
                self.processed = self.since
                self._seek(handle, self.since)
                self._refresh(handle, None)
                self._sync(self.processed)
                return
            self._call(Change(target=self.name, key=self.selector.one, kind="compacted", revision=reader.oldest[0], pid=self._pid))
        self._take_stock(handle, "initial")
        self._sync(self.processed)

    def _take_stock(self, handle: Handle, kind: str) -> None:
        """Delivers what is there now and goes on from there."""
        reader = handle.reader
        known = reader.directory()
        revision, found = reader.newer(self._above, self.selector.which, self._values)
        self._tell_vanished(handle, known)
        self._deliver(found, kind)
        self.processed = max(revision, self._above)
        self._seek(handle, revision)
        self._stock_due = False

    def _vanished_at(self, handle: Handle) -> int:
        # Behind all that was delivered, and before all that is still to be: a successor begins above it.
        return self.last + 1

    def _refresh(self, handle: Handle, slot: int | None) -> None:
        if self._stock_due:
            self._take_stock(handle, "setting")
        reader = handle.reader
        limit = reader.revision()  # what comes later is announced, and others have their turn before
        entries = None
        while (entries is None or len(entries) >= AT_ONCE) and not self.closed:
            entries, position, gap = reader.history(self._position, limit, most=AT_ONCE)
            if gap or not reader.keeps_history:
                self._fill_gap(handle, entries[0].revision if entries else None)
            self._position = position
            self._take_entries(entries, reader)
            if entries and not self.closed:
                self.processed = max(self.processed, entries[-1].revision)

    def _fill_gap(self, handle: Handle, before: int | None) -> None:
        """The newest value of each key whose last change is in the gap."""
        reader = handle.reader
        known = reader.directory()
        revision, found = reader.newer(self.processed, self.selector.which, self._values)
        self._tell_vanished(handle, known)
        self._deliver([one for one in found if before is None or one.revision < before], "setting")
        if before is None:
            self.processed = max(self.processed, revision)
