"""The IPC listener: accepts clients and their descriptor channels, reads what they say, sends what is due to them."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket as kernel
import time

from kvoshim import identity, socket
from kvoshim._table import TableWriter
from kvoshim.errors import AccessDeniedError, KvoshimError, LimitError, ProtocolError, RateLimitError
from kvoshim.kvo import paths, wire
from kvoshim.kvo.controller.catalog import Catalog
from kvoshim.kvo.controller.policy import Policy
from kvoshim.kvo.controller.quota import PAUSE_S, Account
from kvoshim.kvo.controller.service import Service
from kvoshim.kvo.controller.session import Session
from kvoshim.process.access import caller_of

log = logging.getLogger("kvoshim.controller")

_WANT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
_GREETING_S = 10.0  # for a new connection to say who it is
_TURN_S = 0.0002  # for one client's messages before the others have their turn
_CONNECTION_COST = 20  # in requests, for a user's share
_STRANGERS = 64  # descriptor channels without a token that wait at a time


class Listener:
    """Binds `path`. OSError if that cannot be."""

    def __init__(self, loop, path: str, catalog: Catalog, term: int) -> None:
        self.path = path
        self.service = Service(catalog, self.flush, self.leave)
        self.service.term = term
        self.strangers: dict[kernel.socket, float] = {}  # descriptor channels that have not shown a token
        self.readable: set[Session] = set()  # may have more to read
        self.accepting = False
        self._loop = loop
        self._catalog = catalog
        self._sessions = self.service.sessions
        self._accounts: dict[int, Account] = {}  # by UID
        self.blank = TableWriter(bytes(16), 1, 1)  # for those who may not publish: the table says what others observe
        self._count = 0
        self._bound: list = []
        try:
            self._listener = self._bind(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), path)
            self._channels = self._bind(
                kernel.socket(kernel.AF_UNIX, kernel.SOCK_SEQPACKET), paths.channel_path(path)
            )
        except OSError:
            self.close()
            raise
        self.accept_again()
        loop.add_reader(self._channels.fileno(), self._accept_channel)

    def _bind(self, sock, path: str):
        self._bound.append((sock, path, None))
        try:
            os.unlink(path)  # the PID file says that nobody serves it
        except FileNotFoundError:
            pass
        mask = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(mask)
        self._bound[-1] = sock, path, os.stat(path)
        sock.listen(128)
        sock.setblocking(False)
        return sock

    @property
    def clients(self) -> int:
        return len(self._sessions)

    @property
    def greeting(self) -> bool:
        """Whether a connection has yet to say who it is."""
        return bool(self.strangers) or any(not session.greeted for session in self._sessions.values())

    # --- who comes ---------------------------------------------

    def enforce(self, policy: Policy) -> None:
        """Puts a policy in force."""
        for _, path, _ in self._bound:
            with contextlib.suppress(FileNotFoundError):  # somebody has tidied up
                os.chmod(path, 0o666 if policy.for_others else 0o600)
        self.service.enforce(policy)
        self.flush()

    def _account(self, uid: int) -> Account:
        account = self._accounts.get(uid)
        if account is None:
            account = self._accounts[uid] = Account(uid, Policy.trusts(uid))
        return account

    def accept_again(self) -> None:
        if not self.accepting:
            self.accepting = True
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        """One in a turn: the others have theirs in between."""
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno in _WANT:
                log.error("no further client can be accepted for now: %s", error)
                self.accepting = False
                self._loop.remove_reader(self._listener.fileno())
                return
            raise
        sock.setblocking(False)
        try:
            self._welcome(sock)
        except (AccessDeniedError, LimitError) as error:
            log.warning("connection refused: %s", error)
            _refuse(sock, error)
        except OSError:  # it has gone already
            sock.close()

    def _welcome(self, sock: socket.socket) -> None:
        caller = caller_of(sock)
        self.service.policy.check_client(caller)
        account, share = self._account(caller.uid), self._catalog.limits.per_user
        account.admit_client(share)
        if not account.take(_CONNECTION_COST, share):
            raise RateLimitError(f"user {caller.uid} connects too often; try again a little later")
        self._count += 1
        session = Session(sock, self._count, self._catalog.changed, caller, account)
        account.sessions.add(session)
        self._sessions[self._count] = session
        self._loop.add_reader(sock.fileno(), self._read, session)
        if session.pidfd >= 0:
            self._loop.add_reader(session.pidfd, self.leave, session, "its process has ended")
        self.readable.add(session)

    def _accept_channel(self) -> None:
        while True:
            try:
                sock, _ = self._channels.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _WANT and self.strangers:
                    self._on_token(next(iter(self.strangers)))  # those who came first have had their time
                    continue
                raise
            sock.setblocking(False)
            while len(self.strangers) >= _STRANGERS:
                self._on_token(next(iter(self.strangers)))
            self.strangers[sock] = time.monotonic()
            self._loop.add_reader(sock.fileno(), self._on_token, sock)

    def _on_token(self, sock: kernel.socket) -> None:
        """The first packet on a descriptor channel says whose it is."""
        self._loop.remove_reader(sock.fileno())
        del self.strangers[sock]
        try:
            token = sock.recv(64)
        except OSError:
            token = b""
        session = self.service.by_token.get(token)
        pid, uid, _ = identity.peer(sock)
        if session is None or session.channel is not None or pid != session.pid or uid != session.uid:
            log.warning("descriptor channel of PID %d closed: it showed no valid token", pid)
            sock.close()
            return
        try:
            publishes = self.service.policy.admits(session.caller, "publish")
            session.open_channel(sock, self._catalog.table.fd if publishes else self.blank.fd)
        except OSError as error:
            self.leave(session, f"its descriptor channel broke: {error}")

    def drop_silent(self) -> None:
        """Ends those who have not said for too long who they are."""
        now = time.monotonic()
        for session in list(self._sessions.values()):
            if not session.greeted and now - session.since > _GREETING_S:
                self.leave(session, f"it said nothing for {_GREETING_S:g} s", logging.WARNING)
        for sock, since in list(self.strangers.items()):
            if now - since > _GREETING_S:
                self._on_token(sock)
        for uid, account in list(self._accounts.items()):
            if account.idle(self._catalog.limits.per_user):
                del self._accounts[uid]

    # --- what they say ---------------------------------------------

    def read_on(self) -> bool:
        """Reads from those who may have more; whether there was anybody."""
        sessions = list(self.readable)
        for session in sessions:
            self._read(session)
        return bool(sessions)

    def _read(self, session: Session) -> None:
        if session.closed:
            self.readable.discard(session)
            return
        self.readable.add(session)
        end = time.monotonic() + _TURN_S
        try:
            for message in session.read():
                self.service.handle(session, message)
                if session.closed or time.monotonic() > end:
                    return
        except RateLimitError as error:
            self._pause(session, error)
            return
        except ProtocolError as error:
            self.leave(session, str(error), logging.WARNING)
            return
        except OSError as error:
            self.leave(session, str(error))
            return
        except Exception:
            log.exception("a message of %s could not be handled", session)
            self.leave(session, "its message could not be handled", logging.ERROR)
            return
        self.readable.discard(session)

    def _pause(self, session: Session, error: RateLimitError) -> None:
        """Lets a client wait that asks for too much: what it has sent stays where it is."""
        if not session.paused:
            log.warning("%s is not read for a while: %s", session, error)
        session.paused += 1
        self.readable.discard(session)
        self._loop.remove_reader(session.sock.fileno())
        self._loop.call_later(PAUSE_S, self._go_on, session)

    def _go_on(self, session: Session) -> None:
        if not session.closed:
            self._loop.add_reader(session.sock.fileno(), self._read, session)
            self.readable.add(session)

    # --- what they are told ---------------------------------------------

    def flush(self) -> bool:
        """Sends what there is to be sent; whether there is more that could be sent at once. A session without room for the rest
        stays among the changed ones: that there is room again is not to be seen on a ring's descriptor, so it is tried again
        after a moment."""
        more = False
        for session in list(self._catalog.changed):
            if session.closed:
                self._catalog.changed.discard(session)
                continue
            try:
                blocked = session.flush()
            except OSError as error:
                self.leave(session, str(error))
                continue
            if session.pending and not blocked:
                more = True
            elif not blocked and not session.descriptors_wait:
                self._catalog.changed.discard(session)
        return more

    def leave(self, session: Session, reason: str, level: int = logging.INFO) -> None:
        """Ends a session and what it had published."""
        if session.closed:
            return
        log.log(level, "%s leaves: %s", session, reason)
        del self._sessions[session.number]
        self.service.by_token.pop(session.token, None)
        self.readable.discard(session)
        self._unwatch(session)
        ended = self._catalog.leave(session)
        session.account.sessions.discard(session)
        session.close()
        for store in ended:
            self.service.end(store, discard=False)

    def _unwatch(self, session: Session) -> None:
        self._loop.remove_reader(session.sock.fileno())
        if session.pidfd >= 0:
            self._loop.remove_reader(session.pidfd)

    def close(self) -> None:
        """Sends what fits, closes everything and removes the sockets."""
        for session in list(self._sessions.values()):
            try:
                session.flush()
            except OSError:
                pass
            self._unwatch(session)
            session.close()
        self._sessions.clear()
        for sock in self.strangers:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        for sock, path, made in self._bound:
            self._loop.remove_reader(sock.fileno())
            sock.close()
            try:
                if made is not None and os.path.samestat(made, os.stat(path)):  # not another controller's
                    os.unlink(path)
            except OSError:
                pass
        self._bound.clear()


def _refuse(sock: socket.socket, error: KvoshimError) -> None:
    """Closes a connection that is none of a client, with the reason."""
    try:
        sock.send(wire.frame(wire.PROTOCOL.failure(0, error)))
    except OSError:
        pass
    sock.close()
