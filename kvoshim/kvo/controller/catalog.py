"""What the controller knows: observables with their stores, registrations, and which store was written to.

An observable's life:

    claimed   a client has asked for the name; nobody sees it yet; it takes over what a predecessor left
    live      its store is published and its owner connected
    retained  its owner has closed it or died: the last values stay readable under the name
    dropped   discarded by its owner, replaced by a successor, or retained for long enough

A registration is bound to a name, not to a store: it waits while nobody has published the name, and moves to
the successor's store by itself. Within a store it is bound to a slot as soon as its key has one.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kvoshim._monitor import Monitor
from kvoshim._table import TableWriter
from kvoshim._values import check_key, check_name
from kvoshim.errors import (
    AmbiguousTargetError,
    CorruptStoreError,
    DeliveryError,
    LimitError,
    NameInUseError,
    ProtocolError,
    UnknownNameError,
)
from kvoshim.kvo import wire
from kvoshim.kvo.controller.links import Link, Links
from kvoshim.kvo.controller.metrics import Counts
from kvoshim.kvo.controller.quota import Limits
from kvoshim.kvo.controller.session import Session
from kvoshim.kvo.keys import Sieve

log = logging.getLogger("kvoshim.controller")

_FLOORS_MAX = 4096
_TURN_S = 0.0005  # of looking at one store, before the others and all clients have their turn
_AT_ONCE = 64  # changes that are taken at a time
_SLOTS_AT_ONCE = 1024  # slots of which is found which keys they stand for


@dataclass(eq=False, slots=True)
class Registration:
    session: Session
    number: int
    name: str
    key: str | None
    row: int
    since: float
    direct: bool = False  # rather from the observable itself
    sieve: Sieve | None = None  # of a pattern: the keys that it may be about
    store: Store | None = None
    link: Link | None = None
    told: bool = False  # by the controller: it is counted in the store's `told`


@dataclass(eq=False)
class Store:
    number: int  # its entry in the registration table
    name: str
    fd: int
    monitor: Monitor
    owner: Session | None
    program: str
    uid: int  # of whoever has published it
    size: int
    base: int = 0  # its revision when it was published, and what it was raised by since
    ended: float = 0.0
    everything: set[Registration] = field(default_factory=set)  # registrations of all keys
    by_key: dict[str, set[Registration]] = field(default_factory=dict)
    bound: dict[int, str] = field(default_factory=dict)  # slot -> observed key
    slots: dict[str, int] = field(default_factory=dict)  # and back
    missing: set[str] = field(default_factory=set)  # observed keys that have no slot
    links: dict[Session, Link] = field(default_factory=dict)  # clients that its owner rings, or is asked to
    told: dict[str | None, int] = field(default_factory=dict)  # key -> registrations that the controller has to tell
    repaired: int = -1  # its revision when it was last compared
    doubt: bool = False  # changes were too quick to be followed: when they end, those who are rung directly compare
    written: bool = False  # since it was compared last
    sieves: int = 0  # registrations of patterns
    keys: dict[int, str] = field(default_factory=dict)  # slot -> key, while there are any
    todo: deque[tuple[int, int | None]] = field(default_factory=deque)  # slots to be looked at; what count of writes is to be told
    behind: bool = False  # has more to be looked at than fits in a turn
    looked: int = 0  # in which turn it was looked at last

    @property
    def observed(self) -> bool:
        return bool(self.everything or self.by_key)


class Catalog:
    """Registration manager and monitoring engine. Notifications are left in the sessions' `pending`."""

    def __init__(self, table: TableWriter, limits: Limits) -> None:
        self.table = table
        self.limits = limits
        self.stores: dict[str, Store] = {}
        self.links = Links(table)
        self.direct = True  # whether observables may ring observers
        self._watched: set[Store] = set()  # live and observed
        self._calling: set[Store] = set()  # those that the controller has to look at as soon as they are written to
        self._repairing: set[Store] = set()  # those of which all is being compared
        self._claims: dict[str, Session] = {}
        self._waiting: dict[str, set[Registration]] = {}  # by name, while there is no store
        self._floors: dict[str, tuple[int, bytes]] = {}  # versions seen of a name, and in which store
        self._numbers = list(range(limits.stores - 1, -1, -1))
        self._turn = 0
        self.changed: set[Session] = set()  # sessions that have something to be sent
        self.counts = Counts()

    # --- observables ---------------------------------------------

    def claim(self, session: Session, name: str, instance: bytes) -> tuple[int, int]:
        """Reserves a name; returns the versions that observers saw of it, and the predecessor's descriptor
        (-1: none)."""
        check_name(name)
        store = self.stores.get(name)
        owner = store.owner if store is not None else None
        if owner is not None or self._claims.get(name, session) is not session:
            raise NameInUseError(
                f"the name {name!r} belongs to {owner or self._claims[name]}; names are unique for one "
                "controller"
            )
        if len(session.names) >= self.limits.names_per_client:
            raise LimitError(f"a client may publish {self.limits.names_per_client} observables at a time")
        if name not in session.names:
            session.account.admit_name(self.limits.per_user)
        self._claims[name] = session
        session.names.add(name)
        floor, seen_in = self._floors.get(name, (0, b""))
        if seen_in == instance:
            floor = 0
        return floor, -1 if store is None else store.fd

    def forget_claim(self, session: Session, name: str) -> None:
        """Gives up a name that was claimed and not published."""
        if self._claims.get(name) is session:
            del self._claims[name]
            session.names.discard(name)

    def holder(self, name: str) -> Session | None:
        """The session whose death would free the name."""
        store = self.stores.get(name)
        return store.owner if store is not None and store.owner is not None else self._claims.get(name)

    def publish(self, session: Session, name: str, fd: int) -> tuple[Store, set[Registration]]:
        """Takes over the store of a name that was claimed, or that the session publishes already; `fd` is the catalog's from
        here, whatever happens. Returns the store, and the registrations for move_in()."""
        try:
            old = self.stores.get(name)
            if self._claims.get(name) is not session and (old is None or old.owner is not session):
                raise ProtocolError(f"the name {name!r} was not claimed")
            monitor = Monitor(fd)
            if monitor.name != name:
                raise CorruptStoreError(f"the store published as {name!r} calls itself {monitor.name!r}")
            if session.pid and monitor.owner_pid != session.pid:
                raise CorruptStoreError(
                    f"the store of {name!r} says that it belongs to PID {monitor.owner_pid}, but "
                    f"PID {session.pid} sent it"
                )
            size = os.fstat(fd).st_size
            self._admit_bytes(session, size, old)
            if old is None and not self._numbers:
                self._drop_oldest()
            if old is None and not self._numbers:
                raise LimitError(f"the controller serves {self.limits.stores} observables at a time")
        except BaseException:
            os.close(fd)
            self.forget_claim(session, name)
            raise
        moving = self._drop(old) if old is not None else self._waiting.pop(name, set())
        number = self._numbers.pop()
        store = Store(number, name, fd, monitor, session, session.program, session.uid, size)
        self.stores[name] = store
        store.base = monitor.highest()
        self._claims.pop(name, None)
        log.info("%s publishes %r", session, name)
        return store, moving

    def move_in(self, store: Store, registrations: set[Registration]) -> None:
        """Ties those who observe a name to its new store, once the owner knows the store's place in the table."""
        floor, seen_in = self._floors.pop(store.name, (0, b""))
        if floor and seen_in != store.monitor.instance:
            self._raise(store, floor)  # if it became known after the claim was answered
        for registration in registrations:
            self._enter(registration, store)
        self.look(store)

    def _admit_bytes(self, session: Session, size: int, old: Store | None) -> None:
        """Room for a store in its client's and its user's share; what is kept of the user's ended observables goes first."""
        others = [store for store in self.stores.values() if store.uid == session.uid and store is not old]
        most = self.limits.store_bytes_per_client
        if size + sum(store.size for store in others if store.owner is session) > most:
            raise LimitError(f"the stores of a client may have {most} bytes together")
        if session.account.trusted:
            return
        kept = sorted((store for store in others if store.owner is None), key=lambda store: store.ended, reverse=True)
        total = size + sum(store.size for store in others)
        while kept and total > self.limits.per_user.store_bytes:
            total -= kept[-1].size
            self._forget(kept.pop())
        session.account.admit_bytes(total, self.limits.per_user)

    def _raise(self, store: Store, floor: int) -> None:
        store.base += max(0, floor - store.monitor.highest())
        store.owner.send(wire.Raise(store.name, floor))

    def interested(self, name: str) -> set[Session]:
        """The sessions that observe the name or have its store open."""
        store = self.stores.get(name)
        registrations: Iterable[Registration] = self._waiting.get(name, ())
        sessions = {registration.session for registration in registrations}
        if store is not None:
            sessions.update(registration.session for registration in self._registrations(store))
        return sessions

    def end(self, store: Store, discard: bool = False) -> None:
        """The owner is gone; its values are retained or dropped. What it wrote last is found by the observers, who compare
        all when they are told."""
        for link in list(store.links.values()):
            self._part(link)
        if store.owner is not None:
            store.owner.names.discard(store.name)
        log.info(
            "observable %r of PID %d has ended%s",
            store.name,
            store.monitor.owner_pid,
            ", its values are discarded" if discard else "",
        )
        store.owner = None
        store.ended = time.monotonic()
        self._unwatch(store)
        if discard:
            self._forget(store)
        elif sum(store.owner is None for store in self.stores.values()) > self.limits.retained:
            self._drop_oldest()

    def expire(self) -> None:
        """Drops what has been retained for long enough and is not observed."""
        if not self.limits.retain_s:
            return
        horizon = time.monotonic() - self.limits.retain_s
        for store in list(self.stores.values()):
            if store.owner is None and store.ended < horizon and not store.observed:
                self._forget(store)

    def _drop_oldest(self) -> None:
        ended = [store for store in self.stores.values() if store.owner is None]
        if ended:
            store = min(ended, key=lambda store: store.ended)
            self._forget(store)

    @staticmethod
    def above(store: Store) -> int:
        """What a successor's revisions have to be above."""
        floor = store.monitor.highest() + 1
        return floor if floor < wire.REVISION_MAX else wire.REVISION_FRESH

    def _forget(self, store: Store) -> None:
        """Drops a store that no other replaces; a successor will go on above its versions."""
        if len(self._floors) < _FLOORS_MAX:
            self._floors[store.name] = self.above(store), store.monitor.instance
        self._await(store.name, self._drop(store))

    def _drop(self, store: Store) -> set[Registration]:
        """Forgets a store; returns its registrations, which have no store now."""
        moving = set(self._registrations(store))
        for link in list(store.links.values()):
            self.links.close(link)
        for registration in moving:
            registration.store, registration.told = None, False
            self.table.bind_row(registration.row, 0, None)
        del self.stores[store.name]
        self.counts.dropped(store)
        self._unwatch(store)
        self._numbers.append(store.number)
        self.table.clear(store.number)
        store.monitor.close()
        os.close(store.fd)
        return moving

    def _await(self, name: str, registrations: set[Registration]) -> None:
        if registrations:
            self._waiting.setdefault(name, set()).update(registrations)

    @staticmethod
    def _registrations(store: Store) -> Iterable[Registration]:
        yield from store.everything
        for registrations in store.by_key.values():
            yield from registrations

    def close(self) -> None:
        """Releases all stores."""
        for store in list(self.stores.values()):
            self._drop(store)

    # --- registrations ---------------------------------------------

    def resolve(self, target: str | int, visible: Callable[[str], bool] = lambda name: True) -> str:
        """The name that a target stands for: itself, or that of the process's only observable (that is visible)."""
        if isinstance(target, str):
            check_name(target)
            return target
        stores = [store for store in self.stores.values() if store.monitor.owner_pid == target and visible(store.name)]
        stores = [store for store in stores if store.owner is not None] or stores
        if not stores:
            raise UnknownNameError(f"no observable is known of the process with PID {target}")
        if len(stores) > 1:
            names = ", ".join(sorted(repr(store.name) for store in stores))
            raise AmbiguousTargetError(
                f"PID {target} has several observables: {names}; name the one that is meant"
            )
        return stores[0].name

    def store_of(self, name: str) -> Store:
        store = self.stores.get(name)
        if store is None:
            raise UnknownNameError(f"no observable is known by the name {name!r}")
        return store

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
        now = time.time()
        name = name if store is None else store.name  # the same object for all
        row = self.table.add_row(session.pid, session.start, name, message.key, int(now * 1e9))
        registration = Registration(session, message.registration, name, message.key, row, now, bool(message.direct), sieve)
        session.registrations[message.registration] = registration
        self.counts.registered += 1
        if 0 < message.last < wire.REVISION_MAX and (store is None or store.monitor.instance != message.instance):
            # An observer that has seen higher versions: the name's owner must go on above them. One version
            # more is left for the removal that an observer infers if a key has gone with the store.
            floor = message.last + 1
            if store is not None and store.owner is not None:
                self._raise(store, floor)
            elif floor > self._floors.get(name, (0, b""))[0] and len(self._floors) < _FLOORS_MAX:
                self._floors[name] = floor, message.instance
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
            registrations = store.by_key[key]
            registrations.discard(registration)
            if not registrations:
                del store.by_key[key]
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
                store.by_key[registration.key] = set()
                store.missing.add(registration.key)
            store.by_key[registration.key].add(registration)
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

    def _settle(self, store: Store, slot: int) -> str | None:
        """Takes in which key a slot stands for now, and lets those who observe it look if it is another one."""
        key, old, before = store.monitor.key_of(slot), store.bound.get(slot), store.keys.get(slot)
        if old is not None and old != key:
            # The key was removed and its slot given to another one.
            self._unbind(store, slot)
            store.missing.add(old)
            self._tell_owner(store)
            self._notify(store.by_key[old], slot, store.monitor.slot_version(slot), all_of_them=True)
            if (other := store.monitor.slot_of(old)) >= 0:
                store.todo.append((other, None))
        if key in store.missing:
            self._bind(store, key, slot)
        if store.sieves and before != key:  # who observes it is rung from now on
            if key is None:
                del store.keys[slot]
            else:
                store.keys[slot] = key
            self.links.placed(store, slot, key)
            patterns = [
                one
                for one in store.everything
                if one.sieve is not None and (before is not None or not one.told and self.links.sifts(one))
            ]
            self._notify(_sifted(patterns, before, key), slot, store.monitor.slot_version(slot), all_of_them=True)
        return key

    def _bind(self, store: Store, key: str, slot: int) -> None:
        """An observed key has a slot, and its observers look."""
        store.missing.discard(key)
        store.bound[slot] = key
        store.slots[key] = slot
        self.links.bound(store, key, slot, True)
        self.table.set_told(store.number, slot, key in store.told)
        self.table.set_observed(store.number, slot, True)
        self._tell_owner(store)
        self._notify(store.by_key[key], slot, store.monitor.name_slot(slot, True), all_of_them=True)
        for link in store.links.values():
            if key in link.by_key:
                self.links.flags(link)

    def _unbind(self, store: Store, slot: int) -> None:
        key = store.bound.pop(slot)
        self.links.bound(store, key, slot, False)
        del store.slots[key]
        store.monitor.name_slot(slot, False)
        self.table.set_observed(store.number, slot, False)
        self.table.set_told(store.number, slot, False)

    # --- monitoring ---------------------------------------------

    def waiting(self) -> bool:
        """The second look before sleeping: whether any store was written to that the controller has to tell of."""
        return any(self._due(store) for store in self._calling | self._repairing)

    def _due(self, store: Store) -> bool:
        return store.behind or store in self._repairing or store.monitor.called()

    def look_all(self) -> bool:
        """Takes in what was written, for as long as a turn of each store lasts; whether there was anything. Of the stores that
        have more for us than that, only one has its turn before everybody else's is served again."""
        self._turn += 1
        waiting = [store for store in self._calling | self._repairing if self._due(store)]
        behind = [store for store in waiting if store.behind]
        for store in waiting:
            if not store.behind:
                self.look(store)
        if behind:
            self.look(min(behind, key=lambda store: store.looked))
        return bool(waiting)

    def repair(self) -> None:
        """Has all versions compared with those told: finds what a writer stored but was stopped from saying."""
        for store in self._watched:
            revision, written = store.monitor.highest(), store.monitor.waiting()
            if revision != store.repaired or written or store.doubt:
                store.repaired, store.written = revision, written
                store.monitor.compare()
                self._repairing.add(store)

    def _compared(self, store: Store) -> None:
        """What follows for those who are rung directly."""
        self._repairing.discard(store)
        over, unannounced = store.monitor.ran_over(), store.monitor.unannounced()
        if not store.links:
            return
        if over:
            store.doubt = True
        elif unannounced or store.doubt and not store.written:
            store.doubt = False
            self.links.look(store)
        if store.written:
            self.links.ring(store)

    def _unwatch(self, store: Store) -> None:
        for stores in (self._watched, self._calling, self._repairing):
            stores.discard(store)

    @property
    def watching(self) -> bool:
        return bool(self._watched)

    def look(self, store: Store) -> None:
        """Leaves a notification for each change in one store, as long as its turn lasts."""
        store.looked = self._turn
        monitor, todo = store.monitor, store.todo
        end = time.monotonic() + _TURN_S
        store.behind = True
        while store.behind and time.monotonic() < end:
            if todo:
                self._look_at(store, *todo.popleft())
                continue
            if store.missing or store.sieves:
                todo.extend((slot, None) for slot in monitor.discover(_SLOTS_AT_ONCE))
            changes = monitor.changes(_AT_ONCE)
            todo.extend(changes)
            store.behind = bool(todo) or monitor.comparing() or bool(store.missing or store.sieves) and monitor.discovering()
        if store in self._repairing and not store.behind:
            self._compared(store)

    def _look_at(self, store: Store, slot: int, version: int | None) -> None:
        key = self._settle(store, slot)
        if version is not None:
            self._notify(store.by_key.get(key, ()), slot, version)
            self._notify(_sifted(store.everything, key) if store.sieves else store.everything, slot, version)

    def _notify(self, registrations: Iterable[Registration], slot: int, version: int, all_of_them: bool = False) -> None:
        """Tells those of whom the controller has to care, or all of them."""
        for registration in registrations:
            if registration.told or all_of_them:
                registration.session.tell(registration, slot, version)
                self.counts.notified += 1

    # --- sessions ---------------------------------------------

    def leave(self, session: Session) -> list[Store]:
        """Forgets a client: its registrations and claims; returns the observables that ended with it."""
        for number in list(session.registrations):
            self.unregister(session, number)
        for link in self.links.of(session):
            self.links.close(link)
        for name in [name for name, holder in self._claims.items() if holder is session]:
            del self._claims[name]
        ended = [store for store in self.stores.values() if store.owner is session]
        session.names.clear()
        self.changed.discard(session)
        return ended

    def rows(self, visible: Callable[[str], bool]) -> list[wire.Row]:
        """All observables that are visible, and names that are only awaited."""
        rows = []
        for name in sorted(filter(visible, self.stores.keys() | self._waiting.keys())):
            store = self.stores.get(name)
            registrations = self._waiting.get(name, ()) if store is None else self._registrations(store)
            observers = [
                wire.Observation(registration.session.pid, registration.key, registration.since)
                for registration in registrations
            ]
            if store is None:
                rows.append(wire.Row(name, 0, False, "", observers))
            else:
                rows.append(
                    wire.Row(name, store.monitor.owner_pid, store.owner is not None, store.program, observers)
                )
        return rows


def _sifted(registrations: Iterable[Registration], *keys: str | None) -> list[Registration]:
    """Those of all keys, or of a pattern that one of these may match."""
    known = [key for key in keys if key is not None]
    return [one for one in registrations if one.sieve is None or any(map(one.sieve.lets, known))]
