"""The registration manager: who observes what, and whether the observable itself tells of it or the controller."""

from __future__ import annotations

import logging
import time

from kvoshim._values import check_key
from kvoshim.errors import DeliveryError, LimitError, UnknownNameError
from kvoshim.kvo import wire
from kvoshim.kvo.controller import members
from kvoshim.kvo.controller.entries import Registration, Store
from kvoshim.kvo.controller.links import Link
from kvoshim.kvo.controller.session import Session
from kvoshim.kvo.keys import Sieve

log = logging.getLogger("kvoshim.controller")


class Registering:
    """Part of Catalog."""

    def register(self, session: Session, message: wire.Observe, name: str) -> Registration:
        """Adds a registration of `name`. From here on every change of its key reaches the session's `pending`, or its client is
        rung by the observable."""
        if message.key is not None:
            check_key(message.key)
        sieve = (Sieve(message.pattern) or None) if message.key is None and message.pattern is not None else None
        if message.direct > 1 and not self.direct:
            raise DeliveryError("the controller does not let observables ring this process; use delivery='auto'")
        store = self.stores.get(name)
        if store is None and not message.wait:
            raise UnknownNameError(f"no observable is known by the name {name!r}")
        if message.registration in session.registrations:
            self.unregister(session, message.registration)
        if len(session.registrations) >= self.limits.registrations_per_client:
            raise LimitError(f"a client may observe {self.limits.registrations_per_client} keys at a time")
        session.account.admit_registration(self.limits.per_user)
        name, key = (name, message.key) if store is None else (store.name, self._known(store, message.key))
        row = self.table.add_row(session.pid, session.start, name, key, time.time_ns())
        registration = Registration(session, message.registration, name, key, row, bool(message.direct), sieve)
        session.registrations[message.registration] = registration
        self.counts.registered += 1
        if 0 < message.last < wire.REVISION_MAX and (store is None or store.monitor.instance != message.instance):
            # An observer that has seen higher versions: the name's owner must go on above them. One version
            # more is left for the removal that an observer infers if a key has gone with the store.
            self._go_above(name, message.last + 1, message.instance)
        if store is None:
            self._await(name, {registration})
        else:
            self._enter(registration, store)
            self.look(store)
        log.info(
            "%s observes %s of %r%s",
            session,
            repr(message.key or message.pattern) if message.key or message.pattern else "all keys",
            name,
            "" if store else ", which is not there yet",
        )
        return registration

    @staticmethod
    def _known(store: Store, key: str | None) -> str | None:
        """The key as its store is known to have it: one text for all that is noted of it."""
        slot = -1 if key is None else store.monitor.slot_of(key)
        known = store.monitor.key_of(slot) if slot >= 0 else None
        return known if known == key else key

    def unregister(self, session: Session, number: int) -> None:
        """Ends a registration; an unknown one is no error."""
        registration = session.registrations.pop(number, None)
        if registration is None:
            return
        self.table.remove_row(registration.row)
        store = registration.store
        if store is None:
            waiting = self._waiting.get(registration.name)
            if waiting is not None:
                waiting.discard(registration)
                if not waiting:
                    del self._waiting[registration.name]
            return
        key = registration.key
        self.links.part(registration)
        self._tell(registration, False)
        if key is None:
            store.everything.discard(registration)
            store.sieves -= registration.sieve is not None
            if not store.sieves:
                store.keys = {}
        else:
            members.discard(store.by_key, key, registration)
            if key not in store.by_key:
                store.missing.discard(key)
                if key in store.slots:
                    self._unbind(store, store.slots[key])
        store.monitor.name_all(bool(store.everything))
        self._tell_owner(store)
        if not store.observed:
            self._unwatch(store)

    def _enter(self, registration: Registration, store: Store) -> None:
        """Ties a registration to a store; a look at the store follows. The order is what makes it safe: first the owner is told
        (the table's writes end in a full fence), then keys and versions are read; a value set in between is seen here or marked
        dirty there. Where there are so many keys that a look does not find them all, later ones do, and tell of it."""
        registration.store = store
        self.table.bind_row(registration.row, store.monitor.owner_pid, store.number)
        if registration.key is None:
            store.everything.add(registration)
            if registration.sieve is not None:
                store.sieves += 1
                if store.sieves == 1:
                    store.monitor.rediscover()
        else:
            if registration.key not in store.by_key:
                store.missing.add(registration.key)
            members.add(store.by_key, registration.key, registration)
        if registration.direct and self.direct:
            self.links.join(registration, store)
        self._tell(registration, registration.link is None or not registration.link.confirmed)
        if store.owner is not None:
            self._watched.add(store)
        self._tell_owner(store)
        if registration.key in store.missing and (slot := store.monitor.slot_of(registration.key)) >= 0:
            self._settle(store, slot)
        store.monitor.name_all(bool(store.everything))

    def _tell_owner(self, store: Store) -> None:
        new = bool(store.missing or store.sieves)
        self.table.set_flags(store.number, bool(store.bound), bool(store.everything), new)
        every = None in store.told
        self.table.set_told_flags(store.number, len(store.told) > every, every, new)
        if store.owner is not None and (store.told or new):
            self._calling.add(store)
        else:
            self._calling.discard(store)

    def _tell(self, registration: Registration, told: bool) -> None:
        """Notes whether the controller has to tell of a registration's changes."""
        if registration.told == told:
            return
        registration.told = told
        store, key = registration.store, registration.key
        count = store.told[key] = store.told.get(key, 0) + (1 if told else -1)
        if not count:
            del store.told[key]
        if key in store.slots:
            self.table.set_told(store.number, store.slots[key], count > 0)

    # --- direct delivery ---------------------------------------------

    def let_ring(self, on: bool) -> None:
        """Whether observables may ring observers: the policy. What is observed already goes through the controller from now on
        if they may not."""
        self.direct = on
        if not on:
            for link in self.links.all():
                self._part(link)

    def join(self, session: Session) -> None:
        """A client can be rung from now on."""
        for registration in session.registrations.values():
            if registration.direct and self.direct and registration.link is None and registration.store is not None:
                self.links.join(registration, registration.store)

    def linked(self, owner: Session, number: int, ok: bool) -> None:
        """An owner rings a client, or does not."""
        link = self.links.confirmed(owner, number, ok)
        if link is None:
            return
        # Whoever was written to before the owner knew of the link has marked the ring for the controller.
        self.look(link.store)
        if link.store.behind:  # what is left will be nobody's to tell
            link.session.let_look(link.store.name)
        for registration in link.registrations:
            self._tell(registration, False)
        self._tell_owner(link.store)
        link.session.send(wire.Direct(link.store.name, True))

    def deafen(self, session: Session) -> None:
        """A client can no longer be rung."""
        for link in self.links.of(session):
            self._part(link)
        session.stop_hearing()

    def unlink(self, session: Session, name: str) -> None:
        """A client may not observe a name any more: its owner lets go of what it rang it with."""
        store = self.stores.get(name)
        if store is not None and session in store.links:
            self.links.close(store.links[session])

    def _part(self, link: Link) -> None:
        """Ends a link: from here on the controller tells of what it was for, and what went by meanwhile is compared."""
        store = link.store
        for registration in self.links.close(link):
            self._tell(registration, True)
        self._tell_owner(store)
        if link.confirmed and not link.session.closed:
            link.session.let_look(store.name)
