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
from kvoshim._look import Looks, Watch, listen
from kvoshim.errors import KvoshimError
from kvoshim.kvo import wire

if TYPE_CHECKING:
    from kvoshim.kvo.client import Client
    from kvoshim.kvo.link import Link
    from kvoshim.kvo.observation import Observation

log = logging.getLogger("kvoshim.client")

__all__ = ["BROKEN", "LINK", "STORES", "Direct"]


class Direct:
    """Part of a client: used where its messages are taken in, but for add() and remove()."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._watches: dict[str, Watch] = {}
        self._looks = Looks()
        self._lock = threading.RLock()  # of the watches; a finalizer may want it while its own thread holds it
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
                    watch.by_key.setdefault(key, Group()).add(number, observation)
            self._looks.valid = False

    def remove(self, observation: Observation) -> None:
        with self._lock:
            watch = self._watches.get(observation.name)
            if watch is None:
                return
            for number, key in observation.numbers.items():
                watch.everything.pop(number, None)
                group = watch.by_key.get(key)
                if group is not None:
                    group.remove(number)
                    if not group.numbers:
                        watch.by_key.pop(key, None)
            if not watch.everything and not watch.by_key:
                self._watches.pop(observation.name, None)
            self._looks.valid = False

    def changed(self, name: str) -> None:
        """Another store has the name, or its owner has ended."""
        watch = self._watches.get(name)
        if watch is not None:
            watch.forget()
            watch.rung = False
        self._looks.valid = False

    def dropped(self) -> None:
        """A store is no longer one of the client's."""
        self._looks.valid = False

    def renew(self) -> Looks:
        """The stores to be looked at."""
        if not self._looks.valid:
            self._looks = looks = Looks()  # first: it may become invalid meanwhile
            found = [(watch, self._client.handles.get(name)) for name, watch in list(self._watches.items())]
            found = [(watch, handle) for watch, handle in found if handle is not None and handle.live]
            looks.hold([watch for watch, _ in found], [handle for _, handle in found])
        return self._looks

    def look(self) -> None:
        """Takes what is in the dirty rings."""
        self.renew().look(self._client._todo, self._client._fresh)

    def listen(self, link: int) -> int:
        """Waits for observables, and delivers, until there is something else; returns what."""
        client = self._client
        return listen(self.sleeper, self.renew(), link, self.spin_us, client._todo, client._runs, client._fresh,
                      client.observations, client.handles)

    def close(self) -> None:
        """Ends the bell; in a forked child as well, where it is a copy of the parent's."""
        self._watches.clear()
        self._looks.valid = False
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
