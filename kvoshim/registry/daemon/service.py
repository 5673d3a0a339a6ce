"""What the registry does with what its clients say."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable

from kvoshim.errors import KvoshimError, LimitError, NoAnswerError, ProtocolError, RateLimitError, UnknownNameError
from kvoshim.process.framing import frame
from kvoshim.registry import wire
from kvoshim.registry.catalogue import Catalogue, Outcome
from kvoshim.registry.daemon.ledger import Ledger
from kvoshim.registry.daemon.policy import Policy
from kvoshim.registry.daemon.session import Session
from kvoshim.registry.daemon.settings import Limits
from kvoshim.registry.daemon.shelf import Shelf
from kvoshim.registry.entry import Entry, order

log = logging.getLogger("kvoshim.registry")

_ANSWER_S = 30.0  # for a process that is asked something; who asks may wait for less
_TELLING_SHARE = 4  # telling takes at most one part in five of the time
_PARKED_MAX = 65536


class Service:
    """flush(session): sends what there is for it."""

    def __init__(
        self, loop, catalogue: Catalogue, shelf: Shelf, ledger: Ledger, policy: Policy, limits: Limits,
        flush: Callable[[Session], None],
    ) -> None:  # fmt: skip
        self.catalogue = catalogue
        self.shelf = shelf
        self.ledger = ledger
        self.policy = policy
        self.limits = limits
        self.sessions: dict[int, Session] = {}
        self.count = {"registrations": 0, "deregistrations": 0, "deaths": 0, "questions": 0, "refusals": 0, "rounds": 0}
        self.occupied: Callable[[], None] = lambda: None  # called when there is an entry
        self.published: Callable[[list[Outcome]], None] = lambda outcomes: None  # called with what has changed here
        self._loop = loop
        self._flush = flush
        self._parked: list[tuple[Session, wire.Register]] = []  # what is to be registered when all are back
        self.whole = True  # what is registered on other hosts is in the store, as far as it is known (hosts.py)
        self.outside = None  # who asks those that are registered elsewhere: outside.py, hosts.py
        self._questions: dict[int, tuple[Session, int, Session | None]] = {}  # number -> who asks, its request, who is asked
        self._numbers = itertools.count(1)
        self._mirrored: dict[str, dict[tuple[int, str], Entry]] = {}  # what is other registries', by name
        self._telling = None  # the call that tells of changes
        self._next_round = 0.0
        self._handlers = {
            wire.Register: self._register,
            wire.Update: self._update,
            wire.Deregister: self._deregister,
            wire.Watch: self._watch,
            wire.Ask: self._ask,
            wire.Reply: self._reply,
            wire.Find: self._find,
            wire.Sync: self._sync,
        }

    def handle(self, session: Session, message: wire.Message) -> None:
        """ProtocolError, RateLimitError: this client is not to be read on, or not for a while. OSError."""
        if session.refusal is not None:
            raise session.refusal
        if isinstance(message, wire.Hello):
            if message.version != wire.VERSION:
                raise ProtocolError(f"it speaks version {message.version}, not {wire.VERSION}")
            catalogue = self.catalogue
            welcome = wire.Welcome(wire.VERSION, os.getpid(), catalogue.reach, catalogue.settled, self.whole)
            session.welcome(message, welcome, self.shelf.fd)
            return
        if not session.greeted:
            raise ProtocolError("it does not begin with Hello")
        try:
            self._handlers[type(message)](session, message)
        except (ProtocolError, RateLimitError):
            raise
        except KvoshimError as error:
            self.count["refusals"] += 1
            log.info("%s: refused: %s", session, error)
            session.send(wire.PROTOCOL.failure(getattr(message, "request", 0), error))
            self._flush(session)

    # --- coming, changing, going ---------------------------------------------

    def _register(self, session: Session, message: wire.Register) -> None:
        self.policy.check(session.caller, "register", message.offer.name)
        self._check_quota(session)
        former = self.ledger.former(message.offer.name, session.who, message.receipt)
        if former is not None:
            outcomes = self.catalogue.restore(session.number, session.who, message.offer, former)
        elif not self.catalogue.settled:
            if len(self._parked) >= _PARKED_MAX:
                raise LimitError(f"{_PARKED_MAX} processes wait for their names already")
            self._parked.append((session, message))
            return
        else:
            outcomes = self.catalogue.register(session.number, session.who, message.offer, time.time())
        self.count["registrations"] += 1
        self.ledger.note(session.who)
        self._publish(outcomes, session, message.request)
        self.occupied()

    def _check_quota(self, session: Session) -> None:
        if len(self.catalogue.held(session.number)) >= self.limits.entries_per_client:
            raise LimitError(f"a client may register {self.limits.entries_per_client} entries")
        uid, most = session.caller.uid, self.limits.per_user.entries
        if not Policy.trusts(uid):
            held = sum(len(self.catalogue.held(one.number)) for one in self.sessions.values() if one.caller.uid == uid)
            if held >= most:
                raise LimitError(f"user {uid} may register {most} entries")

    def _own(self, session: Session, number: int) -> None:
        if number not in self.catalogue or self.catalogue.holder(number) != session.number:
            raise UnknownNameError(f"this client has nothing registered under number {number}")

    def _update(self, session: Session, message: wire.Update) -> None:
        self._own(session, message.id)
        self.policy.check(session.caller, "register", self.catalogue.entry(message.id).name)
        self._publish(self.catalogue.update(message.id, message.offer), session, message.request)

    def _deregister(self, session: Session, message: wire.Deregister) -> None:
        self._own(session, message.id)
        outcomes = self.catalogue.deregister(message.id)
        self.count["deregistrations"] += 1
        if not self.catalogue.held(session.number):
            self.ledger.strike(session.who)
        self._publish(outcomes)
        session.send(wire.Done(message.request, self.shelf.revision))
        self._flush(session)

    def leave(self, session: Session) -> None:
        """The client has ended."""
        self._parked = [one for one in self._parked if one[0] is not session]
        for number, (asker, request, asked) in list(self._questions.items()):
            if asked is session:
                self._answer(number, wire.Failed(request, "no-answer", "the process has ended"))
            elif asker is session:
                del self._questions[number]
        outcomes = self.catalogue.leave(session.number)
        if outcomes:
            self.count["deaths"] += 1
            self.ledger.strike(session.who)
            self._publish(outcomes)

    def suspect(self, session: Session, suspect: bool) -> None:
        self._publish(self.catalogue.suspect(session.number, suspect))

    def _publish(self, outcomes: list[Outcome], session: Session | None = None, request: int = 0) -> None:
        """Tells whom it concerns, then everybody. In this order: should the registry die in between, nobody has seen an owner
        that does not know of it. session, request: who asked for it; the last outcome is the answer."""
        for outcome in outcomes:
            holder = self.sessions.get(outcome.holder)
            if holder is None or not (outcome.owned or outcome.lost) or outcome is outcomes[-1] and holder is session:
                continue
            receipt = self.ledger.receipt(outcome.entry)
            holder.send(wire.Lost(receipt, outcome.gone) if outcome.lost else wire.Owned(receipt))
            self._flush(holder)
        if session is not None:
            entry = outcomes[-1].entry
            session.send(wire.Registered(request, entry, self.ledger.receipt(entry), self.shelf.revision + len(outcomes)))
            if outcomes[-1].lost:
                session.send(wire.Lost(self.ledger.receipt(entry), False))
            self._flush(session)
        for outcome in outcomes:
            (self.shelf.drop if outcome.gone else self.shelf.put)(outcome.entry)
        if outcomes:
            self.tell()
            self.published(outcomes)

    def mirror(self, put: list[Entry], drop: list[Entry]) -> None:
        """Publishes what is another registry's, or takes it back."""
        for entry in put:
            self.shelf.put(entry)
            self._mirrored.setdefault(entry.name, {})[entry.id, entry.host] = entry
        for entry in drop:
            self.shelf.drop(entry)
            named = self._mirrored.get(entry.name, {})
            named.pop((entry.id, entry.host), None)
            if not named:
                self._mirrored.pop(entry.name, None)
        if put or drop:
            self.tell()

    # --- telling ---------------------------------------------

    def _watch(self, session: Session, message: wire.Watch) -> None:
        session.watching = message.on
        if message.on:
            session.tell_changed()
            self._flush(session)

    def tell(self) -> None:
        """Lets those who search know, soon: what changes in one turn is told at once."""
        if self._telling is not None:
            return
        now = self._loop.time()
        if now >= self._next_round:
            self._telling = self._loop.call_soon(self._tell)
        else:
            self._telling = self._loop.call_at(self._next_round, self._tell)

    def _tell(self) -> None:
        self._telling = None
        begun = self._loop.time()
        self.count["rounds"] += 1
        for session in list(self.sessions.values()):
            if session.watching:
                session.tell_changed()
                self._flush(session)
        now = self._loop.time()
        self._next_round = now + _TELLING_SHARE * (now - begun)

    # --- settling ---------------------------------------------

    def _sync(self, session: Session, message: wire.Sync) -> None:
        session.send(wire.Done(message.request, self.shelf.revision))
        self._flush(session)
        if not message.request:
            self.back((session.who.pid, session.who.start))

    def back(self, process: tuple[int, int]) -> None:
        """A process that was expected has handed in all that it had, or has ended."""
        self.ledger.expected.discard(process)
        if not self.ledger.expected:
            self.settle()

    def settle(self) -> None:
        """Nobody else comes back."""
        if self.catalogue.settled:
            return
        for pid, _ in self.ledger.expected:
            log.warning("PID %d was registered before and has not come back", pid)
        self.ledger.expected.clear()
        self._publish(self.catalogue.settle())
        self._tell_all(wire.Settled())
        parked, self._parked = self._parked, []
        for session, message in parked:
            if not session.closed:
                self.handle(session, message)

    def complete(self) -> None:
        """What is registered on other hosts is in the store."""
        if not self.whole:
            self.whole = True
            self._tell_all(wire.Whole())

    def _tell_all(self, message: wire.Message) -> None:
        data = frame(message)
        for session in list(self.sessions.values()):
            if session.greeted:
                session.put(data)
                self._flush(session)

    # --- questions ---------------------------------------------

    def _ask(self, session: Session, message: wire.Ask) -> None:
        inside = message.id in self.catalogue
        asked = self.sessions.get(self.catalogue.holder(message.id)) if inside else None
        if asked is None and (inside or self.outside is None):
            raise UnknownNameError(f"nothing is registered under number {message.id}")
        if session.questions >= self.limits.questions_per_client:
            raise LimitError(f"a client may ask {self.limits.questions_per_client} questions at a time")
        number = next(self._numbers)
        self.count["questions"] += 1
        session.questions += 1
        self._questions[number] = session, message.request, asked
        error = NoAnswerError(f"the process has not answered for {_ANSWER_S:g} s")
        self._loop.call_later(_ANSWER_S, self._answer, number, wire.PROTOCOL.failure(message.request, error))
        if asked is not None:
            asked.send(wire.Asked(number, message.id, message.what))
            self._flush(asked)
            return

        def finish(text: str, error: KvoshimError | None) -> None:
            answer = wire.Answered(message.request, text)
            self._answer(number, answer if error is None else wire.PROTOCOL.failure(message.request, error))

        try:
            self.outside.ask(message.id, message.what, finish)
        except KvoshimError as error:
            finish("", error)

    def ask_inside(self, number: int, what: wire.What, finish: Callable[[str, KvoshimError | None], None]) -> None:
        """Asks a process of this registry in the name of somebody elsewhere. UnknownNameError; LimitError."""
        if number not in self.catalogue:
            raise UnknownNameError(f"nothing is registered under number {number}")
        self._ask(_Elsewhere(finish), wire.Ask(0, number, what))

    def _find(self, session: Session, message: wire.Find) -> None:
        found = self.catalogue.line(message.name) + sorted(self._mirrored.get(message.name, {}).values(), key=order)
        session.send(wire.Found(message.request, found[: wire.FOUND_MAX]))
        self._flush(session)

    def _reply(self, session: Session, message: wire.Reply) -> None:
        question = self._questions.get(message.number)
        if question is not None and question[2] is session:  # else it is too late, or another's
            self._answer(message.number, wire.Answered(question[1], message.text))

    def _answer(self, number: int, answer: wire.Message) -> None:
        asker, _, _ = self._questions.pop(number, (None, 0, None))
        if asker is not None:
            asker.questions -= 1
            if not asker.closed:
                asker.send(answer)
                self._flush(asker)


class _Elsewhere:
    """Stands for somebody who asks and is no client here."""

    closed = False
    retry = None
    questions = 0

    def __init__(self, finish: Callable[[str, KvoshimError | None], None]) -> None:
        self._finish = finish

    def send(self, message: wire.Message) -> None:
        if isinstance(message, wire.Failed):
            self._finish("", wire.PROTOCOL.error(message.code, message.text))
        else:
            self._finish(message.text, None)

    def flush(self) -> bool:
        return True
