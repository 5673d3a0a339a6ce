"""One connection from a client to its registry, and the store that came with it."""

from __future__ import annotations

import array
import os
import select
import socket as kernel
import sys
import threading
import time

from kvoshim import socket
from kvoshim._store import Reader
from kvoshim.errors import KvoshimError, ProtocolError, RegistryUnavailableError
from kvoshim.process.framing import frame
from kvoshim.registry import wire
from kvoshim.registry.seat import Contact

HANDSHAKE_S = 10.0


class LinkLost(Exception):
    """The registry is gone; internal to the client, which then looks for its successor."""


class Link:
    """An established connection. Any thread may send; one at a time may receive. RegistryUnavailableError; AccessDeniedError or
    LimitError if the registry does not want this client."""

    def __init__(self, contact: Contact) -> None:
        self.sock = contact.sock
        self.scope = contact.scope
        self.pid = contact.pid
        self.reader: Reader | None = None
        self.waiting: list[wire.Message] = []  # received, and not looked at yet
        self._lock = threading.Lock()
        self._frames = wire.PROTOCOL.of_daemon()
        try:
            self.sock.settimeout(HANDSHAKE_S)
            self._greet()
            self.sock.settimeout(None)
        except (OSError, LinkLost, ProtocolError) as error:
            self.close()
            raise RegistryUnavailableError(f"no registry answers at {contact.address}: {error or 'connection closed'}") from None
        except KvoshimError:
            self.close()
            raise

    def _greet(self) -> None:
        try:
            self.sock.sendall(frame(wire.Hello(wire.VERSION, program_name())))
        except OSError:
            pass  # it may have said why
        fds = array.array("i")
        try:
            messages: list[wire.Message] = []
            while not messages:
                data, ancillary, _, _ = self.sock.recvmsg(4096, kernel.CMSG_SPACE(16), kernel.MSG_CMSG_CLOEXEC)
                for level, kind, content in ancillary:
                    if level == kernel.SOL_SOCKET and kind == kernel.SCM_RIGHTS:
                        fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                if not data:
                    raise LinkLost("it closed the connection")
                messages = list(self._frames.feed(data))
            welcome, *self.waiting = messages
            if isinstance(welcome, wire.Failed):
                raise wire.PROTOCOL.error(welcome.code, welcome.text)
            if not isinstance(welcome, wire.Welcome) or welcome.version != wire.VERSION or len(fds) != 1:
                raise ProtocolError(f"it does not speak version {wire.VERSION}: {welcome!r:.200}")
            self.reach, self.settled, self.whole = welcome.reach, welcome.settled, welcome.whole
            self.reader = Reader(fds[0])
        finally:
            for fd in fds:
                os.close(fd)

    def send(self, message: wire.Message) -> None:
        """LinkLost if the connection is broken."""
        data = frame(message)
        with self._lock:
            try:
                self.sock.sendall(data)
            except OSError as error:
                raise LinkLost(str(error)) from None

    def receive(self, timeout: float | None = None) -> list[wire.Message]:
        """Waits for at least one message; with a timeout there may be none, with 0 it does not wait. LinkLost at the end of the
        connection, or if it is no registry's."""
        if self.waiting:
            messages, self.waiting = self.waiting, []
            return messages
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                data = self.sock.recv(1 << 16, 0 if timeout is None else kernel.MSG_DONTWAIT)
            except BlockingIOError:
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
                raise LinkLost("the registry closed the connection")
            try:
                if messages := list(self._frames.feed(data)):
                    return messages
            except ProtocolError as error:
                raise LinkLost(str(error)) from None

    def shut(self) -> None:
        """Wakes the thread in receive(), for good."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        self.sock.close()


def program_name() -> str:
    """What this process is called in lists."""
    name = os.path.basename(sys.argv[0] if sys.argv and sys.argv[0] else sys.executable or "python")
    name = name.encode("utf-8", "replace").decode()[:60]
    return name if name.isprintable() else "?"
