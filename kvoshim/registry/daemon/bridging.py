"""What the registry and its bridge to other hosts (kvoshim/federation) say to each other, over a pair of sockets that only these two
have: messages as process/framing.py frames them.

The registry starts the bridge, tells it what is registered here and which hosts there are; the bridge tells what is registered there.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from kvoshim.process.framing import Frames
from kvoshim.process.protocol import Message
from kvoshim.registry.entry import Entry
from kvoshim.registry.wire import Text, What

MODULE = "kvoshim.federation"  # run as a program: what is below does not import what is above
MESSAGE_MAX = 1 << 20  # bytes
CHUNK = 64  # entries in one message

# --- from the registry ---------------------------------------------


class Begin(Message, tag=1):
    """The first message. host: this host's name, as its port file is called. home: the directory for
    certificates; run: the one for the server. listen, advertise, server: as configured. cluster: an operator's own, as configured,
    in place of a server of each host. most: entries of other hosts that there is room for."""

    host: str
    reach: str
    lease_s: int
    home: str
    run: str
    listen: str
    advertise: tuple[str, ...]
    server: str
    most: int
    cluster: dict | None


class Peers(Message, tag=2):
    """The other hosts, each with the addresses of its server; none: it has not said yet."""

    hosts: dict[str, tuple[str, ...]]


class Local(Message, tag=3):
    """What is registered here: new or changed, and gone (by number)."""

    put: list[Entry]
    drop: list[int]


class Ready(Message, tag=4):
    """All that was registered here before has been told."""


class Question(Message, tag=5):
    """Asks a process of another host; answered by Answer."""

    number: int
    host: str
    id: int
    what: What


class Reply(Message, tag=6):
    """Answers Asked. code: "" or a key of wire.ERRORS, and the text says why."""

    number: int
    text: Text
    code: str = ""


class Farewell(Message, tag=7):
    """This registry ends in order, and what is registered here with it."""


# --- from the bridge ---------------------------------------------


class Route(Message, tag=32):
    """Where this host's server can be reached."""

    addresses: tuple[str, ...]


class Shown(Message, tag=33):
    """What is registered on other hosts: new or changed, and gone, by number and host."""

    put: list[Entry]
    drop: list[tuple[int, str]]


class Whole(Message, tag=34):
    """All that is registered on other hosts, as far as it is known, has been told."""


class Say(Message, tag=35):
    """For the log. level: as in logging."""

    level: int
    text: Annotated[str, msgspec.Meta(max_length=4096)]


class State(Message, tag=36):
    """How each host is: "here" or "silent", and whether this host's entries get there: "", or why not. server: PID of this host's, 0:
    none."""

    hosts: dict[str, str]
    links: dict[str, str]
    server: int


class Asked(Message, tag=37):
    """Another host asks a process of this one; answered by Reply."""

    number: int
    id: int
    what: What


class Answer(Message, tag=38):
    """Answers Question."""

    number: int
    text: Text
    code: str = ""


_REGISTRY_MESSAGES = Begin | Peers | Local | Ready | Question | Reply | Farewell
_BRIDGE_MESSAGES = Route | Shown | Whole | Say | State | Asked | Answer


def of_registry() -> Frames:
    """Cuts what the registry sends into messages."""
    return Frames(_REGISTRY_MESSAGES, MESSAGE_MAX, "the registry's")


def of_bridge() -> Frames:
    return Frames(_BRIDGE_MESSAGES, MESSAGE_MAX, "the bridge's")
