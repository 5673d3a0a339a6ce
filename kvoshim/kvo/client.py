"""The client of a controller: one connection for all of a process's observers and observables.

Somebody has to take in what the controller says (intake.py), and the callbacks run there. A Driver says who:

* ThreadDriver: a background thread, shared by the whole process. The default.
* LoopDriver: an asyncio event loop (uvloop as well). The default for what is made inside a running one; no thread.
* ManualDriver: nobody of ours; the program waits on a descriptor and calls process().

If the controller is lost, whoever takes in connects again (reconnect.py). A request from within a callback runs where its
answer would have to be taken in: it takes in by itself until the answer is there, and leaves notifications for later.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from kvoshim import _memory
from kvoshim._delivery import Group
from kvoshim.errors import ControllerUnavailableError, DeliveryError, ForkedError, KvoshimError
from kvoshim.kvo import drivers, finding, launch, paths, wire
from kvoshim.kvo.direct import Direct
from kvoshim.kvo.drivers import Driver, LoopDriver, ManualDriver, ThreadDriver
from kvoshim.kvo.handle import Handle
from kvoshim.kvo.intake import Call, Intake
from kvoshim.kvo.link import Link
from kvoshim.kvo.pulse import Watching
from kvoshim.kvo.reconnect import Reconnecting
from kvoshim.kvo.requests import Requesting
from kvoshim.kvo.tally import Tally

if TYPE_CHECKING:
    from kvoshim.kvo.observation import Observation
    from kvoshim.kvo.publication import Publication

log = logging.getLogger("kvoshim.client")

_clients: dict[tuple[str, bool, int], Client] = {}
_private: set[Client] = set()  # those with a ManualDriver: not shared
_clients_lock = threading.RLock()  # a finalizer may want it while its own thread holds it


class Client(Requesting, Intake, Reconnecting, Watching):
    """Shared by all users in the process of one controller path and driver; get one by acquire(), give it back by
    release()."""

    def __init__(self, path: str, autostart: bool, driver: Driver, key: tuple | None, registry: str = "") -> None:
        self.path = path
        self.registry = registry  # the scope of the registry that its controller belongs to; empty: its path was chosen
        self.autostart = autostart
        self.key = key
        self.pid = os.getpid()
        self.generation = _memory.generation()
        self.handles: dict[str | int, Handle] = {}  # by name, and by PID where somebody asked by PID
        self.observations: dict[int, Observation] = {}  # by registration
        self.publications: dict[str, Publication] = {}
        self.tally = Tally()
        self.bells: weakref.WeakValueDictionary = weakref.WeakValueDictionary()  # of clients that are rung from here
        self.direct = Direct(self)
        self.users = 0
        self.lost = threading.Event()  # set while there is no connection
        self._link: Link | None = None
        self._lock = threading.RLock()
        self._calls: dict[int, Call] = {}
        self._number = 0
        self._closing = threading.Event()
        self._todo: dict[tuple[int | Group, int | None], None] = {}  # (registrations, slot or all) to refresh, in order
        self._runs: list[object] = []  # of refreshes, under way
        self._fresh: dict[tuple[Handle, int], object] = {}  # what was read in this turn, by slot
        self._suspects: set[Handle] = set()
        self._pause = 0.0  # before the next attempt to reconnect
        self._link = launch.connect(path, autostart, registry)
        self.driver = driver
        try:
            driver.begin(self)
        except BaseException:
            self._link.close()
            raise

    @classmethod
    def acquire(cls, path: str | os.PathLike[str] | None, autostart: bool, thread: bool | None = True) -> Client:
        """A client for a controller, connected. thread: True: taken in by a thread; None: by the running event loop if
        there is one, else by a thread; False: by the running event loop, else by hand. ControllerUnavailableError,
        ProtocolError."""
        own, registry = paths.place(path)
        loop = running_loop() if not thread else None
        with _clients_lock:
            if loop is None and thread is False:
                client = cls._connected(own, registry, autostart, ManualDriver, None)
                _private.add(client)
            else:
                key = own, autostart, id(loop) if loop is not None else 0
                client = _clients.get(key)
                if client is not None and not client.driver.usable():  # of a loop that was closed, with the same id
                    client = None
                if client is None:
                    make = ThreadDriver if loop is None else lambda: LoopDriver(loop)
                    client = _clients[key] = cls._connected(own, registry, autostart, make, key)
            client.users += 1
            return client

    @classmethod
    def _connected(cls, own: str, registry: str, autostart: bool, make: Callable[[], Driver], key: tuple | None) -> Client:
        """A client of the controller that the registry knows; of the one at its own place, if that one does not answer."""
        path = finding.controller(own, registry)
        if path != own:
            try:
                client = cls(path, False, make(), key, registry)
                client.autostart = autostart
                return client
            except ControllerUnavailableError as error:
                log.warning("what is registered as the controller is of no use: %s", error)
        return cls(own, autostart, make(), key, registry)

    def release(self) -> None:
        """Gives a client back; the last one closes the connection and ends its driver."""
        with _clients_lock:
            if self.forked:
                return
            self.users -= 1
            if self.users:
                return
            _private.discard(self)
            if _clients.get(self.key) is self:
                del _clients[self.key]
        self._closing.set()
        with self._lock:
            if self._link is not None:
                self._link.shut()
        self.driver.end()
        self.direct.close()
        for handle in list(self.handles.values()):
            handle.reader.close()
        self.handles.clear()

    @property
    def forked(self) -> bool:
        """Whether this process is a forked child of the one that the client belongs to."""
        return self.generation != _memory.generation()

    def check(self) -> None:
        """ForkedError in a forked child: connection and thread are the parent's."""
        if self.forked:
            raise ForkedError("this object belongs to the parent process; make a new one after fork()")

    @property
    def closing(self) -> bool:
        return self._closing.is_set()

    def working(self) -> bool:
        """Whether there is a connection, and somebody who takes in what comes over it."""
        return not self.forked and not self.closing and not self.lost.is_set() and self.driver.usable()

    @property
    def link(self) -> Link | None:
        """The connection, if there is one."""
        return self._link

    def bell(self) -> None:
        """Wakes the controller; called by a store whose observed key was set while the controller slept."""
        link = self._link
        if link is not None:
            link.bell()

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        """Waits for an event that a callback sets; takes in meanwhile if that is this thread's job."""
        if not self.driver.here():
            return event.wait(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while not event.is_set():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            self.process(left)
        return event.is_set()

    # --- what users need ---------------------------------------------

    def open(self, target: str | int) -> Handle:
        """The store of a name or PID. UnknownNameError, AmbiguousTargetError."""
        opened = self.request(lambda number: wire.Open(number, target, False))
        handle = self.handles[opened.info.name]
        self.handles[target] = handle
        return handle

    def observe(self, observation: Observation) -> None:
        """Registers an observation; returns once it is in force."""
        if observation.direct:
            self.direct.begin_once()
        self._enrol(observation)
        try:
            self._register(observation)
        except BaseException:
            observation.closed = True
            self.forget(observation)
            raise

    def observe_soon(self, observation: Observation, finished: Callable[[KvoshimError | None], None]) -> None:
        """As observe(), but does not wait: finished(error or None) is called once it is in force or refused, where answers are
        taken in. Until then closing it is allowed."""

        requests = self._registering(observation)

        def step(error: KvoshimError | None) -> None:
            try:
                if error is not None:
                    raise error
                if not observation.numbers and not observation.closed:
                    self._enrol(observation)
                request = None if observation.closed else next(requests, None)
                if request is not None:
                    build, begin = request
                    self.start(build, step, then=begin)
                    return
            except KvoshimError as refusal:
                finished(refusal)
                observation.close()
                return
            finished(None)

        if not observation.direct or not self.direct.begin_soon(lambda error: step(None)):
            step(None)

    def _enrol(self, observation: Observation) -> None:
        if self.direct.refused and observation.direct > 1:
            raise DeliveryError("this process cannot be rung by observables; use delivery='auto'")
        with self._lock:
            for key in observation.selector.keys or [None]:
                self._number += 1
                observation.numbers[self._number] = key
                self.observations[self._number] = observation

    def _register(self, observation: Observation, link: Link | None = None) -> None:
        for build, begin in self._registering(observation):
            self.request(build, link=link, then=begin)

    def _registering(self, observation: Observation) -> Iterator[tuple[Callable, Callable]]:
        """What has to be asked for, one after the other, and what has to be done with each answer."""
        last = list(observation.numbers)[-1]
        for registration, key in list(observation.numbers.items()):

            def begin(_link: Link, observed: wire.Observed, registration: int = registration) -> None:
                if not observation.closed:
                    observation.name = observed.name
                    if registration == last:
                        if observation.direct:
                            self.direct.add(observation)
                        observation.begin(self.handles.get(observed.name) if observed.info is not None else None)
                        self._todo[last, None] = None

            yield lambda number, registration=registration, key=key: self._asking(number, observation, registration, key), begin

    @staticmethod
    def _asking(number: int, observation: Observation, registration: int, key: str | None) -> wire.Observe:
        last = min(observation.last, wire.REVISION_MAX)
        name = observation.name or observation.target
        pattern = observation.selector.given if key is None else None
        return wire.Observe(
            number, registration, name, key, observation.wait, last, observation.instance, observation.direct, pattern
        )

    def ask_above(self, observation: Observation) -> None:
        """Tells of the revisions that an observation has seen in a store that another one has replaced."""
        for registration, key in observation.numbers.items():
            self.post(self._asking(0, observation, registration, key))

    def forget(self, observation: Observation) -> None:
        """Ends its registrations."""
        if observation.direct and not self.forked:  # else a thread that this process never had may be at it for ever
            self.direct.remove(observation)
        for number in observation.numbers:
            if self.observations.pop(number, None) is not None and not self.forked:
                self.post(wire.Unobserve(number))

    def rows(self) -> list[wire.Row]:
        """All observables that the controller knows."""
        return self.request(lambda number: wire.List(number))

    def abandon(self) -> None:
        """In a forked child: lets go of the parent's connection without a word."""
        link, self._link = self._link, None
        if link is not None:
            link.close()
        self.driver.abandon()
        self.direct.close()


def running_loop():
    """The event loop that runs in this thread, or None. A program without asyncio does not pay for its import."""
    asyncio = sys.modules.get("asyncio")
    try:
        return None if asyncio is None else asyncio.get_running_loop()
    except RuntimeError:
        return None


def _after_fork_in_child() -> None:
    global _clients_lock
    for client in [*_clients.values(), *_private]:
        client.abandon()
    _clients.clear()
    _private.clear()
    drivers.after_fork()
    _clients_lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)
