"""Accepts clients, reads what they say, sees them end."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable

from kvoshim import socket
from kvoshim.errors import AccessDeniedError, KvoshimError, LimitError, ProtocolError, RateLimitError
from kvoshim.process.access import Caller, caller_of
from kvoshim.process.bucket import Bucket
from kvoshim.registry import wire
from kvoshim.registry.daemon.policy import Policy
from kvoshim.registry.daemon.service import Service
from kvoshim.registry.daemon.session import Session

log = logging.getLogger("kvoshim.registry")

_WANT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
_GREETING_S = 10.0  # for a new connection to say who it is
_ROOM_S = 0.005  # between tries to write into a full ring, which no descriptor tells of
_PAUSE_S = 0.05  # that a client is not read for when it has asked too much
_REFUSED = 64  # connections that are told why, at a time
_AGAIN_S = 1.0  # before accepting is tried again


class Listener:
    """sock: listens, in non-blocking mode. new_proof(): for a connection, what its client has to prove. emptied(): the last client has
    left."""

    def __init__(self, loop, sock: socket.socket, new_proof: Callable, emptied: Callable[[], None]) -> None:
        self.service: Service = None  # set before the loop runs
        self._loop = loop
        self._new_proof = new_proof
        self._emptied = emptied
        self._count = 0
        self._strangers: set[Session] = set()  # who are refused, and will be told so
        self._buckets: dict[int, Bucket] = {}  # by user
        self._sock = sock
        self._accept_again()

    def replace(self, sock: socket.socket) -> None:
        """Listens on another socket: the old one cannot be reached any more."""
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        self._sock = sock
        self._accept_again()

    def enforce(self, policy: Policy) -> None:
        """Puts a policy in force, for those too who are clients already."""
        self.service.policy = policy
        for session in list(self.service.sessions.values()):
            try:
                policy.check_client(session.caller)
                for entry in self.service.catalogue.held(session.number):
                    policy.check(session.caller, "register", entry.name)
            except AccessDeniedError as error:
                session.send(wire.PROTOCOL.failure(0, error))
                self.flush(session)
                self.leave(session, str(error), logging.WARNING)

    # --- who comes ---------------------------------------------

    def _accept(self) -> None:
        """One in a turn: the others have theirs in between."""
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in _WANT:
                raise
            log.error("no further client can be accepted for now: %s", error)
            self._loop.remove_reader(self._sock.fileno())
            self._loop.call_later(_AGAIN_S, self._accept_again)
            return
        sock.setblocking(False)
        try:
            self._welcome(sock)
        except OSError:  # it has gone already
            sock.close()

    def _accept_again(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def _welcome(self, sock: socket.socket) -> None:
        caller = caller_of(sock)
        self._count += 1
        refusal = None
        try:
            self._admit(caller)
        except (AccessDeniedError, LimitError) as error:
            log.warning("a connection of %s is refused: %s", caller, error)
            if len(self._strangers) >= _REFUSED:
                sock.close()
                return
            refusal = error  # told when it has proved itself and said Hello
        session = Session(sock, self._count, caller, self._new_proof(), refusal)
        if refusal is None:
            self.service.sessions[self._count] = session
        else:
            self._strangers.add(session)
        self._loop.add_reader(sock.fileno(), self._read, session)
        if session.pidfd >= 0:
            self._loop.add_reader(session.pidfd, self.leave, session, "its process has ended")
        self._loop.call_later(_GREETING_S, self._drop_silent, session)

    def _admit(self, caller: Caller) -> None:
        service = self.service
        limits = service.limits
        service.policy.check_client(caller)
        if len(service.sessions) >= limits.clients:
            raise LimitError(f"the registry has {limits.clients} clients, its limit")
        if not Policy.trusts(caller.uid):
            share = limits.per_user
            if sum(one.caller.uid == caller.uid for one in service.sessions.values()) >= share.clients:
                raise LimitError(f"user {caller.uid} may have {share.clients} connections at a time")

    def _drop_silent(self, session: Session) -> None:
        if not session.greeted and not session.closed:
            self.leave(session, f"it has not said who it is for {_GREETING_S:g} s", logging.WARNING)

    # --- what they say ---------------------------------------------

    def _read(self, session: Session) -> None:
        try:
            for message in session.read():
                if session.closed:
                    return
                self.service.handle(session, message)
                self._charge(session)
        except RateLimitError as error:
            self._pause(session, error)
        except (ProtocolError, KvoshimError) as error:
            session.send(wire.PROTOCOL.failure(0, error))
            self.flush(session)
            self.leave(session, str(error), logging.WARNING)
        except OSError as error:
            self.leave(session, str(error))
        except Exception:
            log.exception("a message of %s could not be handled", session)
            self.leave(session, "its message could not be handled", logging.ERROR)

    def _charge(self, session: Session) -> None:
        """What it has asked for is done; whether it may go on is another question."""
        limits, uid = self.service.limits, session.caller.uid
        late = not session.bucket.take(1, limits.requests_per_s, limits.requests_burst)
        if not Policy.trusts(uid):
            share = limits.per_user
            bucket = self._buckets.setdefault(uid, Bucket())
            late |= not bucket.take(1, share.requests_per_s, share.requests_burst)
        if late and not session.paused:
            self._pause(session, "it asks too often")

    def _pause(self, session: Session, why: object) -> None:
        """Lets a client wait: what it sends stays where it is."""
        log.warning("%s is not read for a while: %s", session, why)
        session.paused = True
        self._loop.remove_reader(session.sock.fileno())
        self._loop.call_later(_PAUSE_S, self._go_on, session)

    def _go_on(self, session: Session) -> None:
        if not session.closed:
            session.paused = False
            self._loop.add_reader(session.sock.fileno(), self._read, session)

    # --- what they are told ---------------------------------------------

    def flush(self, session: Session) -> None:
        """Sends what there is; what does not fit, a little later."""
        if session.closed or session.retry is not None:
            return
        try:
            if not session.flush():
                session.retry = self._loop.call_later(_ROOM_S, self._retry, session)
        except OSError as error:
            # Not here: whoever flushes may be amid something.
            self._loop.call_soon(self.leave, session, str(error))

    def _retry(self, session: Session) -> None:
        session.retry = None
        self.flush(session)

    def leave(self, session: Session, reason: str, level: int = logging.INFO) -> None:
        """Ends a session and what it had registered."""
        if session.closed:
            return
        log.log(level, "%s leaves: %s", session, reason)
        session.closed = True
        if session.retry is not None:
            session.retry.cancel()
        self._close(session)
        if session.refusal is not None:
            self._strangers.discard(session)
            return
        del self.service.sessions[session.number]
        self.service.leave(session)
        if not self.service.sessions:
            self._buckets.clear()
            self._emptied()

    def _close(self, session: Session) -> None:
        self._loop.remove_reader(session.sock.fileno())
        if session.pidfd >= 0:
            self._loop.remove_reader(session.pidfd)
            os.close(session.pidfd)
            session.pidfd = -1
        session.sock.close()

    def close(self) -> None:
        """Sends what fits and closes everything."""
        for session in [*self._strangers, *self.service.sessions.values()] if self.service is not None else ():
            try:
                session.flush()
            except OSError:
                pass
            session.closed = True
            self._close(session)
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
