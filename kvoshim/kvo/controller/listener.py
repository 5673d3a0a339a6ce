"""The IPC listener: accepts clients and their descriptor channels, reads what they say, sends what is due to them."""

from __future__ import annotations

import errno
import logging
import os
import socket as kernel
import time

from kvoshim import identity, socket
from kvoshim.errors import ProtocolError
from kvoshim.kvo import paths
from kvoshim.kvo.controller.catalog import Catalog
from kvoshim.kvo.controller.service import Service
from kvoshim.kvo.controller.session import Session

log = logging.getLogger("kvoshim.controller")

_GREETING_S = 10.0  # for a new connection to say who it is


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

    def accept_again(self) -> None:
        if not self.accepting:
            self.accepting = True
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                    log.error("no further client can be accepted for now: %s", error)
                    self.accepting = False
                    self._loop.remove_reader(self._listener.fileno())
                    return
                raise
            sock.setblocking(False)
            self._count += 1
            session = Session(sock, self._count, self._catalog.changed)
            if session.uid not in (os.geteuid(), 0):
                log.warning(
                    "connection of UID %d refused: this controller serves UID %d", session.uid, os.geteuid()
                )
                session.close()
                continue
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
            sock.setblocking(False)
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
            session.open_channel(sock, self._catalog.table.fd)
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
        try:
            messages, more = session.read()
            for message in messages:
                self.service.handle(session, message)
                if session.closed:
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
        if more:
            self.readable.add(session)
        else:
            self.readable.discard(session)

    # --- what they are told ---------------------------------------------

    def flush(self) -> None:
        """Sends what there is to be sent. A session without room for the rest stays among the changed ones: that there
        is room again is not to be seen on a ring's descriptor, so it is tried again after a moment."""
        for session in list(self._catalog.changed):
            if session.closed:
                self._catalog.changed.discard(session)
                continue
            try:
                blocked = session.flush()
            except OSError as error:
                self.leave(session, str(error))
                continue
            if not blocked and not session.descriptors_wait:
                self._catalog.changed.discard(session)

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
