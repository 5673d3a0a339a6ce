"""What the controller does for its clients: a method for each message."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from kvoshim.errors import KvoshimError, LimitError, ProtocolError
from kvoshim.kvo import wire
from kvoshim.kvo.controller.catalog import Catalog, Store
from kvoshim.kvo.controller.session import Session

log = logging.getLogger("kvoshim.controller")

_ROWS = 100  # observables in one part of a list


class Service:
    """sessions: those that are open, by number. flush: sends what is due. leave(session, reason): ends a session."""

    def __init__(self, catalog: Catalog, flush: Callable[[], None], leave: Callable[[Session, str], None]) -> None:
        self.catalog = catalog
        self.term = 0
        self.sessions: dict[int, Session] = {}
        self.by_token: dict[bytes, Session] = {}
        self._flush = flush
        self._leave = leave

    def handle(self, session: Session, message: wire.Message) -> None:
        """Does what a message asks for. ProtocolError if the session cannot go on after it."""
        if isinstance(message, wire.Bell):
            return
        if not session.greeted:
            if not isinstance(message, wire.Hello):
                raise ProtocolError("the first message must be Hello")
            token = session.greet(message.program[:60])
            self.by_token[token] = session
            session.send(wire.Welcome(wire.VERSION, token, os.getpid(), self.term))
            log.info("%s of UID %d is here", session, session.uid)
            return
        handler = self._HANDLERS.get(type(message))
        if handler is None:
            raise ProtocolError(f"{type(message).__name__} is not expected here")
        try:
            handler(self, session, message)
        except ProtocolError:
            raise
        except KvoshimError as error:
            log.info("%s: %s refused: %s", session, type(message).__name__, error)
            session.send(wire.Failed(message.request, wire.code_of(error), str(error)))

    def end(self, store: Store, discard: bool) -> None:
        """An observable has ended: tells everybody who has to do with it."""
        interested = self._interested(store.name)
        gone = wire.Gone(store.name, store.monitor.instance, discard)
        self.catalog.end(store, discard)
        self._flush()  # the last changes go before the news that there will be no more
        for session in interested:
            if not session.closed:
                session.send(gone)
                if discard and store.name in session.given:
                    session.given[store.name] = b""

    def _interested(self, name: str) -> set[Session]:
        sessions = self.catalog.interested(name)
        sessions.update(session for session in self.sessions.values() if name in session.given)
        return sessions

    def _info(self, session: Session, store: Store) -> wire.StoreInfo:
        """Describes a store to a client, and gives it the descriptor if it does not have it."""
        monitor = store.monitor
        ticket = 0
        if session.given.get(store.name) != monitor.instance:
            ticket = session.send_descriptor(store.fd)
            session.given[store.name] = monitor.instance
        return wire.StoreInfo(
            store.name,
            monitor.owner_pid,
            monitor.owner_start,
            monitor.instance,
            store.owner is not None,
            ticket,
        )

    # --- messages ---------------------------------------------

    def _on_claim(self, session: Session, message: wire.Claim) -> None:
        holder = self.catalog.holder(message.name)
        if holder is not None and holder is not session and holder.process_ended():
            self._leave(holder, "its process has ended")
        floor, fd = self.catalog.claim(session, message.name, message.instance)
        ticket = session.send_descriptor(fd) if fd >= 0 else 0
        session.send(wire.Claimed(message.request, floor, ticket))

    def _on_publish(self, session: Session, message: wire.Publish) -> None:
        if session.channel is None:
            raise ProtocolError("the descriptor channel is not open")
        fd = session.channel.take(message.ticket)
        store = self.catalog.publish(session, message.name, fd)
        session.send(wire.Published(message.request, store.number))
        for other in self._interested(store.name):
            other.send(wire.Offered(self._info(other, store)))

    def _on_withdraw(self, session: Session, message: wire.Withdraw) -> None:
        store = self.catalog.stores.get(message.name)
        if store is not None and store.owner is session:
            self.end(store, message.discard)
        session.send(wire.Done(message.request))

    def _on_open(self, session: Session, message: wire.Open) -> None:
        name = self.catalog.resolve(message.target)
        if message.keep and name not in session.given:
            most = self.catalog.limits.registrations_per_client
            if len(session.given) >= most:
                raise LimitError(f"a client may ask for {most} names at a time")
            session.given[name] = b""
        store = self.catalog.store_of(name)
        session.send(wire.Opened(message.request, self._info(session, store)))

    def _on_observe(self, session: Session, message: wire.Observe) -> None:
        registration = self.catalog.register(session, message)
        store = registration.store
        info = self._info(session, store) if store is not None else None
        session.send(wire.Observed(message.request, registration.name, info))

    def _on_unobserve(self, session: Session, message: wire.Unobserve) -> None:
        self.catalog.unregister(session, message.registration)

    def _on_ping(self, session: Session, message: wire.Ping) -> None:
        session.send(wire.Done(message.request))

    def _on_report(self, session: Session, message: wire.Report) -> None:
        if not self.catalog.counts.reported(session, message):
            raise ProtocolError("what it has counted is no report")

    def _on_list(self, session: Session, message: wire.List) -> None:
        rows = self.catalog.rows()
        for start in range(0, max(1, len(rows)), _ROWS):
            more = start + _ROWS < len(rows)
            session.send(wire.Listing(message.request, rows[start : start + _ROWS], more))

    _HANDLERS = {
        wire.Claim: _on_claim,
        wire.Publish: _on_publish,
        wire.Withdraw: _on_withdraw,
        wire.Open: _on_open,
        wire.Observe: _on_observe,
        wire.Unobserve: _on_unobserve,
        wire.List: _on_list,
        wire.Ping: _on_ping,
        wire.Report: _on_report,
    }
