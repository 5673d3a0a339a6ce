"""The client of a controller: one connection and one background thread for all of a process's observers and
observables.

The thread receives: answers wake the threads that asked, notifications become callbacks, which run on this
thread. If the controller dies, the thread connects again (and starts a controller, unless autostart is off),
hands in the stores and registrations that this process has, and compares versions, so that nothing that was
set meanwhile is missed. A request from within a callback runs on the thread that would have to receive its
answer: it receives by itself until the answer is there, and leaves notifications for later.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvoshim import _memory, identity
from kvoshim._store import Reader
from kvoshim.errors import ClosedError, ControllerUnavailableError, ForkedError, KvoshimError, ProtocolError
from kvoshim.kvo import launch, paths, wire
from kvoshim.kvo.link import Link, LinkLost

if TYPE_CHECKING:
    from kvoshim.kvo.observable import Publication
    from kvoshim.kvo.observation import Observation

log = logging.getLogger("kvoshim.client")

ANSWER_S = 15.0  # for the controller to answer, restarts included
_BACKOFF_S = (0.02, 1.0)  # first and longest pause between attempts to reconnect
_SUSPECT_S = 1.0  # between looks at the owners of stores of which a new controller does not know

_clients: dict[tuple[str, bool], Client] = {}
_clients_lock = threading.RLock()  # a finalizer may want it while its own thread holds it


@dataclass(eq=False)
class Handle:
    """An observable as this process sees it. Replaced by another when a successor publishes the name."""

    name: str
    pid: int
    start: int
    instance: bytes
    live: bool
    reader: Reader
    discarded: bool = False  # its owner wants its values forgotten

    def owner_ended(self) -> bool:
        """Whether the owner has closed the store or died, as far as can be seen without a controller."""
        return self.reader.finished or not identity.alive(self.pid, self.start)


class _Call:
    """A request that waits for its answer; sent again after a reconnection."""

    def __init__(
        self,
        build: Callable[..., wire.Message],
        fd: int = -1,
        then: Callable[[Link, Any], None] | None = None,
    ) -> None:
        self.build = build
        self.fd = fd
        self.then = then
        self.answered = threading.Event()
        self.answer: Any = None
        self.rows: list[wire.Row] = []


class Client:
    """Shared by all users in the process of one controller path; get one by acquire(), give it back by
    release()."""

    def __init__(self, path: str, autostart: bool) -> None:
        self.path = path
        self.autostart = autostart
        self.generation = _memory.generation()
        self.handles: dict[str | int, Handle] = {}  # by name, and by PID where somebody asked by PID
        self.observations: dict[int, Observation] = {}
        self.publications: dict[str, Publication] = {}
        self.users = 0
        self.lost = threading.Event()  # set while there is no connection
        self._link: Link | None = None
        self._lock = threading.RLock()
        self._calls: dict[int, _Call] = {}
        self._number = 0
        self._closing = threading.Event()
        self._todo: dict[
            tuple[int, int | None], None
        ] = {}  # (registration, slot or all) to refresh, in order
        self._suspects: set[Handle] = set()
        self._timer: threading.Timer | None = None
        self._link = launch.connect(path, autostart)
        self._thread = threading.Thread(target=self._run, name="kvoshim-client", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls, path: str | os.PathLike[str] | None, autostart: bool) -> Client:
        """The process's client for a controller, connected. ControllerUnavailableError, ProtocolError."""
        key = (paths.controller_path(path), autostart)
        with _clients_lock:
            client = _clients.get(key)
            if client is None:
                client = _clients[key] = cls(*key)
            client.users += 1
            return client

    def release(self) -> None:
        """Gives a client back; the last one closes the connection and ends the thread."""
        with _clients_lock:
            if self.forked:
                return
            self.users -= 1
            if self.users:
                return
            del _clients[self.path, self.autostart]
        self._closing.set()
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            if self._link is not None:
                self._link.shut()
        if threading.current_thread() is not self._thread:
            self._thread.join(ANSWER_S)
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

    # --- requests ---------------------------------------------

    def request(
        self,
        build: Callable[..., wire.Message],
        fd: int = -1,
        link: Link | None = None,
        then: Callable[[Link, Any], None] | None = None,
    ) -> Any:
        """Sends build(request number) and waits for the answer; with `fd`: build(request number, ticket).

        then(link, answer) runs on the background thread before anything else that came over the link is
        handled. Raises the error that the controller answers with; ControllerUnavailableError if it does not
        answer. With `link`, which is how the thread itself hands things in, the request is bound to that
        connection: LinkLost.
        """
        self.check()
        if self._closing.is_set():
            raise ClosedError("the client was closed")
        call = _Call(build, fd, then)
        with self._lock:
            self._number += 1
            number = self._number
            self._calls[number] = call
            current = link or self._link
        try:
            if current is not None:
                try:
                    self._transmit(current, number, call)
                except LinkLost:
                    if link is not None:
                        raise
            if link is not None:
                while not call.answered.is_set():
                    self._take_in(link, link.receive())
            elif threading.current_thread() is self._thread:
                self._pump(call)
            elif not call.answered.wait(ANSWER_S):
                raise ControllerUnavailableError(
                    f"the controller at {self.path} has not answered for {ANSWER_S:g} s"
                )
        finally:
            with self._lock:
                del self._calls[number]
        if isinstance(call.answer, KvoshimError):
            raise call.answer
        return call.answer

    def post(self, message: wire.Message) -> None:
        """Sends a message that has no answer; lost with the connection, which is then made good by handing
        in."""
        link = self._link
        if link is not None:
            try:
                link.send(message)
            except LinkLost:
                pass

    @staticmethod
    def _transmit(link: Link, number: int, call: _Call) -> None:
        if call.fd >= 0:
            link.send_with_descriptor(lambda ticket: call.build(number, ticket), call.fd)
        else:
            link.send(call.build(number))

    def _pump(self, call: _Call) -> None:
        deadline = time.monotonic() + ANSWER_S
        while not call.answered.is_set():
            link = self._link
            try:
                if link is None:
                    raise LinkLost("no connection")
                self._take_in(link, link.receive())
            except LinkLost as error:
                self._reconnect(error, deadline)
                if self._link is None:
                    raise ControllerUnavailableError(
                        f"the controller at {self.path} is gone: {error}"
                    ) from None

    @property
    def link(self) -> Link | None:
        """The connection, if there is one."""
        return self._link

    def bell(self) -> None:
        """Wakes the controller; called by a store whose observed key was set while the controller slept."""
        link = self._link
        if link is not None:
            link.bell()

    # --- what users need ---------------------------------------------

    def open(self, target: str | int) -> Handle:
        """The store of a name or PID. UnknownNameError, AmbiguousTargetError."""
        opened = self.request(lambda number: wire.Open(number, target, False))
        handle = self.handles[opened.info.name]
        self.handles[target] = handle
        return handle

    def observe(self, make: Callable[[int], Observation]) -> Observation:
        """Registers the observation that make(number) gives; returns once it is in force."""
        with self._lock:
            self._number += 1
            observation = self.observations[self._number] = make(self._number)
        try:
            self._register(observation)
        except BaseException:
            observation.closed = True
            self.forget(observation)
            raise
        return observation

    def _register(self, observation: Observation, link: Link | None = None) -> None:
        def begin(_link: Link, observed: wire.Observed) -> None:
            if not observation.closed:
                observation.name = observed.name
                observation.begin(self.handles.get(observed.name) if observed.info is not None else None)
                self._todo[observation.number, None] = None

        self.request(
            lambda number: wire.Observe(
                number,
                observation.number,
                observation.name or observation.target,
                observation.key,
                observation.wait,
                observation.last,
                observation.instance,
            ),
            link=link,
            then=begin,
        )

    def forget(self, observation: Observation) -> None:
        """Ends a registration."""
        if (
            self.observations.pop(observation.number, None) is not None
            and not self.forked
        ):
            self.post(wire.Unobserve(observation.number))

    def rows(self) -> list[wire.Row]:
        """All observables that the controller knows."""
        return self.request(lambda number: wire.List(number))

    # --- the background thread ---------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            link = self._link
            try:
                if link is None:
                    raise LinkLost("no connection")
                self._take_in(link, link.receive())
                self._dispatch()
            except LinkLost as error:
                if not self._closing.is_set():
                    self._reconnect(error, dispatch=True)
            except Exception:
                log.exception("a message from the controller could not be handled")
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def _take_in(self, link: Link, messages: list[wire.Message]) -> None:
        """Handles what needs no callback at once; notes the rest in `todo`."""
        for message in messages:
            if isinstance(message, wire.Notify):
                for registration, slot, _version in message.items:
                    self._todo[registration, slot] = None
            elif isinstance(message, wire.Offered):
                try:
                    self._adopt(link, message.info)
                except KvoshimError as error:
                    log.error("the store of %r cannot be read: %s", message.info.name, error)
            elif isinstance(message, wire.Gone):
                handle = self.handles.get(message.name)
                if handle is not None and handle.instance == message.instance:
                    handle.live, handle.discarded = False, message.discarded
                    self._refresh_later(handle.name)
            elif isinstance(message, wire.Raise):
                publication = self.publications.get(message.name)
                if publication is not None:
                    publication.writer.raise_floor(message.floor)
            else:
                self._on_answer(link, message)
        if self._suspects:
            self._examine_suspects()

    def _on_answer(self, link: Link, message: Any) -> None:
        call = self._calls.get(message.request) or _Call(wire.Ping)
        answer = message
        try:
            if isinstance(message, wire.Listing):
                call.rows.extend(message.rows)
                if message.more:
                    return
                answer = call.rows
            elif isinstance(message, wire.Failed):
                answer = wire.ERRORS.get(message.code, KvoshimError)(message.text)
            elif isinstance(message, wire.Claimed):
                answer = message, link.channel.take(message.ticket) if message.ticket else -1
            elif isinstance(message, wire.Opened):
                self._adopt(link, message.info)
            elif isinstance(message, wire.Observed):
                if message.info is not None:
                    self._adopt(link, message.info)
            if call.then is not None and not isinstance(answer, KvoshimError):
                call.then(link, message)
        except ProtocolError as error:
            raise LinkLost(str(error)) from None
        except KvoshimError as error:
            answer = error
        call.answer = answer
        call.answered.set()

    def _adopt(self, link: Link, info: wire.StoreInfo) -> None:
        """Takes over what the controller says of a store, and the store if it is another than before."""
        handle = self.handles.get(info.name)
        fd = link.channel.take(info.ticket) if info.ticket else -1
        try:
            if handle is not None and handle.instance == info.instance:
                if handle.live == info.live and handle not in self._suspects:
                    return  # nothing new
                handle.live = info.live
            elif fd < 0:
                raise ProtocolError(f"the controller gave no descriptor for {info.name!r}")
            else:
                reader = Reader(fd)
                if handle is not None:
                    self._drop_handle(handle)
                handle = Handle(info.name, info.pid, info.start, info.instance, info.live, reader)
                self.handles[info.name] = handle
        finally:
            if fd >= 0:
                os.close(fd)
        self._suspects.discard(handle)
        self._refresh_later(info.name)

    def _drop_handle(self, handle: Handle) -> None:
        for target in [target for target, known in self.handles.items() if known is handle]:
            del self.handles[target]
        self._suspects.discard(handle)

    def _refresh_later(self, name: str) -> None:
        for observation in list(self.observations.values()):
            if observation.name == name:
                self._todo[observation.number, None] = None

    def _dispatch(self) -> None:
        """Runs the callbacks that are due."""
        while self._todo:
            number, slot = item = next(iter(self._todo))
            del self._todo[item]
            observation = self.observations.get(number)
            handle = self.handles.get(observation.name) if observation is not None else None
            if handle is not None:
                observation.refresh(handle, slot)
        for handle in [handle for handle in self.handles.values() if handle.discarded]:
            self._drop_handle(handle)

    # --- losing and finding the controller ---------------------------------------------

    def _reconnect(self, error: Exception, deadline: float = 0.0, dispatch: bool = False) -> None:
        """Connects again and hands in what this process has; gives up only at the deadline, or when
        closed."""
        log.warning("the controller at %s is lost: %s", self.path, error)
        self.lost.set()
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()
        self._suspects.update(handle for handle in self.handles.values() if handle.live)
        pause, said = _BACKOFF_S[0], ""
        while not self._closing.is_set():
            try:
                link = launch.connect(self.path, self.autostart)
                try:
                    self._hand_in(link)
                except BaseException:
                    link.close()
                    raise
                break
            except (KvoshimError, LinkLost) as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("no connection yet: %s", error)
            self._examine_suspects()
            if dispatch:
                self._dispatch()
            if deadline and time.monotonic() > deadline:
                return
            self._closing.wait(pause)
            pause = min(2 * pause, _BACKOFF_S[1])
        else:
            return
        with self._lock:
            self._link = link
            calls = list(self._calls.items())
        self.lost.clear()
        log.info("connected to the controller of PID %d", link.controller_pid)
        try:
            for number, call in calls:
                self._transmit(link, number, call)
        except LinkLost:
            pass  # noticed again by the next receive(), with the calls still there
        if dispatch:
            self._dispatch()
        if self._suspects:
            self._examine_later()

    def _hand_in(self, link: Link) -> None:
        for publication in list(self.publications.values()):
            try:
                publication.hand_in(link)
            except KvoshimError as error:
                log.error("%r can no longer be published: %s", publication.name, error)
        covered = set()
        for observation in list(self.observations.values()):
            covered.add(observation.name)
            try:
                self._register(observation, link)
            except KvoshimError as error:
                log.error("%r of %r can no longer be observed: %s", observation.key, observation.name, error)
        for name in {handle.name for handle in self.handles.values()} - covered:
            try:
                self.request(lambda number, name=name: wire.Open(number, name, True), link=link)
            except KvoshimError:
                pass  # its values stay readable here; the controller tells if the name is published again

    def _examine_suspects(self) -> None:
        """Looks after the owners of stores of which no controller knows at the moment."""
        for handle in list(self._suspects):
            if handle.owner_ended():
                self._suspects.discard(handle)
                handle.live = False
                self._refresh_later(handle.name)

    def _examine_later(self) -> None:
        # Callbacks belong to the one thread, which waits for the controller: let the controller answer
        # something.
        def ask() -> None:
            if self._suspects and not self._closing.is_set():
                self.post(wire.Ping(0))
                self._examine_later()

        timer = threading.Timer(_SUSPECT_S, ask)
        timer.daemon = True
        timer.name = "kvoshim-suspects"
        self._timer = timer
        timer.start()

    def abandon(self) -> None:
        """In a forked child: lets go of the parent's connection without a word."""
        link, self._link = self._link, None
        if link is not None:
            link.close()


def _after_fork_in_child() -> None:
    global _clients_lock
    for client in _clients.values():
        client.abandon()
    _clients.clear()
    _clients_lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)
