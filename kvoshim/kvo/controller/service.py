"""What the controller does for its clients: a method for each message."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from kvoshim.errors import AccessDeniedError, KvoshimError, LimitError, ProtocolError, RateLimitError
from kvoshim.kvo import wire
from kvoshim.kvo.controller.catalog import Catalog
from kvoshim.kvo.controller.entries import Store
from kvoshim.kvo.controller.links import Ear
from kvoshim.kvo.controller.policy import Policy
from kvoshim.kvo.controller.session import Session

log = logging.getLogger("kvoshim.controller")

_ROWS = 100  # observables in one part of a list
_COSTS = {wire.Bell: 0.02, wire.List: 20}  # in requests; the rest costs one. An owner rings at most once a sleep of ours


class Service:
    """sessions: those that are open, by number. flush: sends what is due. leave(session, reason): ends a session."""

    def __init__(self, catalog: Catalog, flush: Callable[[], None], leave: Callable[[Session, str], None]) -> None:
        self.catalog = catalog
        self.term = 0
        self.policy = Policy()
        self.sessions: dict[int, Session] = {}
        self.by_token: dict[bytes, Session] = {}
        self._flush = flush
        self._leave = leave

    def handle(self, session: Session, message: wire.Message) -> None:
        """Does what a message asks for. ProtocolError if the session cannot go on after it; RateLimitError if it has to
        wait, which it was told then."""
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
        error = self._exceeded(session, message)
        if error is not None and hasattr(message, "request"):  # what has no answer is done, and the next one is waited with
            session.send(wire.PROTOCOL.failure(message.request, error))
            raise error
        try:
            handler(self, session, message)
        except ProtocolError:
            raise
        except KvoshimError as refusal:
            log.info("%s: %s refused: %s", session, type(message).__name__, refusal)
            session.send(wire.PROTOCOL.failure(message.request, refusal))
        if error is not None:
            raise error

    def _exceeded(self, session: Session, message: wire.Message) -> RateLimitError | None:
        limits, cost = self.catalog.limits, _COSTS.get(type(message), 1)
        if type(message) is wire.Listen and session.ear is not None:
            cost += len(self.catalog.links.of(session))  # which are arranged anew
        if not session.bucket.take(cost, limits.requests_per_s, limits.requests_burst):
            who, rate = "client", limits.requests_per_s
        elif not session.account.take(cost, limits.per_user):
            who, rate = "user", limits.per_user.requests_per_s
        else:
            return None
        return RateLimitError(f"a {who} may make {rate:g} requests a second; try again a little later")

    def enforce(self, policy: Policy) -> None:
        """Puts a policy in force, for those who are here as well: what it does not admit any more ends."""
        old, self.policy = self.policy, policy
        for session in list(self.sessions.values()):
            caller = session.caller
            try:
                policy.check_client(caller)
            except AccessDeniedError as error:
                self.turn_away(session, error)
                continue
            if session.channel is not None and old.admits(caller, "publish") != policy.admits(caller, "publish"):
                self._leave(session, "it is to have another table")  # it comes back at once
                continue
            for name in {*session.given, *(one.name for one in session.registrations.values())}:
                self._revoke(session, "observe", name)
            for name in list(session.names):
                self._revoke(session, "publish", name)

    def _revoke(self, session: Session, action: str, name: str) -> None:
        try:
            self.policy.check(session.caller, action, name)
        except AccessDeniedError as error:
            log.info("%s: %s", session, error)
            if action == "publish":
                self.catalog.forget_claim(session, name)
                if (store := self.catalog.stores.get(name)) is not None and store.owner is session:
                    self.end(store, discard=False)
            else:
                session.given.pop(name, None)
                for number in [one.number for one in session.registrations.values() if one.name == name]:
                    self.catalog.unregister(session, number)
                self.catalog.unlink(session, name)
            session.send(wire.Denied(name, action == "publish", wire.PROTOCOL.code_of(error), str(error)))

    def turn_away(self, session: Session, error: KvoshimError) -> None:
        """Ends a session, and lets its client know why."""
        session.send(wire.PROTOCOL.failure(0, error))
        try:
            session.flush()
        except OSError:
            pass
        self._leave(session, str(error))

    def end(self, store: Store, discard: bool) -> None:
        """An observable has ended: tells everybody who has to do with it."""
        interested = self._interested(store.name)
        gone = wire.Gone(store.name, store.monitor.instance, discard)
        self.catalog.end(store, discard)
        self._flush()  # what was found of the last changes; the observers find the rest when they hear that there will be no more
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

    def _visible(self, session: Session, target: str | int) -> str:
        """The name that a target stands for. AccessDeniedError, whether there is such a name or not."""
        name = self.catalog.resolve(target, lambda name: self.policy.allows(session.caller, "observe", name))
        self.policy.check(session.caller, "observe", name)
        return name

    # --- messages ---------------------------------------------

    def _on_bell(self, session: Session, message: wire.Bell) -> None:
        """It has woken us."""

    def _on_claim(self, session: Session, message: wire.Claim) -> None:
        self.policy.check(session.caller, "publish", message.name)
        holder = self.catalog.holder(message.name)
        if holder is not None and holder is not session and holder.process_ended():
            self._leave(holder, "its process has ended")
        floor, fd = self.catalog.claim(session, message.name, message.instance)
        if fd >= 0 and not self.policy.allows(session.caller, "observe", message.name):
            # A successor that may not read what is there goes on above its revisions, and that is all.
            floor, fd = max(floor, self.catalog.above(self.catalog.stores[message.name])), -1
        ticket = session.send_descriptor(fd) if fd >= 0 else 0
        session.send(wire.Claimed(message.request, floor, ticket))

    def _on_publish(self, session: Session, message: wire.Publish) -> None:
        if session.channel is None:
            raise ProtocolError("the descriptor channel is not open")
        fd = session.channel.take(message.ticket)
        store, moving = self.catalog.publish(session, message.name, fd)
        session.send(wire.Published(message.request, store.number))  # first of all: what follows is about its place in the table
        self.catalog.move_in(store, moving)
        for other in self._interested(store.name):
            other.send(wire.Offered(self._info(other, store)))

    def _on_withdraw(self, session: Session, message: wire.Withdraw) -> None:
        store = self.catalog.stores.get(message.name)
        if store is not None and store.owner is session:
            self.end(store, message.discard)
        session.send(wire.Done(message.request))

    def _on_open(self, session: Session, message: wire.Open) -> None:
        name = self._visible(session, message.target)
        if message.keep and name not in session.given:
            most = self.catalog.limits.registrations_per_client
            if len(session.given) >= most:
                raise LimitError(f"a client may ask for {most} names at a time")
            session.given[name] = b""
        store = self.catalog.store_of(name)
        session.send(wire.Opened(message.request, self._info(session, store)))

    def _on_observe(self, session: Session, message: wire.Observe) -> None:
        registration = self.catalog.register(session, message, self._visible(session, message.target))
        store = registration.store
        info = self._info(session, store) if store is not None else None
        session.send(wire.Observed(message.request, registration.name, info))

    def _on_listen(self, session: Session, message: wire.Listen) -> None:
        if session.channel is None:
            raise ProtocolError("the descriptor channel is not open")
        page = session.channel.take(message.ticket)
        if not self.policy.admits(session.caller, "observe"):
            os.close(page)
            raise AccessDeniedError(f"user {session.uid} may observe nothing")
        self.catalog.deafen(session)
        ear = Ear(page)
        session.send(wire.Listening(message.request, session.listen(ear), ear.number))
        self.catalog.join(session)

    def _on_deaf(self, session: Session, message: wire.Deaf) -> None:
        if session.ear is not None and session.ear.number == message.bell:  # else it has another one by now
            log.warning("%s: its bell is broken; the controller tells it of changes now", session)
            self.catalog.deafen(session)

    def _on_linked(self, session: Session, message: wire.Linked) -> None:
        self.catalog.linked(session, message.number, message.ok)

    def _on_unobserve(self, session: Session, message: wire.Unobserve) -> None:
        self.catalog.unregister(session, message.registration)

    def _on_ping(self, session: Session, message: wire.Ping) -> None:
        session.send(wire.Done(message.request))

    def _on_report(self, session: Session, message: wire.Report) -> None:
        if not self.catalog.counts.reported(session, message):
            raise ProtocolError("what it has counted is no report")

    def _on_list(self, session: Session, message: wire.List) -> None:
        allows, caller = self.policy.allows, session.caller
        rows = self.catalog.rows(lambda name: name in session.names or allows(caller, "observe", name))
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
        wire.Bell: _on_bell,
        wire.Listen: _on_listen,
        wire.Deaf: _on_deaf,
        wire.Linked: _on_linked,
    }
