"""What configd and its clients say to each other: messages as process/framing.py frames them. Numbers are never reused for another
meaning.

Version history: 1, the first.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from kvoshim import errors
from kvoshim.process import protocol
from kvoshim.process.protocol import Message, Protocol
from kvoshim.services.core.model import Group, Service
from kvoshim.services.core.operations import AnyOperation, Event

VERSION = 1
CLIENT_MAX = 16 << 20  # bytes of one message
CONFIGD_MAX = 256 << 20


# --- from a client ---------------------------------------------


class Hello(Message, tag=1):
    """The first message. program: for people."""

    version: int
    program: Annotated[str, msgspec.Meta(max_length=64)]


class Read(Message, tag=2):
    """Asks for services as they are in one revision; answered by Here. services: names; none: all."""

    request: int
    services: tuple[str, ...] = ()


class Transact(Message, tag=3):
    """Answered by Done, when it is on the disk. expected: the repository's revision."""

    request: int
    operations: tuple[AnyOperation, ...]
    expected: int | None = None


class Watch(Message, tag=4):
    """Whether the client wants to hear Happened. Answered by Here with all services, as they are just before the first one."""

    request: int
    on: bool = True


# --- from configd ---------------------------------------------


class Welcome(Message, tag=32):
    """Answers Hello. reason: why the repository is for reading only, "" if it is not."""

    version: int
    pid: int
    revision: int
    reason: str


class Here(Message, tag=33):
    """revision, pulse: the repository's."""

    request: int
    revision: int
    pulse: int
    services: dict[str, Service]


class Done(Message, tag=34):
    """revision, pulse: of the repository behind the transaction."""

    request: int
    revision: int
    pulse: int
    events: tuple[Event, ...]


class Failed(protocol.Failed, tag=35):
    """code: a key of ERRORS."""


class Happened(Message, tag=36):
    """What has changed, in the order of the transactions. services: each that was touched, as it is now, None if it is no more.
    volatile: by target, the volatile groups of each other instance, of which only the restarter's report has changed.
    client.updated() puts both in place."""

    revision: int
    pulse: int
    events: tuple[Event, ...]
    services: dict[str, Service | None]
    volatile: dict[str, dict[str, Group]] = {}


CLIENT_MESSAGES = Hello | Read | Transact | Watch
CONFIGD_MESSAGES = Welcome | Here | Done | Failed | Happened

ERRORS: dict[str, type[errors.KvoshimError]] = {
    "invalid": errors.InvalidServiceError,
    "unknown": errors.UnknownServiceError,
    "conflict": errors.ConflictError,
    "read-only": errors.ReadOnlyRepositoryError,
    "storage": errors.StorageError,
    "limit": errors.LimitError,
    "rate": errors.RateLimitError,
    "access": errors.AccessDeniedError,
    "protocol": errors.ProtocolError,
}

PROTOCOL = Protocol(VERSION, CLIENT_MESSAGES, CLIENT_MAX, CONFIGD_MESSAGES, CONFIGD_MAX, Failed, ERRORS)
