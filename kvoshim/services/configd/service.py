"""What configd does with what its clients say.

Transactions that arrive in one turn of the loop are kept together, with one sync. Their clients hear Done only then, and so does
everybody who watches.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from kvoshim.errors import KvoshimError, LimitError, ProtocolError, RateLimitError, StorageError
from kvoshim.process.framing import frame
from kvoshim.services.configd import wire
from kvoshim.services.configd.engine import Done, Engine
from kvoshim.services.configd.policy import Policy
from kvoshim.services.configd.session import Session
from kvoshim.services.configd.settings import Limits
from kvoshim.services.core import model
from kvoshim.services.core.operations import AnyOperation, Create, Event, Import

log = logging.getLogger("kvoshim.configd")

_TOGETHER_MAX = 1000  # transactions that are kept with one sync


class Service:
    """changed(events): told of what has been kept."""

    def __init__(self, loop, engine: Engine, policy: Policy, limits: Limits, changed: Callable[[tuple[Event, ...]], None]) -> None:
        self.engine = engine
        self.policy = policy
        self.limits = limits
        self.sessions: dict[int, Session] = {}
        self.count = {"transactions": 0, "refusals": 0, "syncs": 0, "events": 0}
        self.flush: Callable[[Session], None] = lambda session: None
        self._loop = loop
        self._changed = changed
        self._waiting: list[tuple[Session, int]] = []  # whose transactions the engine holds, in its order
        self._due = None
        self._handlers = {wire.Read: self._read, wire.Transact: self._transact, wire.Watch: self._watch}

    def handle(self, session: Session, message: wire.Message) -> None:
        """ProtocolError, RateLimitError: this client is not to be read on, or not for a while."""
        if isinstance(message, wire.Hello):
            if message.version != wire.VERSION:
                raise ProtocolError(f"it speaks version {message.version}, not {wire.VERSION}")
            session.program = message.program if message.program.isprintable() else "?"
            session.greeted = True
            storage = self.engine.storage
            session.send(wire.Welcome(wire.VERSION, os.getpid(), self.engine.repository.revision, storage.reason))
            self.flush(session)
            return
        if not session.greeted:
            raise ProtocolError("it does not begin with Hello")
        try:
            self._handlers[type(message)](session, message)
        except (ProtocolError, RateLimitError):
            raise
        except KvoshimError as error:
            self._refuse(session, message.request, error)

    def _refuse(self, session: Session, request: int, error: KvoshimError) -> None:
        self.count["refusals"] += 1
        log.info("%s: refused: %s", session, error)
        session.send(wire.PROTOCOL.failure(request, error))
        self.flush(session)

    # --- reading ---------------------------------------------

    def _visible(self, session: Session, names) -> dict[str, model.Service]:
        services = self.engine.repository.services
        return {
            name: services[name] for name in names if name in services and self.policy.allows(session.caller, "read", name)
        }  # fmt: skip

    def _read(self, session: Session, message: wire.Read) -> None:
        repository = self.engine.repository
        services = self._visible(session, message.services or repository.services)
        session.send(wire.Here(message.request, repository.revision, repository.pulse, services))
        self.flush(session)

    def _watch(self, session: Session, message: wire.Watch) -> None:
        session.watching = message.on
        repository = self.engine.repository
        services = self._visible(session, repository.services) if message.on else {}
        session.send(wire.Here(message.request, repository.revision, repository.pulse, services))
        self.flush(session)

    # --- changing ---------------------------------------------

    def _transact(self, session: Session, message: wire.Transact) -> None:
        self.policy.check_operations(session.caller, message.operations)
        self._check_room(message.operations)
        self.engine.add(message.operations, message.expected)
        self._waiting.append((session, message.request))
        if len(self._waiting) >= _TOGETHER_MAX:
            self._keep()
        elif self._due is None:
            self._due = self._loop.call_soon(self._keep)

    def _check_room(self, operations: tuple[AnyOperation, ...]) -> None:
        services = self.engine.repository.services
        new = {one.service if isinstance(one, Import) else one.target for one in operations if isinstance(one, Import | Create)}
        if len(services) + sum(name.partition(":")[0] not in services for name in new) > self.limits.services:
            raise LimitError(f"the repository may have {self.limits.services} services")

    def _keep(self) -> None:
        """What has come in this turn is kept, and everybody told."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        self.count["syncs"] += 1
        try:
            kept = self.engine.commit()
        except StorageError as error:
            log.error("%s", error)
            for session, request in waiting:
                self._refuse(session, request, error)
            return
        self.count["transactions"] += len(kept)
        for (session, request), done in zip(waiting, kept, strict=True):
            session.send(wire.Done(request, done.revision, done.pulse, done.events))
            self.flush(session)
        self._tell(kept)
        self.engine.settle()

    def _tell(self, kept: list[Done]) -> None:
        events = tuple(event for done in kept for event in done.events)
        if not events:
            return
        self.count["events"] += len(events)
        if watching := [session for session in self.sessions.values() if session.watching]:
            self._tell_watchers(watching, events)
        self._changed(events)

    def _tell_watchers(self, watching: list[Session], events: tuple[Event, ...]) -> None:
        whole = self._happened(events)
        data = frame(whole)
        for session in watching:
            hidden = {name for name in self._names(whole) if not self.policy.allows(session.caller, "read", name)}
            if not hidden:
                session.put(data)
            elif events_left := tuple(event for event in events if _service_of(event.target) not in hidden):
                session.send(self._happened(events_left))
            self.flush(session)

    def _happened(self, events: tuple[Event, ...]) -> wire.Happened:
        """What tells of these. A state's report is no reason to send the whole service: there are many of them."""
        repository = self.engine.repository
        touched = {_service_of(event.target) for event in events if not _is_state(event)}
        services = {name: repository.services.get(name) for name in sorted(touched)}
        volatile = {}
        for event in events:
            name, _, short = event.target.partition(":")
            if name not in touched and name in repository.services and short in repository.services[name].instances:
                volatile[event.target] = repository.services[name].instances[short].volatile
        return wire.Happened(repository.revision, repository.pulse, events, services, volatile)

    @staticmethod
    def _names(message: wire.Happened) -> set[str]:
        return {*message.services, *(_service_of(target) for target in message.volatile)}


def _service_of(target: str) -> str:
    return target.partition(":")[0]


def _is_state(event: Event) -> bool:
    return event.kind == "reported" and event.detail == model.RESTARTER
