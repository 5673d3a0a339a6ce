"""Direct delivery, as the controller arranges it: which observable rings which client itself, for which keys.

A link is a pair of a store and a client. Its place in the registration table says what the client observes; the store's
owner is sent what it needs to ring: the client's bell page, which says whether it sleeps, and a socket. Until the owner has said
that it rings, and wherever it cannot, the controller tells the client of changes itself.

The controller makes the sockets, so nobody who was not given one can ring, and a ring never blocks an owner.
"""

from __future__ import annotations

import itertools
import logging
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvoshim._bell import Bell
from kvoshim._table import TableWriter
from kvoshim.kvo import wire
from kvoshim.kvo.controller import members
from kvoshim.kvo.controller.members import Members

if TYPE_CHECKING:
    from kvoshim.kvo.controller.entries import Registration, Store
    from kvoshim.kvo.controller.session import Session

log = logging.getLogger("kvoshim.controller")


_numbers = itertools.count(1)
# Keys of a store that are looked at one by one for a pattern. For a larger one each observation would cost the controller too
# much at once, so its processes are rung for all keys, and pick. What the controller tells of itself it sifts in any case.
_SIFTED = 4096


class Ear:
    """How one client is rung. Takes over the descriptor of its bell page; KvoshimError if that is none."""

    def __init__(self, page: int) -> None:
        self.number = next(_numbers)
        self.page = page
        self.hearing = -1  # the client's end, until it was sent
        try:
            ringing, hearing = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            with ringing:
                self.hearing = hearing.detach()
                self.bell = Bell(page, ringing.fileno())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.sent()
        if self.page >= 0:
            os.close(self.page)
            self.page = -1

    def sent(self) -> None:
        """The client has its end."""
        if self.hearing >= 0:
            os.close(self.hearing)
            self.hearing = -1


@dataclass(eq=False)
class Link:
    number: int
    row: int
    store: Store
    session: Session  # the observer's
    confirmed: bool = False  # the owner rings
    everything: set[Registration] = field(default_factory=set)
    sifted: set[Registration] = field(default_factory=set)  # of patterns
    by_key: Members = field(default_factory=dict)

    @property
    def registrations(self) -> list[Registration]:
        return [*self.everything, *self.sifted, *members.all_of(self.by_key)]

    @property
    def wanted(self) -> bool:
        """Whether there is a registration."""
        return bool(self.by_key or self.everything or self.sifted)


