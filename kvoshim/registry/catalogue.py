"""The registry's knowledge as plain data: who is registered under which name, and whose the name is. No input or output.

The instances of a name stand in one line. The first owns the name and holds a fencing token; the others wait. So a name
can have one owner, for those who need exactly one, or just several instances, for those who take any. The rules are those
of D-Bus's names:

    asks                the name has an owner                                  it has none
    (default)           waits at the end of the line                           owns it
    queue=False         refused, NameInUseError                                owns it
    replace=True        owns it if the owner said allow_replacement, which     owns it
                        then stands second, or goes if it said queue=False

A token is the number of an ownership: each is higher than all that any registry gave before (ledger.py), so whoever is
written to by an owner can refuse one that does not know yet that it was replaced.

A registry that takes the place of one that died is unsettled at first. Those who were registered come back (`restore`)
with id, serial number and token that they had, and nobody new gets a name that may be somebody's. settle() ends it.
"""

from __future__ import annotations

import os
from bisect import insort
from collections.abc import Hashable
from dataclasses import dataclass

import msgspec

from kvoshim.errors import LimitError, NameInUseError, UnknownNameError
from kvoshim.registry.entry import Entry, Offer, check_offer


@dataclass(frozen=True)
class Who:
    """The process that registers."""

    pid: int
    start: int
    uid: int
    program: str = ""


@dataclass(frozen=True)
class Former:
    """What an instance was with the registry before."""

    id: int
    serial: int
    token: int
    since: float


@dataclass(frozen=True)
class Outcome:
    """An entry is new or has changed (gone: it is no more). owned, lost: with this it came to its name, or was replaced."""

    entry: Entry
    holder: Hashable
    gone: bool = False
    owned: bool = False
    lost: bool = False


class _Member:
    __slots__ = ("entry", "holder", "offer")

    def __init__(self, entry: Entry, holder: Hashable, offer: Offer) -> None:
        self.entry = entry
        self.holder = holder
        self.offer = offer

    def change(self, **fields) -> None:
        self.entry = msgspec.structs.replace(self.entry, **fields)


