"""What is known of one registered instance, and what may be registered at all."""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from typing import Any

import msgspec

from kvoshim.errors import InvalidEntryError

NAME_MAX = 255  # bytes in UTF-8
ADDRESS_MAX = 1024
METADATA_MAX = 4096  # bytes as they are stored
_GLOB = frozenset("*?[]")
_SEMVER = re.compile(  # version 2.0.0 of the specification
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)
_HOST = os.uname().nodename
Metadata = dict[str, str | int | float | bool | None]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One registered instance of a name.

    id: never given twice, whichever registry gave it. serial: among the instances of one name, the smallest that was free.
    start: of the process, in clock ticks since boot: with pid it names the process for good. token: rises with every new owner
    of a name, for fencing; 0: it waits in the queue. suspect: its process is stopped. reach: of the registry it is in.
    """

    id: int
    name: str
    serial: int
    host: str
    pid: int
    start: int
    uid: int
    address: str
    version: str
    metadata: Metadata
    token: int
    suspect: bool
    since: float
    program: str
    reach: str

    @property
    def owner(self) -> bool:
        """Whether the name is its own; the other instances wait in its queue."""
        return self.token > 0

    def __str__(self) -> str:
        return f"{self.name} #{self.serial}"


class Offer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a process registers. allow_replacement, replace, queue: D-Bus's flags, see catalogue.py."""

    name: str
    address: str = ""
    version: str = ""
    metadata: Metadata = {}
    allow_replacement: bool = False
    replace: bool = False
    queue: bool = True


def _checked(what: str, text: Any, most: int, empty: bool) -> None:
    if not isinstance(text, str):
        raise InvalidEntryError(f"{what} is a str, not {type(text).__name__}")
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidEntryError(f"{what} cannot be written in UTF-8: {text[:80]!r}") from None
    if length > most or not (length or empty):
        raise InvalidEntryError(f"{what} has {0 if empty else 1} to {most} bytes, not {length}: {text[:80]!r}")
    if not (text.isprintable() or not text):
        raise InvalidEntryError(f"{what} has no line ends or other control characters: {text[:80]!r}")


def check_name(name: Any) -> None:
    """InvalidEntryError if nothing can be registered under this name."""
    _checked("a name", name, NAME_MAX, empty=False)
    if not _GLOB.isdisjoint(name):
        raise InvalidEntryError(f"a name has none of the characters * ? [ ], which patterns are made of: {name[:80]!r}")


def check_offer(offer: Offer) -> None:
    """InvalidEntryError."""
    check_name(offer.name)
    _checked("an address", offer.address, ADDRESS_MAX, empty=True)
    _checked("a version", offer.version, NAME_MAX, empty=True)
    if offer.version and not _SEMVER.fullmatch(offer.version):
        raise InvalidEntryError(f"a version is MAJOR.MINOR.PATCH with -PRERELEASE and +BUILD (semver.org), not {offer.version!r}")
    metadata = offer.metadata
    if not isinstance(metadata, dict):
        raise InvalidEntryError(f"metadata is a dict, not {type(metadata).__name__}")
    for key, value in metadata.items():
        _checked("a key of the metadata", key, NAME_MAX, empty=False)
        if value is not None and type(value) not in (str, int, float, bool):
            raise InvalidEntryError(f"metadata holds str, int, float, bool and None; {key!r} is {type(value).__name__}")
    try:
        size = len(msgspec.msgpack.encode(metadata))
    except (UnicodeEncodeError, OverflowError) as error:
        raise InvalidEntryError(f"the metadata cannot be written down: {error}") from None
    if size > METADATA_MAX:
        raise InvalidEntryError(f"the metadata has at most {METADATA_MAX} bytes, not {size}")


class Pattern:
    """A glob over names: `*` any text, `?` a character, `[abc]` one of these. Without any of them: that very name."""

    __slots__ = ("text", "exact", "_match")

    def __init__(self, text: Any) -> None:
        _checked("a pattern", text, NAME_MAX, empty=False)
        self.text = text
        self.exact = _GLOB.isdisjoint(text)
        self._match = None if self.exact or text == "*" else _compiled(text)

    def matches(self, name: str) -> bool:
        if self.exact:
            return name == self.text
        return self._match is None or self._match(name) is not None


@functools.lru_cache(256)
def _compiled(text: str):
    return re.compile(fnmatch.translate(text)).fullmatch  # made so that no pattern takes exponential time


def order(entry: Entry) -> tuple:
    """How entries are listed: by name, one's own group before what is outside, this host before others, the owner first."""
    return entry.name, entry.reach != "private", entry.host != _HOST, entry.host, not entry.token, entry.serial, entry.id
