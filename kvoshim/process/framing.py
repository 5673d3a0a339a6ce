"""Messages of the project's binary protocols: MessagePack behind its length (4 bytes, little end first). Each protocol has its own
message types, told apart by a tag."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from kvoshim.errors import ProtocolError

_LENGTH = struct.Struct("<I")
_encode = msgspec.msgpack.Encoder().encode


def frame(message: msgspec.Struct) -> bytes:
    """The message's bytes on the wire."""
    body = _encode(message)
    return _LENGTH.pack(len(body)) + body


@functools.cache
def _decoder(messages: object) -> msgspec.msgpack.Decoder:
    return msgspec.msgpack.Decoder(messages)


class Frames:
    """Cuts a byte stream into messages of these types. ProtocolError for what is none, or longer than `limit`. what: a message of
    whom or which version, for that error."""

    def __init__(self, messages: object, limit: int, what: str) -> None:
        self._decode = _decoder(messages).decode
        self._limit = limit
        self._what = what
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yields the messages that `data` completes."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= 4:
                (length,) = _LENGTH.unpack_from(buffer, start)
                if length > self._limit:
                    raise ProtocolError(f"a message of {length} bytes is announced; {self._limit} are allowed")
                if len(buffer) - start - 4 < length:
                    break
                body = bytes(buffer[start + 4 : start + 4 + length])
                start += 4 + length
                try:
                    yield self._decode(body)
                except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: text that is not UTF-8
                    raise ProtocolError(f"no message of {self._what}: {error} ({body[:32].hex()})") from None
        finally:
            del buffer[:start]
