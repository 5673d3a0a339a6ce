"""How things are called in the key-value bucket, and what is under the names.

    l.HOST               the host's lease: its name and epoch; it expires unless it is renewed
    h.HOST.EPOCH.ID      an entry of the host, valid while its epoch is the lease's

HOST is the host's name in hexadecimal: names may have characters that a key may not. An epoch begins whenever a host tells a bucket
anew all that it has, and is in force from the moment when its lease names it: so watchers change from one to the next at once.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

import msgspec

from kvoshim.errors import InvalidEntryError
from kvoshim.registry.entry import Entry, Offer, check_offer

LEASES, ENTRIES = "l", "h"
VALUE_MAX = 16384  # bytes
_EPOCH = re.compile("[0-9a-f]{16}")
_encode = msgspec.msgpack.Encoder().encode


class Lease(msgspec.Struct, array_like=True, frozen=True):
    """version: of all this."""

    version: int
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    epoch: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]


_lease = msgspec.msgpack.Decoder(Lease).decode
_entry = msgspec.msgpack.Decoder(Entry).decode
VERSION = 1


def token(host: str) -> str:
    return host.encode("utf-8", "surrogateescape").hex()


def bucket(host: str) -> str:
    """The bucket of a host's own server. Its name says whose: who connects to another host by mistake, since two networks use the same
    addresses, finds no such bucket there."""
    name = token(host)
    return f"kvoshim-{name if len(name) <= 128 else hashlib.sha256(name.encode()).hexdigest()}"


def lease_key(host: str) -> str:
    return f"{LEASES}.{token(host)}"


def entry_key(host: str, epoch: str, number: int) -> str:
    return f"{ENTRIES}.{token(host)}.{epoch}.{number:x}"


def epoch_keys(host_token: str, epoch: str) -> str:
    """All keys of an epoch, as a pattern."""
    return f"{ENTRIES}.{host_token}.{epoch}.>"


def encode_lease(host: str, epoch: str) -> bytes:
    return _encode(Lease(VERSION, host, epoch))


def encode_entry(entry: Entry) -> bytes:
    return _encode(entry)


def parse(key: str) -> tuple[str, str, int] | None:
    """(HOST, EPOCH, ID); of a lease (HOST, "", 0). None: a key that nobody of us can have made."""
    kind, _, rest = key.partition(".")
    parts = rest.split(".")
    if kind == LEASES and len(parts) == 1:
        return parts[0], "", 0
    if kind != ENTRIES or len(parts) != 3 or not _EPOCH.fullmatch(parts[1]):
        return None
    try:
        return parts[0], parts[1], int(parts[2], 16)
    except ValueError:
        return None


def decode_lease(host_token: str, value: bytes) -> Lease | None:
    """None for what is none of that host's, or of a version that is not known here."""
    try:
        lease = _lease(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return lease if token(lease.host) == host_token and lease.version == VERSION else None


def decode_entry(number: int, value: bytes, reach: str) -> Entry | None:
    """An entry of another host, as it is shown here. None for what no registry can have admitted: what comes from a network is
    looked at as closely as what comes from a client."""
    if len(value) > VALUE_MAX:
        return None
    try:
        entry = _entry(value)
        check_offer(Offer(entry.name, entry.address, entry.version, entry.metadata))
    except (msgspec.MsgspecError, InvalidEntryError, ValueError, RecursionError):
        return None
    numbers = (entry.id, entry.serial, entry.pid, entry.start, entry.uid, entry.token)
    if entry.id != number or not all(0 <= one < 1 << 63 for one in numbers):
        return None
    if not (entry.host.isprintable() and entry.program.isprintable()) or len(entry.host) > 255 or len(entry.program) > 255:
        return None
    return msgspec.structs.replace(entry, reach=reach)
