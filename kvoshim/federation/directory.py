"""Which other hosts there are, what is registered there, and which of them are silent: plain data, no input or output, no clock.

Time is what the caller says, by this host's monotonic clock: when a lease was heard of here. No time of another host is looked at, so
it does not matter what their clocks say. A host is silent when nothing has been heard of it for as long as its lease: its entries are
hidden. They are forgotten when its lease has expired in the bucket.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kvoshim.registry.entry import Entry

_ABORTED = 4  # epochs of a host that never came into force and are kept


@dataclass
class Change:
    """What is to be told: entries that are new or changed, and gone. stale: (HOST, EPOCH) whose keys are to be purged. awake, silent:
    names of hosts."""

    put: list[Entry] = field(default_factory=list)
    drop: list[Entry] = field(default_factory=list)
    stale: list[tuple[str, str]] = field(default_factory=list)
    awake: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.put or self.drop or self.stale or self.awake or self.silent)

    def __add__(self, other: Change) -> Change:
        return Change(
            self.put + other.put, self.drop + other.drop, self.stale + other.stale, self.awake + other.awake,
            self.silent + other.silent,
        )  # fmt: skip


class _Host:
    def __init__(self) -> None:
        self.name = ""
        self.epoch = ""  # of its lease
        self.until: float | None = None  # when it will be silent; None: it is
        self.entries: dict[str, dict[int, Entry]] = {}  # by epoch
        self.shown: dict[int, Entry] = {}


class Directory:
    """own: this host's token, whose own keys do not count. lease: in seconds. most: entries in all that are shown."""

    def __init__(self, own: str, lease: float, most: int) -> None:
        self._own = own
        self._lease = lease
        self._most = most
        self._hosts: dict[str, _Host] = {}
        self._snapshot: set[tuple[str, str, int]] | None = None
        self.left_out = 0  # entries that there was no room for

    # --- what the bucket says ---------------------------------------------

    def entry(self, host: str, epoch: str, number: int, entry: Entry | None) -> Change:
        """An entry is new, has changed, or (None) is gone."""
        if host == self._own:
            return Change()
        if self._snapshot is not None:
            self._snapshot.add((host, epoch, number))
        known = self._hosts.setdefault(host, _Host())
        entries = known.entries.setdefault(epoch, {})
        if entry is None:
            entries.pop(number, None)
        else:
            entries[number] = entry
        if epoch != known.epoch:
            return Change(stale=[(host, one) for one in self._drop_aborted(known)])
        return self._show(known, [number]) if known.until is not None else Change()

    @staticmethod
    def _drop_aborted(known: _Host) -> list[str]:
        """Of what a host began to tell and never completed, only the latest counts."""
        others = [epoch for epoch in known.entries if epoch != known.epoch][:-_ABORTED]
        for epoch in others:
            del known.entries[epoch]
        return others

    def lease(self, host: str, name: str, epoch: str, now: float) -> Change:
        """A host is heard of."""
        if host == self._own:
            return Change()
        if self._snapshot is not None:
            self._snapshot.add((host, "", 0))
        known = self._hosts.setdefault(host, _Host())
        change = Change()
        if known.until is None:
            change.awake.append(name)
        known.name, known.until = name, now + self._lease
        if epoch != known.epoch or change.awake:
            change.stale += [(host, other) for other in known.entries if other != epoch]
            known.epoch = epoch
            known.entries = {epoch: known.entries.get(epoch, {})}
            change += self._show(known, known.shown.keys() | known.entries[epoch].keys())
        return change

    def lease_gone(self, host: str) -> Change:
        """Its lease has expired, or was taken back."""
        known = self._hosts.get(host)
        if known is None:
            return Change()
        change = self._hide(known)
        if known.epoch:
            change.stale.append((host, known.epoch))
            known.entries.pop(known.epoch, None)
            known.epoch = ""
        if not known.entries:
            del self._hosts[host]
        return change

    # --- the whole anew ---------------------------------------------

    def begin_snapshot(self) -> None:
        """All that there is will be told once more, by a new watch."""
        self._snapshot = set()

    def end_snapshot(self) -> Change:
        """That was all. What a host that is there had before and was not told now is gone. Of whom no lease was told, nothing is
        concluded: the bucket may be new, and the host about to tell it everything."""
        seen, self._snapshot = self._snapshot or set(), None
        change = Change()
        for host, known in self._hosts.items():
            if (host, "", 0) not in seen or not known.epoch:
                continue
            entries = known.entries[known.epoch]
            gone = [number for number in entries if (host, known.epoch, number) not in seen]
            for number in gone:
                del entries[number]
            change += self._show(known, gone)
        return change

    # --- time ---------------------------------------------

    def pass_time(self, now: float) -> Change:
        """Hides what is registered on hosts that have been silent for too long."""
        change = Change()
        for known in self._hosts.values():
            if known.until is not None and known.until <= now:
                change += self._hide(known)
        return change

    def deadline(self) -> float | None:
        """When pass_time() will have something to do, if nothing is heard until then."""
        return min((known.until for known in self._hosts.values() if known.until is not None), default=None)

    # --- showing ---------------------------------------------

    def _show(self, known: _Host, numbers: Iterable[int]) -> Change:
        change = Change()
        entries = known.entries.get(known.epoch, {})
        for number in numbers:
            entry, before = entries.get(number), known.shown.get(number)
            if entry == before:
                continue
            if entry is None:
                change.drop.append(known.shown.pop(number))
            elif before is None and self.count() >= self._most:
                self.left_out += 1
            else:
                known.shown[number] = entry
                change.put.append(entry)
        return change

    def _hide(self, known: _Host) -> Change:
        if known.until is None:
            return Change()
        known.until = None
        change = Change(drop=list(known.shown.values()), silent=[known.name])
        known.shown.clear()
        return change

    def count(self) -> int:
        return sum(len(known.shown) for known in self._hosts.values())

    def whose(self, number: int) -> str:
        """The name of the host that shows this entry; "": none does."""
        return next((known.name for known in self._hosts.values() if number in known.shown), "")

    def hosts(self) -> dict[str, str]:
        """How each is, by name."""
        return {known.name: "silent" if known.until is None else "here" for known in self._hosts.values() if known.name}
