"""Accepts clients, reads what they say, sees them end."""

from __future__ import annotations

import errno
import logging

from kvoshim import socket
from kvoshim.errors import AccessDeniedError, KvoshimError, LimitError, RateLimitError
from kvoshim.process.access import caller_of
from kvoshim.process.channel import Listener as Bound
from kvoshim.services.configd import wire
from kvoshim.services.configd.policy import Policy
from kvoshim.services.configd.service import Service
from kvoshim.services.configd.session import Session
from kvoshim.services.configd.settings import Limits

log = logging.getLogger("kvoshim.configd")

_WANT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
_GREETING_S = 10.0  # for a new connection to say who it is
_ROOM_S = 0.002  # between tries to write into a full ring, which no descriptor tells of
_PAUSE_S = 0.05  # that a client is not read for when it has asked too much
_AGAIN_S = 1.0  # before accepting is tried again
_REFUSED = 64  # connections that are told why, at a time


class Listener:
    """OSError or ConfigurationError if the path cannot be bound."""

    def __init__(self, loop, path: str, service: Service, limits: Limits) -> None:
        self.limits = limits
        self.sessions: dict[int, Session] = {}
        self._loop = loop
        self._service = service
        self._count = 0
        self._bound = Bound(path, 0o666 if service.policy.for_others else 0o600)
        service.flush = self.flush
        service.sessions = self.sessions
        self._accept_again()

    def enforce(self, policy: Policy) -> None:
        """Puts a policy in force, for those too who are clients already."""
        self._service.policy = policy
        for session in list(self.sessions.values()):
            try:
                policy.check_client(session.caller)
            except AccessDeniedError as error:
                self._send_away(session, error)

    def _accept_again(self) -> None:
        if self._bound.sock.fileno() >= 0:
            self._loop.add_reader(self._bound.sock.fileno(), self._accept)

    def _accept(self) -> None:
        """One in a turn: the others have theirs in between."""
        try:
            sock, _ = self._bound.sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in _WANT:
                raise
            log.error("no further client can be accepted for now: %s", error)
            self._loop.remove_reader(self._bound.sock.fileno())
            self._loop.call_later(_AGAIN_S, self._accept_again)
            return
        sock.setblocking(False)
        try:
            self._welcome(sock)
        except OSError:  # it has gone already
            sock.close()

    def _welcome(self, sock: socket.socket) -> None:
        caller = caller_of(sock)
        refusal = None
        try:
            self._admit(caller)
        except (AccessDeniedError, LimitError) as error:
            log.warning("a connection of %s is refused: %s", caller, error)
            refusal = error  # told when it says Hello
            if sum(one.refusal is not None for one in self.sessions.values()) >= _REFUSED:
                sock.close()
                return
        self._count += 1
        session = self.sessions[self._count] = Session(sock, self._count, caller, refusal)
        self._loop.add_reader(sock.fileno(), self._read, session)
        self._loop.call_later(_GREETING_S, self._drop_silent, session)

    def _admit(self, caller) -> None:
        self._service.policy.check_client(caller)
        admitted = [one for one in self.sessions.values() if one.refusal is None]
        if len(admitted) >= self.limits.clients:
            raise LimitError(f"the repository has {self.limits.clients} clients, its limit")
        if not Policy.trusts(caller.uid) and sum(one.caller.uid == caller.uid for one in admitted) >= self.limits.per_user_clients:
            raise LimitError(f"user {caller.uid} may have {self.limits.per_user_clients} connections at a time")

    def _drop_silent(self, session: Session) -> None:
        if not session.greeted and not session.closed:
            self.leave(session, f"it has not said who it is for {_GREETING_S:g} s")

    def _read(self, session: Session) -> None:
        try:
            for message in session.read():
                if session.closed:
                    return
                if session.refusal is not None:
                    raise session.refusal
                self._service.handle(session, message)
                if not session.bucket.take(1, self.limits.requests_per_s, self.limits.requests_burst) and not session.paused:
                    self._pause(session)
        except RateLimitError:
            self._pause(session)
        except KvoshimError as error:
            self._send_away(session, error)
        except OSError as error:
            self.leave(session, str(error))
        except Exception:
            log.exception("a message of %s could not be handled", session)
            self.leave(session, "its message could not be handled")

    def _send_away(self, session: Session, error: KvoshimError) -> None:
        session.send(wire.PROTOCOL.failure(0, error))
        self.flush(session)
        self.leave(session, str(error))

    def _pause(self, session: Session) -> None:
        """Lets a client wait: what it sends stays where it is."""
        log.warning("%s is not read for a while: it asks too often", session)
        session.paused = True
        self._loop.remove_reader(session.sock.fileno())
        self._loop.call_later(_PAUSE_S, self._go_on, session)

    def _go_on(self, session: Session) -> None:
        if not session.closed:
            session.paused = False
            self._loop.add_reader(session.sock.fileno(), self._read, session)

    def flush(self, session: Session) -> None:
        """Sends what there is; what does not fit, a little later."""
        if session.closed or session.retry is not None:
            return
        try:
            if not session.flush():
                session.retry = self._loop.call_later(_ROOM_S, self._retry, session)
        except OSError as error:
            self._loop.call_soon(self.leave, session, str(error))  # not here: whoever flushes may be amid something

    def _retry(self, session: Session) -> None:
        session.retry = None
        self.flush(session)

    def leave(self, session: Session, reason: str) -> None:
        if session.closed:
            return
        log.info("%s leaves: %s", session, reason)
        session.closed = True
        if session.retry is not None:
            session.retry.cancel()
        self._loop.remove_reader(session.sock.fileno())
        session.sock.close()
        del self.sessions[session.number]

    def close(self) -> None:
        """Sends what fits and closes everything."""
        for session in list(self.sessions.values()):
            try:
                session.flush()
            except OSError:
                pass
            self.leave(session, "the daemon ends")
        self._loop.remove_reader(self._bound.sock.fileno())
        self._bound.close()