class Links:
    """All links. The catalog says who observes what, and asks here who has to be told by the controller."""

    def __init__(self, table: TableWriter) -> None:
        self._table = table
        self._free = list(range(table.links_max - 1, -1, -1))
        self._links: dict[int, Link] = {}
        self._count = 0

    # --- registrations ---------------------------------------------

    def join(self, registration: Registration, store: Store) -> None:
        """Adds a registration to the link of its client with a store, if there can be one. Before the store's own flags are
        raised for it: whoever sees those sees the link's."""
        session = registration.session
        link = store.links.get(session)
        if link is None:
            link = self._open(store, session)
            if link is None:
                return
        registration.link = link
        if registration.sieve is not None and store.monitor.slots_used() <= _SIFTED:
            link.sifted.add(registration)
            for slot, key in store.keys.items():
                if registration.sieve.lets(key):
                    self._table.set_linked(link.row, slot, True)
        elif registration.key is None:
            link.everything.add(registration)
        else:
            members.add(link.by_key, registration.key, registration)
            self.bind(link, registration.key)
        self.flags(link)

    def part(self, registration: Registration) -> None:
        """Takes it from its link again. The link stays, for the client's next one."""
        link, registration.link = registration.link, None
        if link is None:
            return
        key = registration.key
        link.everything.discard(registration)
        if registration in link.sifted:
            link.sifted.discard(registration)
            for slot, sifted in link.store.keys.items():
                if registration.sieve.lets(sifted):
                    self._table.set_linked(link.row, slot, self._wanted(link, sifted))
        if key in link.by_key:
            members.discard(link.by_key, key, registration)
            if key not in link.by_key and key in link.store.slots:
                self._table.set_linked(link.row, link.store.slots[key], self._wanted(link, key))
        self.flags(link)

    @staticmethod
    def _sifted(link: Link, key: str | None) -> bool:
        return key is not None and any(one.sieve.lets(key) for one in link.sifted)

    def _wanted(self, link: Link, key: str | None) -> bool:
        return key in link.by_key or self._sifted(link, key)

    def placed(self, store: Store, slot: int, key: str | None) -> None:
        """A key has come to a slot: those who observe patterns may want it."""
        for link in store.links.values():
            if link.sifted and len(store.keys) > _SIFTED:
                self._sift_no_more(link)
            elif link.sifted:
                self._table.set_linked(link.row, slot, self._wanted(link, key))

    def _sift_no_more(self, link: Link) -> None:
        """The store has come to have too many keys."""
        link.everything |= link.sifted
        link.sifted.clear()
        self.flags(link)
        for slot, key in link.store.keys.items():
            self._table.set_linked(link.row, slot, key in link.by_key)

    @property
    def unsifted(self) -> int:
        """Observations of patterns whose processes are rung for all keys."""
        return sum(one.sieve is not None for link in self._links.values() for one in link.everything)

    @staticmethod
    def sifts(registration: Registration) -> bool:
        """Whether its client is only rung for keys that it may be about."""
        return registration.link is not None and registration in registration.link.sifted

    def bind(self, link: Link, key: str) -> None:
        """A key's slot, if it has one, counts for the link."""
        slot = link.store.slots.get(key)
        if slot is not None:
            self._table.set_linked(link.row, slot, True)

    def bound(self, store: Store, key: str, slot: int, on: bool) -> None:
        """An observed key has come to a slot, or is about to lose it."""
        for link in store.links.values():
            if key in link.by_key:
                self._table.set_linked(link.row, slot, on or self._sifted(link, store.keys.get(slot)))

    def flags(self, link: Link) -> None:
        missing = link.store.missing
        new = bool(missing) and any(key in missing for key in link.by_key)
        self._table.set_link_flags(link.row, bool(link.by_key or link.sifted), bool(link.everything), new)

    # --- links ---------------------------------------------

    def _open(self, store: Store, session: Session) -> Link | None:
        """Asks the owner to ring a client."""
        owner, ear = store.owner, session.ear
        if ear is None or owner is None or owner.closed or owner.channel is None:
            return None
        if not self._free:
            self._close_one_unused()
        if not self._free:
            return None
        self._count += 1
        link = Link(self._count, self._free.pop(), store, session)
        self._table.open_link(link.row, store.number, session.pid, session.start)
        store.links[session] = self._links[link.number] = link
        page, bell = owner.send_descriptor(ear.page), owner.send_descriptor(ear.bell.fd)
        owner.send(wire.Link(store.name, link.number, link.row, ear.number, page, bell))
        return link

    def _close_one_unused(self) -> None:
        for link in self._links.values():
            if not link.wanted:
                self.close(link)
                return

    def confirmed(self, owner: Session, number: int, ok: bool) -> Link | None:
        """The owner's answer; the link, if it begins to count."""
        link = self._links.get(number)
        if link is None or link.store.owner is not owner or link.confirmed:
            return None
        if not ok:
            log.info("%s does not ring %s", owner, link.session)
            return None
        link.confirmed = True
        return link

    def close(self, link: Link) -> list[Registration]:
        """Ends a link; returns the registrations that the controller has to care for now."""
        registrations = link.registrations
        for registration in registrations:
            registration.link = None
        owner = link.store.owner
        if owner is not None and not owner.closed:
            owner.send(wire.Unlink(link.store.name, link.number))
        if link.confirmed and not link.session.closed:
            link.session.send(wire.Direct(link.store.name, False))
        link.store.links.pop(link.session, None)
        del self._links[link.number]
        self._table.close_link(link.row)
        self._free.append(link.row)
        return registrations

    def all(self) -> list[Link]:
        return list(self._links.values())

    def of(self, session: Session) -> list[Link]:
        """The links over which a client is rung."""
        return [link for link in self._links.values() if link.session is session]

    # --- repair ---------------------------------------------

    @staticmethod
    def ring(store: Store) -> None:
        """Rings all that sleep, in the owner's place: a ring may have been lost with a process that was stopped."""
        for link in store.links.values():
            if link.confirmed and link.session.ear is not None and link.wanted:
                link.session.ear.bell.ring()

    @staticmethod
    def look(store: Store) -> None:
        """Lets all compare: something may not have been announced."""
        for link in store.links.values():
            if link.confirmed and link.wanted:
                link.session.let_look(store.name)
