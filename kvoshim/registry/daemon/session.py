"""The registry's end of one client: bytes in and out, and who it is."""

from __future__ import annotations

import logging
import socket as kernel
import struct
import time
from collections import deque
from collections.abc import Iterator

from kvoshim import identity, socket
from kvoshim.errors import KvoshimError, ProtocolError
from kvoshim.process import Caller
from kvoshim.process.bucket import Bucket
from kvoshim.process.framing import frame
from kvoshim.registry import wire
from kvoshim.registry.catalogue import Who

log = logging.getLogger("kvoshim.registry")

_READ_SIZE = 1 << 14
_OUT_MAX = 1 << 20  # bytes that a client may leave unread before it is given up
_CHANGED = frame(wire.Changed())


class Session:
    """proof: what the client still has to prove, None: nothing. refusal: why it will be sent away."""

    def __init__(self, sock: socket.socket, number: int, caller: Caller, proof=None, refusal: KvoshimError | None = None) -> None:
        self.refusal = refusal
        self.sock = sock
        self.number = number
        self.caller = caller
        self.pidfd = identity.peer_pidfd(sock, caller.pid)
        self.bucket = Bucket()
        self.since = time.monotonic()
        self.who = Who(caller.pid, identity.start_time(caller.pid) if caller.pid else 0, caller.uid)
        self.greeted = False
        self.watching = False
        self.closed = False
        self.paused = False
        self.questions = 0  # that it has asked others and that are not answered
        self.retry = None  # the call that tries to write again
        self._proof = proof
        self._frames = wire.PROTOCOL.of_client()
        self._out: deque[bytes] = deque()
        self._out_size = 0

    def __str__(self) -> str:
        return f"client {self.number} ({self.who.program or 'unknown'}, PID {self.caller.pid}, user {self.caller.uid})"

    def read(self) -> Iterator[wire.Message]:
        """What came since the last time, a part of it if it is much. ProtocolError; ConnectionError at the end."""
        try:
            data = self.sock.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        if not data:
            raise ConnectionError("closed by the client")
        if self._proof is not None:
            answer = self._proof.feed(data)
            if answer:
                self.put(answer)
                self.flush()
            if not self._proof.done:
                return
            data, self._proof = self._proof.rest, None
        yield from self._frames.feed(data)

    def welcome(self, hello: wire.Hello, message: wire.Welcome, store: int) -> None:
        """Greets the client, with the store's descriptor. OSError."""
        if self.greeted:
            raise ProtocolError("it has said Hello before")
        self.who = Who(self.who.pid, self.who.start, self.who.uid, hello.program if hello.program.isprintable() else "?")
        self.greeted = True
        data = frame(message)
        rights = (kernel.SOL_SOCKET, kernel.SCM_RIGHTS, struct.pack("i", store))
        if self.sock.sendmsg([data], [rights]) != len(data):
            raise ConnectionError("a new connection has no room for a greeting")

    def send(self, message: wire.Message) -> None:
        """Takes note of a message: flush() sends it."""
        self.put(frame(message))

    def put(self, data: bytes) -> None:
        self._out.append(data)
        self._out_size += len(data)

    def tell_changed(self) -> None:
        """The store has changed. Whoever has not read that yet is not told again."""
        if not self._out or self._out[-1] is not _CHANGED:
            self.put(_CHANGED)

    def flush(self) -> bool:
        """Sends what there is; False: there is no room for all. OSError if the connection is broken."""
        while self._out:
            data = self._out[0]
            try:
                sent = self.sock.send(data)
            except (BlockingIOError, InterruptedError):
                if self._out_size > _OUT_MAX:
                    raise ConnectionError(f"{self._out_size} bytes were not read") from None
                return False
            self._out_size -= sent
            if sent < len(data):
                self._out[0] = data[sent:]
            else:
                self._out.popleft()
        return True
