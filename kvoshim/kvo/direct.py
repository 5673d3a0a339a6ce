"""How a client is rung by observables themselves, and what it looks at then.

The client has a bell page, which says whether it sleeps, and a socket on which it is rung (pyx/kvoshim/_bell.pyx). Before it
sleeps, and whenever it wakes, it looks at the dirty ring of each store that it observes directly: each entry is a slot that was
written. What the controller says comes as before, and may say the same again: a refresh of what was delivered does nothing.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvoshim._bell import BROKEN, LINK, STORES, Sleeper
from kvoshim._delivery import Group
from kvoshim.errors import KvoshimError
from kvoshim.kvo import wire

if TYPE_CHECKING:
    from kvoshim._monitor import Monitor
    from kvoshim.kvo.client import Client
    from kvoshim.kvo.handle import Handle
    from kvoshim.kvo.link import Link
    from kvoshim.kvo.observation import Observation

log = logging.getLogger("kvoshim.client")

__all__ = ["BROKEN", "LINK", "STORES", "Direct"]


class Watch:
    """What is observed directly of one name."""

    def __init__(self) -> None:
        self.by_key: dict[str, Group] = {}
        self.everything: dict[int, bool] = {}  # registrations of all keys; whether the slot matters to them
        self.keys: dict[int, str] = {}  # slot -> the observed key that it stood for last
        self.rung = False  # the observable rings this client

    def numbers(self) -> list[int]:
        return [*self.everything, *(number for group in list(self.by_key.values()) for number in list(group.numbers))]

    def written(self, reader: Monitor, slots: list[int], todo: dict) -> None:
        """Notes what has to be looked at."""
        for slot in slots:
            key = reader.key_of(slot)
            before = self.keys.get(slot)
            if before is not None and before != key:  # the slot was given to another key
                del self.keys[slot]
                if (group := self.by_key.get(before)) is not None:
                    todo[group, None] = None
            group = self.by_key.get(key)
            if group is not None:
                self.keys[slot] = key
                todo[group, slot] = None
            for number, precise in list(self.everything.items()):
                todo[number, slot if precise else None] = None


class Direct:
    """Part of a client: used where its messages are taken in, but for add() and remove()."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._watches: dict[str, Watch] = {}
        self._looked: list[tuple[Watch, Handle]] | None = None  # None: to be found anew
        self._lock = threading.RLock()  # of the watches; a finalizer may want it while its own thread holds it
        self.stores: list[Monitor] = []
        self.sleeper: Sleeper | None = None
        self.refused = False  # there is no bell to be had
        self.spin_us = spin_us()
        self._begun = False
        self._bell = 0  # the controller's number for it

    # --- the bell ---------------------------------------------

    def begin_once(self) -> None:
        """Before the first observation that may be delivered directly."""
        if not self._begun:
            self._begun = True
            self.begin()

    def begin_soon(self, finished: Callable[[KvoshimError | None], None]) -> bool:
        """The same without waiting: finished() is called when the controller has answered. False: it is not asked."""
        if self._begun:
            return False
        self._begun = True
        if not self._make():
            return False

        def end(error: KvoshimError | None) -> None:
            if error is not None:
                self._refuse(error)
            finished(error)

        self._client.start(_listen, end, self.sleeper.fd, self._hear)
        return True

    def begin(self, link: Link | None = None) -> None:
        """Hands the bell page in. Without a bell everything goes through the controller."""
        if self._make():
            try:
                self._client.request(_listen, self.sleeper.fd, link=link, then=self._hear)
            except KvoshimError as error:
                self._refuse(error)

    def _make(self) -> bool:
        if self.sleeper is None:
            try:
                self.sleeper = Sleeper()
            except KvoshimError as error:
                self._refuse(error)
        return self.sleeper is not None

    def _refuse(self, error: KvoshimError) -> None:
        self.refused = True
        log.warning("no bell can be had: %s", error)

    def _hear(self, link: Link, listening: wire.Listening) -> None:
        self._client.driver.deaf()
        self.sleeper.hear(link.channel.take(listening.ticket))
        self._bell, self.refused = listening.bell, False
        self._client.driver.hearing()

    def broken(self) -> None:
        """Nobody can ring any more: the controller is gone, or somebody has shut the socket down."""
        self.deaf()
        self._client.post(wire.Deaf(self._bell))

    def deaf(self) -> None:
        self._client.driver.deaf()
        if self.sleeper is not None:
            self.sleeper.hear(-1)

    def rings(self, name: str, on: bool) -> None:
        """What the controller says of an observable."""
        watch = self._watches.get(name)
        if watch is not None:
            watch.rung = on

    def rung(self, name: str) -> bool:
        watch = self._watches.get(name)
        return watch is not None and watch.rung

    def lost(self) -> None:
        """There is another controller, which has to arrange everything anew. The bell goes on until then."""
        for watch in list(self._watches.values()):
            watch.rung = False

    # --- what is looked at ---------------------------------------------

    def add(self, observation: Observation) -> None:
        """Its registrations are in force."""
        with self._lock:
            watch = self._watches.setdefault(observation.name, Watch())
            for number, key in observation.numbers.items():
                if key is None:
                    watch.everything[number] = not observation.every
                else:
                    watch.by_key.setdefault(key, Group()).numbers[number] = None
            self._looked = None

    def remove(self, observation: Observation) -> None:
        with self._lock:
            watch = self._watches.get(observation.name)
            if watch is None:
                return
            for number, key in observation.numbers.items():
                watch.everything.pop(number, None)
                group = watch.by_key.get(key)
                if group is not None:
                    group.numbers.pop(number, None)
                    if not group.numbers:
                        watch.by_key.pop(key, None)
            if not watch.everything and not watch.by_key:
                self._watches.pop(observation.name, None)
            self._looked = None

    def changed(self, name: str) -> None:
        """Another store has the name, or its owner has ended."""
        watch = self._watches.get(name)
        if watch is not None:
            watch.keys.clear()
            watch.rung = False
        self._looked = None

    def renew(self) -> list[Monitor]:
        """The stores to be looked at."""
        if self._looked is None:
            looked = []
            handles = self._client.handles
            self._looked = looked
            for name, watch in list(self._watches.items()):
                handle = handles.get(name)
                if handle is not None and handle.live:
                    looked.append((watch, handle))
            self.stores = [handle.ring for _, handle in looked]
        return self.stores

    def look(self) -> None:
        """Takes what is in the dirty rings."""
        self.renew()
        todo = self._client._todo
        self._client._fresh.clear()
        for watch, handle in self._looked or ():
            try:
                slots = handle.ring.drain()
                if slots is None:
                    for number in watch.numbers():
                        todo[number, None] = None
                else:
                    watch.written(handle.ring, slots, todo)
            except KvoshimError as error:
                log.debug("%r cannot be looked at: %s", handle.name, error)

    def close(self) -> None:
        """Ends the bell; in a forked child as well, where it is a copy of the parent's."""
        self._watches.clear()
        self.stores, self._looked = [], []
        self.sleeper = None


def _listen(number: int, ticket: int) -> wire.Listen:
    return wire.Listen(number, ticket)


def spin_us() -> int:
    """How long a sleeper may look before it sleeps; 0 where that cannot help. (A process that is bound to one CPU is written to from
    another.)"""
    if (os.cpu_count() or 1) < 2:
        return 0
    try:
        return min(max(int(os.environ.get("KVOSHIM_SPIN_US", "50")), 0), 1_000_000)
    except ValueError:
        return 50
