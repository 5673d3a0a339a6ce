"""What one of the project's binary protocols is made of: a version, the messages of both sides, and the codes under which errors
cross the wire.

    class Hello(Message, tag=1): ...
    class Failed(protocol.Failed, tag=35): ...

    PROTOCOL = Protocol(1, Hello | Ask, 4096, Welcome | Answer | Failed, 1 << 16, Failed, ERRORS)

Tags and codes are never reused for another meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from kvoshim.errors import KvoshimError
from kvoshim.process.framing import Frames


class Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Root of all messages. Each has a tag of its own."""


class Failed(Message):
    """A request was refused; request 0: so is the connection. A protocol's own kind gives it a tag."""

    request: int
    code: str
    text: str


@dataclass(frozen=True)
class Protocol:
    """client_messages, daemon_messages: the union of what each side may say; client_max, daemon_max: bytes of one message. errors:
    what a daemon may refuse with, by code; one of them is "protocol"."""

    version: int
    client_messages: object
    client_max: int
    daemon_messages: object
    daemon_max: int
    failed: type[Failed]
    errors: Mapping[str, type[KvoshimError]]

    def of_client(self) -> Frames:
        """Cuts what a client sends into messages."""
        return Frames(self.client_messages, self.client_max, f"version {self.version}")

    def of_daemon(self) -> Frames:
        """Cuts what the daemon sends into messages."""
        return Frames(self.daemon_messages, self.daemon_max, f"version {self.version}")

    def failure(self, request: int, error: KvoshimError) -> Failed:
        """What tells a client of an error."""
        return self.failed(request, self.code_of(error), str(error))

    def code_of(self, error: KvoshimError) -> str:
        """The code under which an error crosses the wire: its own, or that of the nearest kind above it."""
        for kind in type(error).__mro__:
            for code, known in self.errors.items():
                if known is kind:
                    return code
        return "protocol"

    def error(self, code: str, text: str) -> KvoshimError:
        """The error that crossed the wire."""
        return self.errors.get(code, KvoshimError)(text)
