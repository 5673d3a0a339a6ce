"""configd's end of one client: bytes in and out, and who it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from kvoshim import socket
from kvoshim.errors import KvoshimError
from kvoshim.process import Caller
from kvoshim.process.bucket import Bucket
from kvoshim.process.framing import frame
from kvoshim.services.configd import wire

_READ_SIZE = 1 << 16
_OUT_MAX = 64 << 20  # bytes that a client may leave unread, beside one message, before it is given up


class Session:
    """refusal: why it will be sent away."""

    def __init__(self, sock: socket.socket, number: int, caller: Caller, refusal: KvoshimError | None) -> None:
        self.sock = sock
        self.number = number
        self.caller = caller
        self.refusal = refusal
        self.program = ""
        self.greeted = False
        self.watching = False
        self.closed = False
        self.paused = False
        self.bucket = Bucket()
        self.retry = None  # the call that tries to write again
        self._frames = wire.PROTOCOL.of_client()
        self._out: deque[bytes | memoryview] = deque()
        self._out_size = 0

    def __str__(self) -> str:
        return f"client {self.number} ({self.program or 'unknown'}, {self.caller})"

    def read(self) -> Iterator[wire.Message]:
        """What came since the last time, a part of it if it is much. ProtocolError; ConnectionError at the end."""
        try:
            data = self.sock.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        if not data:
            raise ConnectionError("closed by the client")
        yield from self._frames.feed(data)

    def send(self, message: wire.Message) -> None:
        """Takes note of a message: flush() sends it."""
        self.put(frame(message))

    def put(self, data: bytes) -> None:
        self._out.append(data)
        self._out_size += len(data)

    def flush(self) -> bool:
        """Sends what there is; False: there is no room for all. OSError if the connection is broken."""
        while self._out:
            data = self._out[0]
            try:
                sent = self.sock.send(data)
            except (BlockingIOError, InterruptedError):
                if self._out_size - len(data) > _OUT_MAX:
                    raise ConnectionError(f"{self._out_size} bytes were not read") from None
                return False
            self._out_size -= sent
            if sent < len(data):
                self._out[0] = memoryview(data)[sent:]
            else:
                self._out.popleft()
        return True
