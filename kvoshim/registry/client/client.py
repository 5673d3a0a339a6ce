"""What a process has with one registry: a connection, registrations, searches. One for each scope, and event loop.

Who takes in (drivers.py) is the only one who receives; any thread may ask. A request from where the client takes in, a callback
for one, takes in by itself until its answer is there.

When the registry dies, everything is kept: another one is looked for, or becomes it (seat/), and is handed the registrations with
their receipts; requests that were not answered are made again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from kvoshim import _memory
from kvoshim.errors import ClosedError, ForkedError, KvoshimError, RegistryUnavailableError
from kvoshim.registry import seat, wire
from kvoshim.registry.client.drivers import LoopDriver, ThreadDriver
from kvoshim.registry.client.intake import Call, Intake
from kvoshim.registry.client.link import Link, LinkLost
from kvoshim.registry.client.mirror import Event, Mirror
from kvoshim.registry.client.registration import Registration
from kvoshim.registry.client.search import Search
from kvoshim.registry.client.succession import Succession
from kvoshim.registry.entry import Entry, Offer, Pattern

log = logging.getLogger("kvoshim.registry")

REQUEST_S = 30.0  # for the registry to answer, over its death and succession
LOOK_S = 0.005  # between looks whether there is a registry again
_REACH_S = 1.0  # for the store to show what the registry has answered


class Client(Intake, Succession):
    """link: the connection, with the greeting done."""

    def __init__(self, scope: seat.Scope, link: Link, driver: ThreadDriver | LoopDriver) -> None:
        self.scope = scope
        self.pid = os.getpid()
        self.generation = _memory.generation()
        self.link: Link | None = link
        self.gone: KvoshimError | None = None  # why there will be no registry any more
        self.counts = {"pings": 0, "questions": 0, "reconnections": 0}
        self._since = time.time()
        self._lock = threading.RLock()  # mirror, calls, registrations, searches
        self._mirror: Mirror | None = None
        self._registrations: dict[int, Registration] = {}  # by id
        self._joining: set[Registration] = set()  # asked for, not answered yet
        self._searches: list[Search] = []
        self._calls: dict[int, Call] = {}
        self._number = 0
        self._later: deque[tuple] = deque()
        self._closing = threading.Event()
        self.driver = driver
        driver.begin(self)

    # --- who and where ---------------------------------------------

    @property
    def forked(self) -> bool:
        """Whether this process is a forked child of the one that the client belongs to."""
        return self.generation != _memory.generation()

    def check(self) -> None:
        if self.forked:
            raise ForkedError("this object belongs to the parent process; make a new one after fork()")
        if self._closing.is_set():
            raise ClosedError("the registry's client is closed")

    def usable(self) -> bool:
        if self.forked or self._closing.is_set():
            return False
        return self.gone is not None or self.driver.usable()  # whose registry is gone keeps what it knows

    def takes_in_here(self) -> bool:
        return self.driver.here()

    # --- asking ---------------------------------------------

    def start(self, call: Call) -> None:
        """Makes a request; call.done is called where the client takes in. RegistryUnavailableError."""
        self.check()
        with self._lock:
            if self.gone is not None:
                raise self.gone
            self._number += 1
            number = self._number
            self._calls[number] = call
            link = self.link
        if link is not None:
            self._transmit(link, number, call)

    def _transmit(self, link: Link, number: int, call: Call) -> None:
        try:
            message = call.build(number)
            if message is not None:
                link.send(message)
                return
        except LinkLost:
            return  # noticed where the client takes in, which makes the request again
        if self._calls.pop(number, None) is not None:
            call.done(None, None)

    def request(self, build: Callable[[int], wire.Message | None], then: Callable[[Any], None] | None = None) -> Any:
        """Asks and waits; returns what then(answer) gives. KvoshimError as refused."""
        done = threading.Event()
        outcome: list[Any] = [None, None]

        def finish(answer: Any, error: KvoshimError | None) -> None:
            outcome[:] = answer, error
            if then is not None and error is None:
                then(answer)
            done.set()

        self.start(Call(build, finish))
        if self.takes_in_here():
            self.take_in_until(done.is_set, REQUEST_S)
        elif not done.wait(REQUEST_S):
            raise RegistryUnavailableError(f"the registry has not answered for {REQUEST_S:g} s")
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def reach(self, revision: int) -> None:
        """Waits until the store shows what the registry has answered, which it does at once, unless it dies over it."""
        deadline = time.monotonic() + _REACH_S
        link = self.link
        try:
            while link is not None and link.reader.revision() < revision and time.monotonic() < deadline:
                time.sleep(2e-5)
        except ClosedError:
            pass  # the link was lost

    # --- registering ---------------------------------------------

    def join(self, registration: Registration, finish: Callable[[KvoshimError | None], None]) -> None:
        """Registers; finish(error or None) is called where the client takes in."""

        def done(answer: wire.Registered | None, error: KvoshimError | None) -> None:
            with self._lock:
                self._joining.discard(registration)
                if error is None:
                    self._registrations[answer.entry.id] = registration
            if error is None:
                registration.settled(registration._offer)
                registration.confirmed(answer.entry, answer.receipt)
                registration.at = answer.at
            finish(error)

        with self._lock:
            self._joining.add(registration)
        self.start(Call(registration.registering, done))

    def register(self, registration: Registration) -> None:
        done, outcome = threading.Event(), []
        self.join(registration, lambda error: (outcome.append(error), done.set()))
        if self.takes_in_here():
            self.take_in_until(done.is_set, REQUEST_S)
        else:
            done.wait(REQUEST_S)
        if not outcome:
            raise RegistryUnavailableError(f"the registry has not answered for {REQUEST_S:g} s")
        if outcome[0] is not None:
            raise outcome[0]
        self.reach(registration.at)

    def update(self, registration: Registration, offer: Offer) -> None:
        def then(answer: wire.Registered | None) -> None:
            registration.settled(offer)
            if answer is not None:
                registration.confirmed(answer.entry, answer.receipt)

        answer = self.request(lambda number: wire.Update(number, registration.id, offer), then)
        if answer is not None:
            self.reach(answer.at)

    def deregister(self, registration: Registration) -> None:
        with self._lock:
            known = registration._entry is not None and self._registrations.pop(registration.id, None) is not None
            link = self.link
        if not known or registration.error is not None or self._closing.is_set() or self.gone is not None:
            return
        asked: list[Link] = []

        def build(number: int) -> wire.Message | None:
            if asked:
                return None  # a new registry has never heard of it
            asked.append(link)
            return wire.Deregister(number, registration.id)

        try:
            answer = self.request(build)
        except KvoshimError as error:
            log.info("%r was deregistered without the registry: %s", registration.name, error)
        else:
            if answer is not None:
                self.reach(answer.at)

    # --- searching ---------------------------------------------

    def _await_registry(self) -> None:
        """Where nothing is known yet and the registry has just died: waits for the next one."""
        deadline = time.monotonic() + REQUEST_S
        while self.blind() and time.monotonic() < deadline:
            if self.takes_in_here():
                self.take_in(0.0)
            else:
                time.sleep(LOOK_S)

    def blind(self) -> bool:
        """Whether there is nothing to be found in, for now."""
        return self._mirror is None and self.link is None and self.gone is None and not self._closing.is_set()

    def _look(self) -> Mirror:
        """The mirror, up to date; with the lock."""
        if self._mirror is None:
            if self.link is None:
                raise self.gone or RegistryUnavailableError("the registry is being looked for")
            self._mirror = Mirror(self.link.reader, self.link.settled)
        else:
            self._tell(self._mirror.catch_up())
        return self._mirror

    def find(self, pattern: str) -> list[Entry]:
        self.check()
        if self._mirror is None:
            self._await_registry()
        with self._lock:
            mirror = self._look()
            named = mirror.named(pattern)  # most look for one name, and no name looks like a pattern
            return named or mirror.find(Pattern(pattern))

    def lookup(self, name: str) -> list[Entry]:
        """The same of one name, as the registry itself says."""
        answer = self.request(lambda number: wire.Find(number, name))
        return [] if answer is None else answer.entries

    def watch(self, search: Search) -> None:
        self.check()
        if self._mirror is None:
            self._await_registry()
        with self._lock:
            search.begin(self._look().find(search.pattern))
            self._searches.append(search)
            first = len(self._searches) == 1
            link = self.link
        if search.callback is not None:
            self.later(search.deliver)
        if first and link is not None:
            self._say(link, wire.Watch(True))

    def end_search(self, search: Search) -> None:
        if self.forked:
            return
        with self._lock:
            if search in self._searches:
                self._searches.remove(search)
            link = self.link if not self._searches else None
        if link is not None and not self._closing.is_set():
            self._say(link, wire.Watch(False))

    @staticmethod
    def _say(link: Link, message: wire.Message) -> None:
        try:
            link.send(message)
        except LinkLost:
            pass  # noticed where the client takes in

    def _tell(self, events: list[Event]) -> None:
        """Tells the searches; with the lock."""
        if not events:
            return
        for search in self._searches:
            search.take(events)
            if search.callback is not None:
                self.later(search.deliver)

    # --- the end ---------------------------------------------

    def close(self) -> None:
        """Ends everything that this process has with the registry."""
        if self.forked:
            return
        self._closing.set()
        for search in list(self._searches):
            search.close()
        link = self.link
        if link is not None:
            self.driver.lost(link)
            link.shut()
        self.driver.end()
        link, self.link = self.link, None
        if link is not None:
            link.close()
            link.reader.close()
        with self._lock:
            if self._mirror is not None:
                self._mirror.close()
                self._mirror = None
            calls, self._calls = list(self._calls.values()), {}
            self._registrations.clear()
        for call in calls:
            call.done(None, ClosedError("the registry's client was closed"))

    def abandon(self) -> None:
        """In a forked child: lets go of the parent's connection without a word."""
        link, self.link = self.link, None
        if link is not None:
            link.close()

