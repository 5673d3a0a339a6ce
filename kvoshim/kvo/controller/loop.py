"""The controller's event loop: listens, answers, watches the stores, sleeps.

How it sleeps without missing a change: it raises the epoch in the registration table to an odd number
("asleep"), then looks at all dirty rings once more, then waits. An observable marks its ring dirty and then
reads the epoch. With a full fence in the middle of both, either the second look finds the mark, or the
observable finds the odd epoch and rings.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import resource
import secrets
import selectors
import signal
import socket as kernel
import time

from kvoshim import identity, socket
from kvoshim._table import TableWriter
from kvoshim.errors import ControllerUnavailableError, KvoshimError, LimitError, ProtocolError
from kvoshim.kvo import paths, wire
from kvoshim.kvo.controller.catalog import Catalog, Limits, Store
from kvoshim.kvo.controller.session import Session

log = logging.getLogger("kvoshim.controller")

_GREETING_S = 10.0  # for a new connection to say who it is
_REPAIR_S = 1.0
_RETRY_S = 0.01  # for descriptors that did not fit
_EXPIRE_S = 10.0  # between looks at what has been silent, idle or retained for too long
_ROWS = 100  # observables in one part of a list


class AlreadyRunningError(ControllerUnavailableError):
    """Another controller serves this path."""


class Controller:
    """Serves one socket path. idle_exit_s: ends itself after so long without clients and retained values (0:
    never).

    AlreadyRunningError if another controller has the path; ControllerUnavailableError if it cannot be bound.
    """

    def __init__(self, path: str, limits: Limits | None = None, idle_exit_s: float = 0.0) -> None:
        self.path = path
        self._idle_exit_s = idle_exit_s
        self._limits = limits or Limits()
        self._stopping = False
        self._sessions: dict[int, Session] = {}
        self._by_token: dict[bytes, Session] = {}
        self._strangers: dict[kernel.socket, float] = {}  # descriptor channels that have not shown a token
        self._readable: set[Session] = set()  # may have more to read
        self._count = 0
        self._idle_since = time.monotonic()
        limits = [limit for limit in (idle_exit_s, self._limits.retain_s) if limit]
        self._expire_s = max(0.05, min([_EXPIRE_S, *limits]))
        self._accepting = True
        self._lock = self._take_lock()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else soft, hard))
        try:
            self._listener = self._listen(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), path)
            self._channels = self._listen(
                kernel.socket(kernel.AF_UNIX, kernel.SOCK_SEQPACKET), paths.channel_path(path)
            )
        except OSError as error:
            raise ControllerUnavailableError(f"{path} cannot be bound: {error}") from None

    def _take_lock(self) -> int:
        try:
            lock = os.open(paths.life_lock(self.path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ControllerUnavailableError(f"{self.path} cannot be bound: {error}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise AlreadyRunningError(f"a controller already runs at {self.path}") from None
        return lock

    @staticmethod
    def _listen(sock, path: str):
        try:
            os.unlink(path)  # the lock says that nobody serves it
        except FileNotFoundError:
            pass
        mask = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(mask)
        sock.listen(128)
        sock.setblocking(False)
        return sock

    def run(self) -> None:
        """Serves until a signal (SIGTERM, SIGINT) or stop() ends it. In the main thread of the serving
        process."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._channels, selectors.EVENT_READ, self._accept_channel)
        table = TableWriter(
            secrets.token_bytes(16),
            self._limits.stores,
            self._limits.registrations,
            identity.start_time(os.getpid()),
        )
        self._catalog = Catalog(table, self._limits)
        self._table = table
        wakeup, signalled = kernel.socketpair()
        wakeup.setblocking(False)
        signalled.setblocking(False)
        self._selector.register(wakeup, selectors.EVENT_READ, lambda: wakeup.recv(64))
        old = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        old_fd = signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
        log.info("controller of PID %d serves %s", os.getpid(), self.path)
        try:
            self._serve()
        finally:
            signal.set_wakeup_fd(old_fd)
            for number, handler in old.items():
                signal.signal(number, handler)
            wakeup.close()
            signalled.close()
            self.close()

    def _on_signal(self, number: int, frame) -> None:
        log.info("signal %s: the controller ends", signal.Signals(number).name)
        self._stopping = True

    def stop(self) -> None:
        """Ends run() at its next turn."""
        self._stopping = True

    def _serve(self) -> None:
        repair = expire = time.monotonic()
        while not self._stopping:
            busy = self._poll(0)
            busy |= self._read_on()
            busy |= self._catalog.look_all()
            self._flush()
            now = time.monotonic()
            if now - repair >= _REPAIR_S and self._catalog.watching:
                repair = now
                self._catalog.repair()
                self._flush()
            if now - expire >= self._expire_s:
                expire = now
                self._catalog.expire()
                self._drop_silent(now)
                if not self._accepting:
                    self._accepting = True
                    self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
                if self._idle(now):
                    log.info("no clients for %g s: the controller ends", self._idle_exit_s)
                    return
            if busy or self._readable:
                continue
            self._table.arm()
            if not self._catalog.waiting():
                self._poll(self._timeout(now, repair, expire))
            self._table.disarm()

    def _timeout(self, now: float, repair: float, expire: float) -> float | None:
        """How long there is nothing to do, in seconds; None: until somebody calls."""
        if any(session.descriptors_wait for session in self._catalog.changed):
            return _RETRY_S
        if self._catalog.watching:
            return max(0.0, repair + _REPAIR_S - now)
        pending = self._strangers or any(not session.greeted for session in self._sessions.values())
        if (
            pending
            or not self._accepting
            or self._idle_exit_s
            or self._limits.retain_s
            and self._catalog.stores
        ):
            return max(0.0, expire + self._expire_s - now)
        return None

    def _poll(self, timeout: float | None) -> bool:
        events = self._selector.select(timeout)
        for key, _ in events:
            try:
                key.data()
            except Exception:  # a bug met by one client must not end the service of all
                log.exception("an event could not be handled")
        return bool(events)

    def _idle(self, now: float) -> bool:
        if self._sessions or self._catalog.stores or not self._idle_exit_s:
            self._idle_since = now
        return bool(self._idle_exit_s) and now - self._idle_since >= self._idle_exit_s

    # --- connections ---------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                    log.error("no further client can be accepted for now: %s", error)
                    self._accepting = False
                    self._selector.unregister(self._listener)
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
            self._selector.register(
                sock, selectors.EVENT_READ, lambda session=session: self._on_ready(session)
            )
            if session.pidfd >= 0:
                self._selector.register(
                    session.pidfd,
                    selectors.EVENT_READ,
                    lambda session=session: self._leave(session, "its process has ended"),
                )
            self._readable.add(session)

    def _accept_channel(self) -> None:
        while True:
            try:
                sock, _ = self._channels.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            sock.setblocking(False)
            self._strangers[sock] = time.monotonic()
            self._selector.register(sock, selectors.EVENT_READ, lambda sock=sock: self._on_token(sock))

    def _on_token(self, sock: kernel.socket) -> None:
        """The first packet on a descriptor channel says whose it is."""
        self._selector.unregister(sock)
        del self._strangers[sock]
        try:
            token = sock.recv(64)
        except OSError:
            token = b""
        session = self._by_token.get(token)
        pid, uid, _ = identity.peer(sock)
        if session is None or session.channel is not None or pid != session.pid or uid != session.uid:
            log.warning("descriptor channel of PID %d closed: it showed no valid token", pid)
            sock.close()
            return
        try:
            session.open_channel(sock, self._table.fd)
        except OSError as error:
            self._leave(session, f"its descriptor channel broke: {error}")

    def _drop_silent(self, now: float) -> None:
        for session in list(self._sessions.values()):
            if not session.greeted and now - session.since > _GREETING_S:
                self._leave(session, f"it said nothing for {_GREETING_S:g} s", logging.WARNING)
        for sock, since in list(self._strangers.items()):
            if now - since > _GREETING_S:
                self._on_token(sock)

    def _on_ready(self, session: Session) -> None:
        if session.wants_write:
            self._catalog.changed.add(session)
        self._read(session)

    def _read_on(self) -> bool:
        found = False
        for session in list(self._readable):
            found = True
            self._read(session)
        return found

    def _read(self, session: Session) -> None:
        if session.closed:
            self._readable.discard(session)
            return
        try:
            messages, more = session.read()
            for message in messages:
                self._handle(session, message)
                if session.closed:
                    return
        except ProtocolError as error:
            self._leave(session, str(error), logging.WARNING)
            return
        except OSError as error:
            self._leave(session, str(error))
            return
        except Exception:
            log.exception("a message of %s could not be handled", session)
            self._leave(session, "its message could not be handled", logging.ERROR)
            return
        if more:
            self._readable.add(session)
        else:
            self._readable.discard(session)

    def _flush(self) -> None:
        for session in list(self._catalog.changed):
            if session.closed:
                self._catalog.changed.discard(session)
                continue
            try:
                blocked = session.flush()
            except OSError as error:
                self._leave(session, str(error))
                continue
            if blocked != session.wants_write:
                session.wants_write = blocked
                events = selectors.EVENT_READ | (selectors.EVENT_WRITE if blocked else 0)
                self._selector.modify(session.sock, events, lambda session=session: self._on_ready(session))
            if not session.descriptors_wait:
                self._catalog.changed.discard(session)

    def _leave(self, session: Session, reason: str, level: int = logging.INFO) -> None:
        if session.closed:
            return
        log.log(level, "%s leaves: %s", session, reason)
        del self._sessions[session.number]
        self._by_token.pop(session.token, None)
        self._readable.discard(session)
        self._selector.unregister(session.sock)
        if session.pidfd >= 0:
            self._selector.unregister(session.pidfd)
        ended = self._catalog.leave(session)
        session.close()
        for store in ended:
            self._end(store, discard=False)

    def _end(self, store: Store, discard: bool) -> None:
        interested = self._interested(store.name)
        gone = wire.Gone(store.name, store.monitor.instance, discard)
        self._catalog.end(store, discard)
        self._flush()  # the last changes go before the news that there will be no more
        for session in interested:
            if not session.closed:
                session.send(gone)
                if discard and store.name in session.given:
                    session.given[store.name] = b""

    def _interested(self, name: str) -> set[Session]:
        sessions = self._catalog.interested(name)
        sessions.update(session for session in self._sessions.values() if name in session.given)
        return sessions

    # --- messages ---------------------------------------------

    def _handle(self, session: Session, message: wire.Message) -> None:
        if isinstance(message, wire.Bell):
            return
        if not session.greeted:
            if not isinstance(message, wire.Hello):
                raise ProtocolError("the first message must be Hello")
            token = session.greet(message.program[:60])
            self._by_token[token] = session
            session.send(wire.Welcome(wire.VERSION, token, os.getpid()))
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

    def _on_claim(self, session: Session, message: wire.Claim) -> None:
        holder = self._catalog.holder(message.name)
        if holder is not None and holder is not session and holder.process_ended():
            self._leave(holder, "its process has ended")
        floor, fd = self._catalog.claim(session, message.name, message.instance)
        ticket = session.send_descriptor(fd) if fd >= 0 else 0
        session.send(wire.Claimed(message.request, floor, ticket))

    def _on_publish(self, session: Session, message: wire.Publish) -> None:
        if session.channel is None:
            raise ProtocolError("the descriptor channel is not open")
        fd = session.channel.take(message.ticket)
        store = self._catalog.publish(session, message.name, fd)
        session.send(wire.Published(message.request, store.number))
        for other in self._interested(store.name):
            other.send(wire.Offered(self._info(other, store)))

    def _on_withdraw(self, session: Session, message: wire.Withdraw) -> None:
        store = self._catalog.stores.get(message.name)
        if store is not None and store.owner is session:
            self._end(store, message.discard)
        session.send(wire.Done(message.request))

    def _on_open(self, session: Session, message: wire.Open) -> None:
        name = self._catalog.resolve(message.target)
        if message.keep and name not in session.given:
            if len(session.given) >= self._limits.registrations_per_client:
                raise LimitError(
                    f"a client may ask for {self._limits.registrations_per_client} names at a time"
                )
            session.given[name] = b""
        store = self._catalog.store_of(name)
        session.send(wire.Opened(message.request, self._info(session, store)))

    def _on_observe(self, session: Session, message: wire.Observe) -> None:
        registration = self._catalog.register(session, message)
        store = registration.store
        info = self._info(session, store) if store is not None else None
        session.send(wire.Observed(message.request, registration.name, info))

    def _on_unobserve(self, session: Session, message: wire.Unobserve) -> None:
        self._catalog.unregister(session, message.registration)

    def _on_ping(self, session: Session, message: wire.Ping) -> None:
        session.send(wire.Done(message.request))

    def _on_list(self, session: Session, message: wire.List) -> None:
        rows = self._catalog.rows()
        for start in range(0, max(1, len(rows)), _ROWS):
            session.send(
                wire.Listing(message.request, rows[start : start + _ROWS], start + _ROWS < len(rows))
            )

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

    _HANDLERS = {
        wire.Claim: _on_claim,
        wire.Publish: _on_publish,
        wire.Withdraw: _on_withdraw,
        wire.Open: _on_open,
        wire.Observe: _on_observe,
        wire.Unobserve: _on_unobserve,
        wire.List: _on_list,
        wire.Ping: _on_ping,
    }

    def close(self) -> None:
        """Closes everything and removes the sockets; the lock is let go of last."""
        for session in list(self._sessions.values()):
            try:
                session.flush()
            except OSError:
                pass
            self._selector.unregister(session.sock)
            if session.pidfd >= 0:
                self._selector.unregister(session.pidfd)
            session.close()
        self._sessions.clear()
        for sock in self._strangers:
            sock.close()
        self._listener.close()
        self._channels.close()
        for path in (self.path, paths.channel_path(self.path)):
            try:
                os.unlink(path)
            except OSError:
                pass
        if hasattr(self, "_selector"):
            self._selector.close()
            self._catalog.close()
        os.close(self._lock)
