"""The caller's end of a control channel."""

from __future__ import annotations

import json
from typing import Any

from kvoshim import socket
from kvoshim.errors import ControlError, ControlUnavailableError
from kvoshim.process.envelope import Answer, Result

_ANSWER_MAX = 256 << 20
_READ_SIZE = 1 << 16


class ControlClient:
    """A connection to the daemon at `path`; one command at a time. timeout: seconds for each step of the way.
    ControlUnavailableError if nobody answers there."""

    def __init__(self, path: str, timeout: float = 30.0) -> None:
        self.path = path
        self._buffer = bytearray()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.settimeout(timeout)
            self._sock.connect(path)
        except (OSError, ValueError) as error:
            self._sock.close()
            raise ControlUnavailableError(f"no daemon answers at {path}: {getattr(error, 'strerror', None) or error}") from None

    def ask(self, command: str, arguments: Any = None) -> Answer:
        """The daemon's answer, whatever its result. ControlUnavailableError if none comes."""
        request = {"command": command}
        if arguments is not None:
            request["arguments"] = arguments
        try:
            self._sock.sendall(json.dumps(request).encode())
        except OSError as error:
            if not isinstance(error, BrokenPipeError | ConnectionResetError):
                raise ControlUnavailableError(f"{self.path}: {error}") from None
            # It has closed, maybe with an answer that says why.
        return self._answer()

    def call(self, command: str, arguments: Any = None) -> Any:
        """The answer's arguments, or its text if there are none. ControlError if the command was refused."""
        answer = self.ask(command, arguments)
        if answer.result not in (Result.OK, Result.EMPTY):
            raise ControlError(answer.text, answer.result)
        return answer.text if answer.arguments is None else answer.arguments

    def _answer(self) -> Answer:
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            if start > _ANSWER_MAX:
                raise ControlUnavailableError(f"{self.path}: an answer of more than {_ANSWER_MAX} bytes")
            try:
                data = self._sock.recv(_READ_SIZE)
            except OSError as error:
                raise ControlUnavailableError(f"{self.path}: {error}") from None
            if not data:
                raise ControlUnavailableError(f"{self.path}: the daemon closed the connection")
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            value = json.loads(line)
            return Answer(value["result"], value.get("text", ""), value.get("arguments"))
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ControlUnavailableError(f"{self.path}: this is no answer: {line[:80]!r}") from None

    @property
    def connection_id(self) -> int | None:
        """The transport's ID of the connection, None while it is on the kernel's socket."""
        return self._sock.connection_id

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_) -> None:
        self.close()
