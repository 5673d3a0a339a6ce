"""The controller in the registry: it registers itself, and each observable that is published at it, so that both are found there.

All of it on a thread of its own: the registry may have to be started, may be slow, may refuse, and none of this is to hold up
observation. What is wanted is a dict, and the thread sees to it that the registry has just that; what it refuses is logged, and not
asked for again.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from importlib import metadata

from kvoshim.errors import AccessDeniedError, InvalidEntryError, KvoshimError, LimitError
from kvoshim.kvo.finding import CONTROLLER, OBSERVABLE
from kvoshim.registry import seat
from kvoshim.registry.client.client import Client
from kvoshim.registry.client.drivers import ThreadDriver
from kvoshim.registry.client.link import Link
from kvoshim.registry.client.registration import Registration
from kvoshim.registry.entry import Offer, check_offer

log = logging.getLogger("kvoshim.controller")

_AGAIN_S = (1.0, 60.0)  # first and longest pause before the registry is tried again


class Registrar:
    """scope: of the registry. path: where the controller serves. orphaned: called in the loop when a private registry has ended: the
    group has no more members to come."""

    def __init__(self, loop, scope: str, path: str, facts: dict, orphaned: Callable[[], None]) -> None:
        self.scope = seat.Scope.parse(scope)
        self.trouble = "not connected yet"  # why the controller is not in the registry; empty: it is
        self._loop = loop
        self._path = path
        self._orphaned = orphaned
        self._wanted: dict[str, Offer] = {CONTROLLER: Offer(CONTROLLER, path, metadata.version("kvoshim"), facts)}
        self._there: dict[str, tuple[Registration, Offer]] = {}
        self._refused: dict[str, Offer] = {}
        self._client: Client | None = None
        self._pidfd = -1
        self._closed = False
        self._due = threading.Event()
        self._lock = threading.Lock()
        self._due.set()
        self._thread = threading.Thread(target=self._run, name="kvoshim-registrar", daemon=True)
        self._thread.start()

    # --- from the controller ---------------------------------------------

    def publish(self, name: str, pid: int, program: str) -> None:
        """An observable is live."""
        offer = Offer(OBSERVABLE + name, self._path, "", {"observable": name, "pid": pid, "program": program})
        with self._lock:
            self._wanted[offer.name] = offer
        self._due.set()

    def end(self, name: str) -> None:
        """It has ended."""
        with self._lock:
            self._wanted.pop(OBSERVABLE + name, None)
            self._refused.pop(OBSERVABLE + name, None)
        self._due.set()

    def close(self) -> None:
        """Leaves the registry. Does not wait for one that does not answer."""
        self._closed = True
        self._due.set()
        client = self._client
        if client is not None:
            client.close()
        self._thread.join(1.0)
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    # --- the thread ---------------------------------------------

    def _run(self) -> None:
        pause, wait = _AGAIN_S[0], None
        while True:
            self._due.wait(wait)
            if self._closed:
                return
            self._due.clear()
            try:
                self._settle()
                pause, wait = _AGAIN_S[0], None
            except (KvoshimError, OSError) as error:
                if self._closed:
                    return
                if str(error) != self.trouble:
                    log.warning("the controller is not in the registry (%s): %s", self.scope.text, error)
                self.trouble = str(error)
                if self._client is not None and self._client.gone is not None:
                    return  # there will be no registry any more
                wait, pause = pause, min(2 * pause, _AGAIN_S[1])

    def _settle(self) -> None:
        """Lets the registry have what is wanted."""
        if self._client is None:
            link = Link(seat.connect(self.scope))
            self._client = Client(link.scope, link, ThreadDriver())
            if self._closed:
                self._client.close()
                return
            if self.scope.private:
                self._loop.call_soon_threadsafe(self._watch, link.pid)
        while not self._closed:
            with self._lock:
                wanted = dict(self._wanted)
            gone = [name for name in self._there if name not in wanted]
            new = [
                offer for name, offer in wanted.items()
                if offer != self._refused.get(name) and (name not in self._there or self._there[name][1] != offer)
            ]  # fmt: skip
            if not gone and not new:
                return
            for name in gone:
                self._there.pop(name)[0].close()
            for offer in new:
                self._register(offer)

    def _register(self, offer: Offer) -> None:
        there = self._there.get(offer.name)
        try:
            check_offer(offer)
            if there is not None:
                registration, _ = there
                registration.update(address=offer.address, metadata=offer.metadata)
            else:
                registration = Registration(self._client, offer, None, None, None)
                self._client.register(registration)
                log.info("%r is in the registry (%s)", offer.name, self.scope.text)
            self._there[offer.name] = registration, offer
            if offer.name == CONTROLLER:
                self.trouble = ""
        except (AccessDeniedError, InvalidEntryError, LimitError) as error:
            log.warning("the registry (%s) does not take %r: %s", self.scope.text, offer.name, error)
            self._refused[offer.name] = offer
            if offer.name == CONTROLLER:
                self.trouble = str(error)

    # --- in the loop ---------------------------------------------

    def _watch(self, pid: int) -> None:
        """The end of a private registry is that of its group."""
        if self._closed or self._pidfd >= 0:
            return
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:
            self._orphaned()
            return
        self._loop.add_reader(self._pidfd, self._ended)

    def _ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self._orphaned()
