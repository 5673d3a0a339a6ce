"""What the controller and its clients say to each other, and how it is framed.

A message is a MessagePack array behind its length (process/framing.py). Its first element is the message's number.
Descriptors never travel here: they go over the descriptor channel (fdchannel.py) under a ticket that a message names.
Numbers are never reused for another meaning.

Version history: 1, the first; 2, direct delivery.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from kvoshim import errors
from kvoshim.process import protocol
from kvoshim.process.framing import frame as frame
from kvoshim.process.protocol import Message, Protocol

VERSION = 2
REVISION_MAX = 1 << 62  # what no honest store comes to
REVISION_END = (1 << 64) - 1  # what nobody can write down
REVISION_FRESH = 1 << 61  # where a store begins whose predecessor has made its revisions up: above all that were true
CLIENT_MAX = 4096  # bytes of one message from a client: names and keys are at most 255 bytes long
CONTROLLER_MAX = 1 << 20  # bytes of one message from the controller


# --- from a client ---------------------------------------------


class Hello(Message, tag=1):
    """The first message. program: for people, in lists and logs."""

    version: int
    program: str


class Claim(Message, tag=2):
    """Asks for a name; answered by Claimed. instance: of the store that will be published."""

    request: int
    name: str
    instance: bytes


class Publish(Message, tag=3):
    """Hands in the store for a claimed name, under `ticket`; answered by Published."""

    request: int
    name: str
    ticket: int


class Withdraw(Message, tag=4):
    """Ends an observable; answered by Done. discard: its values are dropped with it."""

    request: int
    name: str
    discard: bool


class Open(Message, tag=5):
    """Asks for the store of a name or a PID, to read it; answered by Opened.

    keep: an unknown name is still an error, but the client is told when somebody publishes it.
    """

    request: int
    target: str | int
    keep: bool


class Observe(Message, tag=6):
    """Asks to be told of changes of a key (None: all keys, or those that a pattern may match); answered by Observed.

    wait: an unknown name is no error but awaited. last, instance: the newest revision seen so far, and in
    which store. direct: 0: the controller tells of changes; 1: the observable itself if that can be; 2: only if
    the controller's policy allows that.
    """

    request: int
    registration: int
    target: str | int
    key: str | None
    wait: bool
    last: Annotated[int, msgspec.Meta(ge=0, le=REVISION_MAX)]
    instance: bytes
    direct: Annotated[int, msgspec.Meta(ge=0, le=2)]
    pattern: str | None = None


class Unobserve(Message, tag=7):
    """Ends a registration. No answer."""

    registration: int


class Bell(Message, tag=8):
    """Something observed has changed and the controller was asleep. No answer."""


class List(Message, tag=9):
    """Asks for all observables; answered by Listing, in one or more parts."""

    request: int


class Ping(Message, tag=10):
    """Asks for a sign of life; answered by Done."""

    request: int


class Report(Message, tag=24):
    """Answers Count: what tally.py counts, since the connection was made. No answer."""

    counts: Annotated[list[Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]], msgspec.Meta(max_length=64)]


class Listen(Message, tag=16):
    """Hands in a bell page under `ticket`, so that observables may ring this client; answered by Listening. It takes the place of
    one that was handed in before."""

    request: int
    ticket: int


class Deaf(Message, tag=17):
    """The client's bell is broken, the one that Listening has given this number: the controller has to tell of everything. No
    answer."""

    bell: int


class Linked(Message, tag=18):
    """Answers Link. ok: the observable rings that client from here on."""

    number: int
    ok: bool


# --- from the controller ---------------------------------------------


class Welcome(Message, tag=32):
    """Answers Hello. token: ties the descriptor channel to this connection. term: see term.py."""

    version: int
    token: bytes
    pid: int
    term: int = 0


class Claimed(Message, tag=33):
    """The name is the client's. floor: its versions must be above; ticket: the predecessor's store (0:
    none)."""

    request: int
    floor: int
    ticket: int


class Published(Message, tag=34):
    """store: the entry in the registration table."""

    request: int
    store: int


class Done(Message, tag=35):
    request: int


class StoreInfo(msgspec.Struct, array_like=True):
    """A store, as its readers know it. ticket: 0 if the client was given this instance before."""

    name: str
    pid: int
    start: int
    instance: bytes
    live: bool
    ticket: int


class Opened(Message, tag=36):
    request: int
    info: StoreInfo


class Observed(Message, tag=37):
    """name: what the target stands for. info: None as long as nobody has published the name."""

    request: int
    name: str
    info: StoreInfo | None


class Observation(msgspec.Struct, array_like=True):
    """Who observes what. key: None stands for every key."""

    pid: int
    key: str | None
    since: float


class Row(msgspec.Struct, array_like=True):
    """An observable in a list. pid: 0 if nobody has published the name yet."""

    name: str
    pid: int
    live: bool
    program: str
    observers: list[Observation]


class Listing(Message, tag=38):
    request: int
    rows: list[Row]
    more: bool


class Failed(protocol.Failed, tag=39):
    """code: a key of ERRORS."""


class Notify(Message, tag=40):
    """Changes: (registration, slot, version). The value is in the store."""

    items: list[tuple[int, int, int]]


class Offered(Message, tag=41):
    """A name in which the client has an interest was published."""

    info: StoreInfo


class Gone(Message, tag=42):
    """An observable has ended. discarded: its values are no longer to be had either."""

    name: str
    instance: bytes
    discarded: bool


class Raise(Message, tag=43):
    """To an observable: an observer has seen higher versions of a predecessor; publish above `floor`."""

    name: str
    floor: int


class Count(Message, tag=56):
    """Asks for a Report."""


class Denied(Message, tag=48):
    """The policy has changed: the client may no longer publish a name, or (publish false) observe it and have its store.
    code, text: as in Failed."""

    name: str
    publish: bool
    code: str
    text: str


class Listening(Message, tag=58):
    """ticket: the socket on which the client is rung. bell: a number for it, never used again."""

    request: int
    ticket: int
    bell: int


class Link(Message, tag=59):
    """To an observable: a client that it may ring; answered by Linked. number: of this link, never used again; row: its place in
    the registration table; bell: number of its bell. Tickets: its bell page, and the socket."""

    name: str
    number: int
    row: int
    bell: int
    page: int
    socket: int


class Unlink(Message, tag=60):
    """To an observable: the link has ended. No answer."""

    name: str
    number: int


class Direct(Message, tag=61):
    """To an observer: whether the observable of this name rings it itself now."""

    name: str
    on: bool


class Look(Message, tag=62):
    """To an observer: changes of this name may not have been announced; it compares all it observes of it."""

    name: str


CLIENT_MESSAGES = (
    Hello | Claim | Publish | Withdraw | Open | Observe | Unobserve | Bell | List | Ping | Report | Listen | Deaf | Linked
)
CONTROLLER_MESSAGES = (
    Welcome
    | Claimed
    | Published
    | Done
    | Opened
    | Observed
    | Listing
    | Failed
    | Notify
    | Offered
    | Gone
    | Raise
    | Count
    | Denied
    | Listening
    | Link
    | Unlink
    | Direct
    | Look
)

ERRORS: dict[str, type[errors.KvoshimError]] = {
    "key": errors.InvalidKeyError,
    "name": errors.InvalidNameError,
    "unknown-name": errors.UnknownNameError,
    "ambiguous": errors.AmbiguousTargetError,
    "in-use": errors.NameInUseError,
    "limit": errors.LimitError,
    "rate": errors.RateLimitError,
    "access": errors.AccessDeniedError,
    "corrupt": errors.CorruptStoreError,
    "delivery": errors.DeliveryError,
    "protocol": errors.ProtocolError,
}

PROTOCOL = Protocol(VERSION, CLIENT_MESSAGES, CLIENT_MAX, CONTROLLER_MESSAGES, CONTROLLER_MAX, Failed, ERRORS)
