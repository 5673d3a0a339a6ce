"""What the registry and its clients say to each other: messages as process/framing.py frames them, behind the proof that both ends
are what they say (seat/proof.py). Numbers are never reused for another meaning.

With Welcome comes the descriptor of the store that holds the entries, for reading only.

Version history: 1, the first.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from kvoshim import errors
from kvoshim.process import protocol
from kvoshim.process.protocol import Message, Protocol
from kvoshim.registry.entry import Entry, Offer

VERSION = 1
CLIENT_MAX = 16384  # bytes of one message
REGISTRY_MAX = 65536
TEXT_MAX = 8192  # bytes of what a process tells of itself
FOUND_MAX = 8  # entries in an answer
What = Literal["ping", "info", "statistics"]
Text = Annotated[str, msgspec.Meta(max_length=TEXT_MAX)]


class Receipt(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What an entry was when the client last heard of it, sealed by the registry (ledger.py): shown to the registry that takes
    its place."""

    id: int
    serial: int
    token: int
    since: float
    seal: bytes


# --- from a client ---------------------------------------------


class Hello(Message, tag=1):
    """The first message. program: for people."""

    version: int
    program: Annotated[str, msgspec.Meta(max_length=64)]


class Register(Message, tag=2):
    """Answered by Registered. receipt: of the registration with the registry before."""

    request: int
    offer: Offer
    receipt: Receipt | None = None


class Update(Message, tag=3):
    """Answered by Registered. The name in the offer does not count."""

    request: int
    id: int
    offer: Offer


class Deregister(Message, tag=4):
    """Answered by Done."""

    request: int
    id: int


class Watch(Message, tag=5):
    """Whether the client wants to hear Changed. No answer."""

    on: bool


class Ask(Message, tag=6):
    """Asks a registered process; answered by Answered."""

    request: int
    id: int
    what: What


class Reply(Message, tag=7):
    """Answers Asked."""

    number: int
    text: Text


class Find(Message, tag=9):
    """Asks who is registered under a name; answered by Found."""

    request: int
    name: Annotated[str, msgspec.Meta(max_length=255)]


class Sync(Message, tag=8):
    """Answered by Done once the store has all that came before. request 0: the client has handed in all that it had registered with
    the registry before."""

    request: int


# --- from the registry ---------------------------------------------


class Welcome(Message, tag=32):
    """Answers Hello, with the store's descriptor. settled: False: those who were registered with the registry before are still
    coming back. whole: False: what is registered on other hosts is still being told."""

    version: int
    pid: int
    reach: str
    settled: bool
    whole: bool = True


class Registered(Message, tag=33):
    """at: the store's revision from which on it shows this."""

    request: int
    entry: Entry
    receipt: Receipt
    at: int


class Done(Message, tag=34):
    request: int
    at: int


class Failed(protocol.Failed, tag=35):
    """code: a key of ERRORS."""


class Changed(Message, tag=36):
    """The store has changed."""


class Settled(Message, tag=37):
    """Nobody else comes back."""


class Asked(Message, tag=38):
    """Somebody asks one of the client's registrations; answered by Reply."""

    number: int
    id: int
    what: What


class Answered(Message, tag=39):
    request: int
    text: Text


class Owned(Message, tag=40):
    """A registration has come to its name."""

    receipt: Receipt


class Lost(Message, tag=41):
    """A registration was replaced as the owner of its name. gone: and it is no more."""

    receipt: Receipt
    gone: bool


class Whole(Message, tag=42):
    """The store has what is registered on other hosts, too, as far as they can be heard."""


class Found(Message, tag=43):
    """The first FOUND_MAX of a name's line, the owner first; in a group, then those outside."""

    request: int
    entries: list[Entry]


CLIENT_MESSAGES = Hello | Register | Update | Deregister | Watch | Ask | Reply | Find | Sync
REGISTRY_MESSAGES = Welcome | Registered | Done | Failed | Changed | Settled | Asked | Answered | Owned | Lost | Whole | Found

ERRORS: dict[str, type[errors.KvoshimError]] = {
    "entry": errors.InvalidEntryError,
    "unknown-name": errors.UnknownNameError,
    "in-use": errors.NameInUseError,
    "limit": errors.LimitError,
    "rate": errors.RateLimitError,
    "access": errors.AccessDeniedError,
    "no-answer": errors.NoAnswerError,
    "protocol": errors.ProtocolError,
}

PROTOCOL = Protocol(VERSION, CLIENT_MESSAGES, CLIENT_MAX, REGISTRY_MESSAGES, REGISTRY_MAX, Failed, ERRORS)
