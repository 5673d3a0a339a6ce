"""What a process has with one registry: a connection, registrations, searches. One for each scope, and event loop.

Who takes in (drivers.py) is the only one who receives; any thread may ask. A request from where the client takes in, a callback
for one, takes in by itself until its answer is there.

When the registry dies, everything is kept: another one is looked for, or becomes it (seat/), and is handed the registrations with
their receipts; requests that were not answered are made again.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from kvoshim import _memory
from kvoshim.errors import ClosedError, ForkedError, KvoshimError, PrivateRegistryGoneError, RegistryUnavailableError
from kvoshim.registry import seat, wire
from kvoshim.registry.client.drivers import LoopDriver, ThreadDriver
from kvoshim.registry.client.link import Link, LinkLost
from kvoshim.registry.client.mirror import Event, Mirror
from kvoshim.registry.client.registration import Registration
from kvoshim.registry.client.search import Search
from kvoshim.registry.entry import Entry, Offer, Pattern

log = logging.getLogger("kvoshim.registry")

REQUEST_S = 30.0  # for the registry to answer, over its death and succession
_REACH_S = 1.0  # for the store to show what the registry has answered
_BACKOFF_S = (0.02, 1.0)


class Call:
    """A request. build(number): its message; None: it has become pointless, `done` is called without an answer."""

    def __init__(self, build: Callable[[int], wire.Message | None], done: Callable[[Any, KvoshimError | None], None]) -> None:
        self.build = build
        self.done = done


class Client:
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
        with self._lock:
            mirror = self._look()
            named = mirror.named(pattern)  # most look for one name, and no name looks like a pattern
            return named or mirror.find(Pattern(pattern))

    def watch(self, search: Search) -> None:
        self.check()
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

    # --- taking in ---------------------------------------------

    def later(self, function: Callable, *arguments) -> None:
        """Calls it where the client takes in, and not amid something else."""
        self._later.append((function, arguments))
        if not self.driver.here() or isinstance(self.driver, LoopDriver):
            self.driver.poke()

    def _run_later(self) -> None:
        while self._later:
            function, arguments = self._later.popleft()
            try:
                function(*arguments)
            except Exception:
                log.exception("a callback failed")

    def nudge(self) -> None:
        """Lets the thread that waits for the registry hear something."""
        link = self.link
        if link is not None:
            with self._lock:
                self._number += 1
                self._calls[self._number] = Call(lambda number: None, lambda answer, error: None)
            self._say(link, wire.Sync(self._number))

    def take_in(self, timeout: float | None) -> None:
        """Takes in once, where that is this thread's job."""
        link = self.link
        if link is None:
            self._attempt()
            return
        try:
            for message in link.receive(timeout):
                self._dispatch(message)
        except LinkLost as error:
            self._lose(error)

    def take_in_until(self, condition: Callable[[], bool], timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not condition() and not self._closing.is_set():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self.take_in(left)

    def run(self) -> None:
        """The thread of a ThreadDriver."""
        while not self._closing.is_set():
            link = self.link
            if link is None:
                break
            try:
                for message in link.receive():
                    self._dispatch(message)
                self._run_later()
            except LinkLost as error:
                if not self._closing.is_set():
                    self._lose(error)
                    self.search_on()
                    self._run_later()
            except Exception:
                log.exception("what the registry said could not be handled")
        link, self.link = self.link, None
        if link is not None:
            link.close()
            link.reader.close()

    def ready(self) -> None:
        """The event loop of a LoopDriver has something for us."""
        if self._closing.is_set() or self.forked:
            return
        link = self.link
        if link is not None:
            try:
                while messages := link.receive(0):
                    for message in messages:
                        self._dispatch(message)
            except LinkLost as error:
                self._lose(error)
                self.driver.look_for_another()
            except Exception:
                log.exception("what the registry said could not be handled")
        self._run_later()

    def _dispatch(self, message: wire.Message) -> None:
        if isinstance(message, wire.Changed):
            with self._lock:
                if self._mirror is not None:
                    self._tell(self._mirror.catch_up())
        elif isinstance(message, wire.Asked):
            self._answer(message)
        elif isinstance(message, wire.Owned | wire.Lost):
            registration = self._registrations.get(message.receipt.id)
            if registration is None:
                return
            if isinstance(message, wire.Owned):
                registration.owned(message.receipt)
            else:
                if message.gone:
                    self._registrations.pop(message.receipt.id, None)
                registration.lost(message.receipt, message.gone)
        elif isinstance(message, wire.Settled):
            with self._lock:
                if self.link is not None:
                    self.link.settled = True
                if self._mirror is not None:
                    self._tell(self._mirror.settle())
        elif isinstance(message, wire.Failed):
            error = wire.ERRORS.get(message.code, KvoshimError)(message.text)
            if not message.request:
                log.error("the registry does not want this process: %s", error)
            self._finish(message.request, None, error)
        else:
            self._finish(message.request, message, None)

    def _finish(self, number: int, answer: wire.Message | None, error: KvoshimError | None) -> None:
        with self._lock:
            call = self._calls.pop(number, None)
        if call is not None:
            call.done(answer, error)

    # --- being asked ---------------------------------------------

    def _answer(self, asked: wire.Asked) -> None:
        registration = self._registrations.get(asked.id)
        self.counts["pings" if asked.what == "ping" else "questions"] += 1
        answer: dict[str, Any] = {}
        if asked.what == "info":
            answer = {"kvoshim": _version(), "registrations": len(self._registrations), "searches": len(self._searches)}
        elif asked.what == "statistics":
            answer = {**self.counts, "since": self._since}
            if registration is not None:
                try:
                    answer["program"] = dict(registration.statistics())
                except Exception as error:
                    answer["error"] = f"{type(error).__name__}: {error}"
        try:
            text = json.dumps(answer, default=str)
        except (TypeError, ValueError, RecursionError) as error:
            text = json.dumps({"error": f"what the program counts is no JSON: {error}"[:1000]})
        if len(text) > wire.TEXT_MAX:
            text = json.dumps({"error": f"what the program counts takes {len(text)} characters; {wire.TEXT_MAX} are allowed"})
        link = self.link
        if link is not None:
            self._say(link, wire.Reply(asked.number, text))

    # --- the registry's death ---------------------------------------------

    def _lose(self, error: Exception) -> None:
        link, self.link = self.link, None
        if link is None:
            return
        log.warning("the registry of PID %d is lost: %s", link.pid, error)
        self.driver.lost(link)
        link.close()
        with self._lock:
            if self._mirror is None:  # else it goes on with what it knows
                link.reader.close()

    def search_on(self) -> None:
        """Looks for another registry, however long it takes, and goes on with it."""
        link = self.find_link()
        if link is not None:
            self.adopt_or_close(link)

    def find_link(self) -> Link | None:
        """A connection to another registry; None: there will not be any."""
        pause, said = _BACKOFF_S[0], ""
        while not self._closing.is_set():
            try:
                return Link(seat.race(self.scope))
            except PrivateRegistryGoneError as error:
                self._give_up(error)
                return None
            except (KvoshimError, OSError) as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("no registry yet: %s", error)
            with self._lock:
                if self._mirror is not None:
                    self._tell(self._mirror.bury())
            if self.driver.here():
                self._run_later()
            self._closing.wait(pause)
            pause = min(2 * pause, _BACKOFF_S[1])
        return None

    def _attempt(self) -> None:
        """As search_on(), where somebody waits for an answer."""
        self.search_on()

    def _give_up(self, error: KvoshimError) -> None:
        """The group goes on with what it knows."""
        with self._lock:
            self.gone = error
            calls, self._calls = list(self._calls.values()), {}
        log.warning("%s", error)
        for call in calls:
            call.done(None, error)

    def adopt_or_close(self, link: Link) -> None:
        if self._closing.is_set() or self.forked or self.link is not None:
            link.close()
            return
        try:
            self._adopt(link)
        except LinkLost as error:
            self._lose(error)
            self.driver.look_for_another()

    def _adopt(self, link: Link) -> None:
        """Goes on with another registry: hands in what this process has, and asks again what was not answered."""
        with self._lock:
            self.link = link
            if self._mirror is not None:
                self._tell(self._mirror.rebase(link.reader, link.settled))
            pending = list(self._calls.items())
            former, self._registrations = self._registrations, {}
        self.counts["reconnections"] += 1
        for number, registration in former.items():
            self._restore(link, number, registration)
        link.send(wire.Sync(0))
        for number, call in pending:
            self._transmit(link, number, call)
        if self._searches:
            link.send(wire.Watch(True))
        self.driver.found(link)
        log.info("connected to the registry of PID %d", link.pid)

    def _restore(self, link: Link, former: int, registration: Registration) -> None:
        def done(answer: wire.Registered | None, error: KvoshimError | None) -> None:
            if error is not None:
                registration.fail(error)
                return
            with self._lock:
                self._registrations.pop(former, None)
                if not registration._closed:
                    self._registrations[answer.entry.id] = registration
            registration.confirmed(answer.entry, answer.receipt)

        with self._lock:
            self._number += 1
            number = self._number
            self._registrations[former] = registration
            self._calls[number] = Call(lambda number: None if registration._closed else registration.registering(number), done)
        self._transmit(link, number, self._calls[number])

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


@functools.cache
def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("kvoshim")
