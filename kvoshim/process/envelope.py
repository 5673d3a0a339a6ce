"""What goes over the control channel: one JSON object a command, one a line for the answer, as Kea's daemons do it.

    {"command": "config-get", "arguments": {...}}     ->     {"result": 0, "text": "...", "arguments": {...}}

Commands need no separator: one ends with its last brace. So `echo '{"command": "status-get"}' | socat - UNIX:PATH`
works, and a person may write a command over several lines, with comments. Size and depth are bounded while the bytes
come in, before anything is parsed.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from kvoshim.errors import ControlError
from kvoshim.process.jsontext import DEPTH_MAX


class Result(enum.IntEnum):
    """The codes of an answer; they are Kea's."""

    OK = 0
    ERROR = 1
    UNSUPPORTED = 2  # no such command
    EMPTY = 3  # done, and there is nothing
    CONFLICT = 4  # the hash given is not that of the configuration in force
    PARTLY = 5  # failed, and could not be taken back


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """A command. service: whom it is meant for, if not empty."""

    command: str
    arguments: Any = None
    service: list[str] = []


class Answer(msgspec.Struct, omit_defaults=True):
    result: int
    text: str = ""
    arguments: Any = None

    def encode(self) -> bytes:
        """One line."""
        value = {"result": int(self.result)}
        if self.text:
            value["text"] = self.text
        if self.arguments is not None:
            value["arguments"] = self.arguments
        return json.dumps(value, default=msgspec.to_builtins, allow_nan=False).encode() + b"\n"


_OUTSIDE = re.compile(rb'["{}\[\]#/]')
_BETWEEN = re.compile(rb"[^\s]")
_IN_STRING = re.compile(rb'["\\]')


class Frames:
    """Cuts a stream into commands. The bounds may be changed at any time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit  # bytes of one command, or of one comment before it
        self._buffer = bytearray()
        self._at = 0  # looked at up to here
        self._depth = 0
        self._until = b""  # inside a string or a comment: what ends it

    @property
    def partial(self) -> bool:
        """Whether a command has begun and not ended."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields the commands that `data` completes. ControlError if what comes is none; the stream is useless
        then."""
        self._buffer += data
        while (end := self._end()) is not None:
            frame = bytes(self._buffer[:end])
            del self._buffer[:end]
            self._at = 0
            if len(frame) > self.limit:
                raise ControlError(f"a command may have {self.limit} bytes")
            yield frame
        if len(self._buffer) > self.limit:
            raise ControlError(f"a command may have {self.limit} bytes")

    def _end(self) -> int | None:
        """Where the first command ends; None: it does not yet."""
        buffer = self._buffer
        while True:
            if self._until:
                if not self._skip():
                    return None
                continue
            if self._depth:
                found = _OUTSIDE.search(buffer, self._at)
            else:
                found = _BETWEEN.search(buffer, self._at)
                if found is None:
                    buffer.clear()  # space between commands
                    self._at = 0
                    return None
            if found is None:
                self._at = len(buffer)
                return None
            at, byte = found.start(), found.group()
            self._at = at + 1
            if byte == b"{" or byte == b"[" and self._depth:
                if not self._depth:
                    del buffer[:at]  # comments and space before it
                    self._at = 1
                self._depth += 1
                if self._depth > DEPTH_MAX:
                    raise ControlError(f"a command may have {DEPTH_MAX} levels")
            elif byte in b"}]" and self._depth:
                self._depth -= 1
                if not self._depth:
                    return self._at
            elif byte == b'"' and self._depth:
                self._until = b'"'
            elif byte == b"#":
                self._until = b"\n"
            elif byte == b"/":
                if at + 1 == len(buffer):
                    self._at = at  # the next byte says whether it is a comment
                    return None
                second = buffer[at + 1 : at + 2]
                if second == b"/":
                    self._until = b"\n"
                elif second == b"*":
                    self._until = b"*/"
                    self._at = at + 2
                elif not self._depth:
                    raise ControlError("a command is a JSON object")
            else:
                raise ControlError("a command is a JSON object")

    def _skip(self) -> bool:
        """Goes on behind the end of a string or comment; False if that has not come."""
        buffer = self._buffer
        if self._until != b'"':
            found = buffer.find(self._until, self._at)
            if found < 0:
                self._at = max(self._at, len(buffer) - len(self._until) + 1)
                return False
            self._at = found + len(self._until)
            self._until = b""
            return True
        while (found := _IN_STRING.search(buffer, self._at)) is not None:
            if found.group() == b'"':
                self._at = found.end()
                self._until = b""
                return True
            if found.end() == len(buffer):
                self._at = found.start()
                return False
            self._at = found.end() + 1
        self._at = len(buffer)
        return False
