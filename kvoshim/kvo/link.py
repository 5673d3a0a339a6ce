"""One connection from a client to its controller: message stream, descriptor channel, registration table."""

from __future__ import annotations

import os
import select
import socket as kernel
import sys
import threading
import time

from kvoshim import identity, socket
from kvoshim._table import Table
from kvoshim.errors import ControllerUnavailableError, DirectoryError, KvoshimError, ProtocolError
from kvoshim.kvo import paths, term, wire
from kvoshim.kvo.fdchannel import Channel
from kvoshim.kvo.pulse import Pulse

HANDSHAKE_S = 5.0
_BELL = wire.frame(wire.Bell())


class LinkLost(Exception):
    """The controller is gone; internal to the client, which then connects again."""


class _Refused(Exception):
    """The controller has said why it has no use for this client."""

    def __init__(self, error: KvoshimError) -> None:
        super().__init__(str(error))
        self.error = error


class Link:
    """An established connection. Any thread may send; one at a time may receive.

    Raises ControllerUnavailableError if nobody listens at `path`, ProtocolError if it is no controller of
    this version, AccessDeniedError or LimitError if it does not want this client, DirectoryError if it is not to be trusted.
    """

    def __init__(self, path: str) -> None:
        self._send_lock = threading.Lock()
        self._bell_due = False
        self._unsent = b""
        self._frames = wire.PROTOCOL.of_daemon()
        self._ticket = 0
        self.table: Table | None = None
        self.pulse = Pulse()
        self.counted: list[int] = []  # the client's totals when the connection was made
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        channel = kernel.socket(kernel.AF_UNIX, kernel.SOCK_SEQPACKET)
        self.channel = Channel(channel)
        try:
            self.sock.settimeout(HANDSHAKE_S)
            channel.settimeout(HANDSHAKE_S)
            self.sock.connect(path)
            uid = _trusted(self.sock, path)
            try:
                self._transmit(wire.frame(wire.Hello(wire.VERSION, program_name())))
            except LinkLost:
                pass  # it may have said why
            welcome = self.receive()[0]
            if isinstance(welcome, wire.Failed):
                raise _Refused(wire.PROTOCOL.error(welcome.code, welcome.text))
            if not isinstance(welcome, wire.Welcome) or welcome.version != wire.VERSION:
                raise ProtocolError(
                    f"the controller at {path} does not speak version {wire.VERSION}: {welcome!r:.200}"
                )
            self.controller_pid = welcome.pid
            self.term = welcome.term
            if term.current(paths.term_path(path)) > self.term:
                raise LinkLost("it has been replaced by another one")
            channel.connect(paths.channel_path(path))
            if identity.peer(channel)[1] != uid:
                raise ProtocolError(f"the descriptor channel at {path} is another user's")
            channel.send(welcome.token)
            fd = self.channel.take(0)
            try:
                self.table = Table(fd)
            finally:
                os.close(fd)
            self.sock.settimeout(None)
        except _Refused as refused:
            self.close()
            raise refused.error from None
        except (OSError, LinkLost) as error:
            self.close()
            raise ControllerUnavailableError(
                f"no controller answers at {path}: {error or 'connection closed'}"
            ) from None
        except KvoshimError:
            self.close()
            raise

    def send(self, message: wire.Message) -> None:
        """LinkLost if the connection is broken."""
        with self._send_lock:
            self._bell_due = False  # the message itself wakes the controller
            self._transmit(wire.frame(message))
        self._ring_if_due()

    def send_with_descriptor(self, build, fd: int) -> None:
        """Sends a copy of `fd`, then the message that build(ticket) makes."""
        with self._send_lock:
            self._bell_due = False
            self._ticket += 1
            try:
                self.channel.send(self._ticket, fd)
            except OSError as error:
                raise LinkLost(str(error)) from None
            self._transmit(wire.frame(build(self._ticket)))
        self._ring_if_due()

    def _transmit(self, data: bytes) -> None:
        try:
            self.sock.sendall(self._unsent + data if self._unsent else data)
            self._unsent = b""
        except OSError as error:
            raise LinkLost(str(error)) from None

    def bell(self) -> None:
        """Wakes the controller. Never waits: not for the controller, and not for another thread that is
        sending."""
        self._bell_due = True
        self._ring_if_due()

    def _ring_if_due(self) -> None:
        # Whoever holds the lock looks at the note after letting go of it, so a bell noted meanwhile is not
        # forgotten.
        while self._bell_due and self._send_lock.acquire(blocking=False):
            try:
                self._bell_due = False
                data = self._unsent or _BELL
                sent = self.sock.send(data, socket.MSG_DONTWAIT)
                self._unsent = data[sent:]
            except BlockingIOError:
                pass  # it has not read what is already there: that wakes it
            except OSError:
                pass  # the receiver notices, and after reconnecting everything counts as changed
            finally:
                self._send_lock.release()

    def receive(self, timeout: float | None = None) -> list[wire.Message]:
        """Waits for at least one message; with a timeout there may be none, with 0 it does not wait. LinkLost at the end
        of the connection or if it is no controller's."""
        flags = 0 if timeout is None else socket.MSG_DONTWAIT
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                data = self.sock.recv(1 << 18, flags)
            except BlockingIOError:
                if timeout is None:
                    raise LinkLost("the controller does not answer") from None
                left = deadline - time.monotonic()
                if left <= 0:
                    return []
                waiting = select.poll()
                waiting.register(self.sock.fileno(), select.POLLIN)
                waiting.poll(left * 1000)
                continue
            except OSError as error:
                raise LinkLost(str(error)) from None
            if not data:
                raise LinkLost("the controller closed the connection")
            try:
                messages = list(self._frames.feed(data))
            except ProtocolError as error:
                raise LinkLost(str(error)) from None
            if messages:
                return messages

    def shut(self) -> None:
        """Wakes the thread in receive(), for good."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        self.sock.close()
        self.channel.close()
        self.table = None


def _trusted(sock: socket.socket, path: str) -> int:
    """The user whose controller it is. DirectoryError if it may be an impostor: another user's, other than root's, where
    not this user alone decides who listens."""
    uid = identity.peer(sock)[1]
    if uid not in (0, os.geteuid()):
        directory = os.stat(os.path.dirname(path))
        if directory.st_uid not in (0, uid) or directory.st_mode & 0o022:
            raise DirectoryError(
                f"the controller at {path} is user {uid}'s, and not they alone may write to that directory: anybody could have "
                "put it there"
            )
    return uid


def program_name() -> str:
    """What this process is called in the controller's lists."""
    name = os.path.basename(sys.argv[0] if sys.argv and sys.argv[0] else sys.executable or "python")
    return name.encode("utf-8", "replace").decode()[:60]
