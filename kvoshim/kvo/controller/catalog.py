"""What the controller knows: observables with their stores (here), registrations (registering.py), and which store was written to
(monitoring.py).

An observable's life:

    claimed   a client has asked for the name; nobody sees it yet; it takes over what a predecessor left
    live      its store is published and its owner connected
    retained  its owner has closed it or died: the last values stay readable under the name
    dropped   discarded by its owner, replaced by a successor, or retained for long enough
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from kvoshim._monitor import Monitor
from kvoshim._table import TableWriter
from kvoshim._values import check_name
from kvoshim.errors import (
    AmbiguousTargetError,
    CorruptStoreError,
    LimitError,
    NameInUseError,
    ProtocolError,
    UnknownNameError,
)
from kvoshim.kvo import wire
from kvoshim.kvo.controller import members
from kvoshim.kvo.controller.entries import Registration, Store
from kvoshim.kvo.controller.links import Links
from kvoshim.kvo.controller.metrics import Counts
from kvoshim.kvo.controller.monitoring import Monitoring
from kvoshim.kvo.controller.quota import Limits
from kvoshim.kvo.controller.registering import Registering
from kvoshim.kvo.controller.session import Session

if TYPE_CHECKING:
    from kvoshim.kvo.controller.registrar import Registrar

log = logging.getLogger("kvoshim.controller")

_FLOORS_MAX = 4096


class Catalog(Registering, Monitoring):
    """Which observables there are, and whose."""

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
        self.registrar: Registrar | None = None  # who lets the registry know

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
        if self.registrar is not None:
            self.registrar.publish(name, session.pid, session.program)
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

    def _go_above(self, name: str, floor: int, seen_in: bytes) -> None:
        """Versions up to `floor` were seen in another store of that name: its owner, or the next one, has to go on above."""
        store = self.stores.get(name)
        if store is not None and store.owner is not None:
            self._raise(store, floor)
        elif floor > self._floors.get(name, (0, b""))[0] and len(self._floors) < _FLOORS_MAX:
            self._floors[name] = floor, seen_in

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
        if self.registrar is not None:
            self.registrar.end(store.name)
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
        yield from members.all_of(store.by_key)

    def close(self) -> None:
        """Releases all stores."""
        for store in list(self.stores.values()):
            self._drop(store)

    # --- what a target stands for ---------------------------------------------

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
                wire.Observation(registration.session.pid, registration.key, self.table.row_ns(registration.row) / 1e9)
                for registration in registrations
            ]
            if store is None:
                rows.append(wire.Row(name, 0, False, "", observers))
            else:
                rows.append(
                    wire.Row(name, store.monitor.owner_pid, store.owner is not None, store.program, observers)
                )
        return rows