class Catalogue:
    """base: ids and tokens are above. Each operation gives its outcomes in the order in which they came about."""

    def __init__(self, base: int, host: str, reach: str, settled: bool = True, most: int = 16384) -> None:
        self.host = host
        self.reach = reach
        self.settled = settled
        self.most = most  # entries
        self._base = self._last = base
        self._members: dict[int, _Member] = {}
        self._lines: dict[str, list[_Member]] = {}  # by name; the owner first, if there is one
        self._held: dict[Hashable, dict[int, _Member]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, number: int) -> bool:
        return number in self._members

    def entry(self, number: int) -> Entry:
        """UnknownNameError."""
        return self._member(number).entry

    def holder(self, number: int) -> Hashable:
        return self._member(number).holder

    def held(self, holder: Hashable) -> list[Entry]:
        return [member.entry for member in self._held.get(holder, {}).values()]

    def holds(self, holder: Hashable) -> bool:
        """Whether it has anything registered."""
        return holder in self._held

    def line(self, name: str) -> list[Entry]:
        """The instances of a name: the owner, then who waits."""
        return [member.entry for member in self._lines.get(name, ())]

    def _member(self, number: int) -> _Member:
        if number not in self._members:
            raise UnknownNameError(f"nothing is registered under number {number}")
        return self._members[number]

    def _next(self) -> int:
        self._last += 1
        return self._last

    # --- coming ---------------------------------------------

    def register(self, holder: Hashable, who: Who, offer: Offer, now: float) -> list[Outcome]:
        """The new entry is the last outcome's. InvalidEntryError, NameInUseError, LimitError."""
        check_offer(offer)
        line = self._lines.get(offer.name, [])
        owner = line[0] if line and line[0].entry.token else None
        replaces = owner is not None and offer.replace and owner.offer.allow_replacement
        if (owner is not None or not self.settled) and not replaces and not offer.queue:
            raise NameInUseError(f"{offer.name!r} is owned by PID {owner.entry.pid}" if owner else f"{offer.name!r} may have an owner")
        self._check_room()
        member = self._new(holder, who, offer, Former(self._next(), 0, 0, now))
        line = self._lines.setdefault(offer.name, [])
        if replaces:
            return self._replace(line, member)
        line.append(member)
        if owner is None and self.settled:
            return [self._own(line)]
        return [Outcome(member.entry, holder)]

    def restore(self, holder: Hashable, who: Who, offer: Offer, former: Former) -> list[Outcome]:
        """As register(), for what another registry had registered already. The caller has made sure that `former` is true.
        Whoever owned the name still does, unless somebody else does by now."""
        check_offer(offer)
        if former.id in self._members or former.id > self._base:
            return self.register(holder, who, offer, former.since)
        self._check_room()
        member = self._new(holder, who, offer, former)
        line = self._lines.setdefault(offer.name, [])
        owner = line[0] if line and line[0].entry.token else None
        if self.settled or not 0 < former.token <= self._base or owner is not None and owner.entry.token >= former.token:
            lost = former.token > 0
            insort(line, member, lo=1 if owner else 0, key=_place)
            if self.settled and owner is None:
                return [self._own(line)]
            return [Outcome(member.entry, holder, lost=lost)]
        outcomes = []
        if owner is not None:  # only if the one before died amid a replacement
            owner.change(token=0)
            line.remove(owner)
            insort(line, owner, key=_place)
            outcomes.append(Outcome(owner.entry, owner.holder, lost=True))
        member.change(token=former.token)
        line.insert(0, member)
        return [*outcomes, Outcome(member.entry, holder)]

    def settle(self) -> list[Outcome]:
        """Nobody else comes back: names whose owners did not are given to the next in line."""
        if self.settled:
            return []
        self.settled = True
        return [self._own(line) for line in self._lines.values() if not line[0].entry.token]

    def _check_room(self) -> None:
        if len(self._members) >= self.most:
            raise LimitError(f"the registry has {self.most} entries, its limit")

    def _new(self, holder: Hashable, who: Who, offer: Offer, former: Former) -> _Member:
        taken = {member.entry.serial for member in self._lines.get(offer.name, ())}
        serial = former.serial
        if not serial or serial in taken:
            serial = next(number for number in range(1, len(taken) + 2) if number not in taken)
        entry = Entry(
            former.id, offer.name, serial, self.host, who.pid, who.start, who.uid, offer.address, offer.version, offer.metadata,
            0, False, former.since, who.program, self.reach,
        )  # fmt: skip
        member = self._members[entry.id] = _Member(entry, holder, offer)
        self._held.setdefault(holder, {})[entry.id] = member
        return member

    def _own(self, line: list[_Member]) -> Outcome:
        member = line[0]
        member.change(token=self._next())
        return Outcome(member.entry, member.holder, owned=True)

    def _replace(self, line: list[_Member], member: _Member) -> list[Outcome]:
        """Puts a member, which may be in the line, in the owner's place."""
        old = line[0]
        if member in line:
            line.remove(member)
        if old.offer.queue:
            old.change(token=0)
            outcomes = [Outcome(old.entry, old.holder, lost=True)]
            line.insert(0, member)
        else:
            self._forget(old)
            outcomes = [Outcome(old.entry, old.holder, gone=True, lost=True)]
            line[0] = member
        return [*outcomes, self._own(line)]

    # --- changing ---------------------------------------------

    def update(self, number: int, offer: Offer) -> list[Outcome]:
        """Changes what an instance offers and its flags, not its place in the line; with replace=True it may become the owner.
        The last outcome is its own. InvalidEntryError, UnknownNameError."""
        member = self._member(number)
        check_offer(msgspec.structs.replace(offer, name=member.entry.name))
        line = self._lines[member.entry.name]
        member.offer = msgspec.structs.replace(offer, name=member.entry.name)
        member.change(address=offer.address, version=offer.version, metadata=offer.metadata)
        owner = line[0]
        if offer.replace and owner is not member and owner.entry.token and owner.offer.allow_replacement:
            return self._replace(line, member)
        return [Outcome(member.entry, member.holder)]

    def suspect(self, holder: Hashable, suspect: bool) -> list[Outcome]:
        """Marks all of a holder's entries, or takes the mark away."""
        outcomes = []
        for member in self._held.get(holder, {}).values():
            if member.entry.suspect != suspect:
                member.change(suspect=suspect)
                outcomes.append(Outcome(member.entry, holder))
        return outcomes

    # --- going ---------------------------------------------

    def deregister(self, number: int) -> list[Outcome]:
        """UnknownNameError."""
        member = self._member(number)
        line = self._lines[member.entry.name]
        line.remove(member)
        self._forget(member)
        outcomes = [Outcome(member.entry, member.holder, gone=True)]
        if not line:
            del self._lines[member.entry.name]
        elif member.entry.token and self.settled:
            outcomes.append(self._own(line))
        return outcomes

    def leave(self, holder: Hashable) -> list[Outcome]:
        """The holder has ended: all of its entries go. Those that wait go first, so that none of them comes to a name."""
        numbers = sorted(self._held.get(holder, ()), key=lambda number: self._members[number].entry.token > 0)
        return [outcome for number in numbers for outcome in self.deregister(number)]

    def _forget(self, member: _Member) -> None:
        del self._members[member.entry.id]
        held = self._held[member.holder]
        del held[member.entry.id]
        if not held:
            del self._held[member.holder]

    def entries(self) -> list[Entry]:
        return [member.entry for member in self._members.values()]


def _place(member: _Member) -> int:
    """Who was there first: for those of a line that do not own the name."""
    return member.entry.id


def local_host() -> str:
    """What this host is called in entries."""
    return os.uname().nodename
