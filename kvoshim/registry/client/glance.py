"""One look into the registry, by who does not stay: nothing is started, registered or kept."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kvoshim.registry import seat
from kvoshim.registry.client import pool
from kvoshim.registry.client.link import Link
from kvoshim.registry.entry import Entry, order

_decode = msgspec.msgpack.Decoder(Entry).decode


def look(scope: seat.Scope, names: Sequence[str], timeout: float) -> list[Entry]:
    """The entries of these very names, each name's owner first. timeout: seconds, for a registry that is there to answer.
    RegistryUnavailableError and its kinds, AccessDeniedError, LimitError."""
    if (client := pool.connected(scope)) is not None:
        return [entry for name in names for entry in client.find(name) if entry.name == name]
    link = Link(seat.connect(scope, timeout, start=False))
    try:
        return _read(link.reader, names)
    finally:
        link.close()
        link.reader.close()


def _read(reader, names: Sequence[str]) -> list[Entry]:
    wanted = [name.encode() for name in names]
    found = []
    for one in reader.newer(0)[1]:
        if one.state != "set" or not isinstance(one.value, bytes) or not any(name in one.value for name in wanted):
            continue  # most are others': they are not even decoded
        try:
            entry = _decode(one.value)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        if entry.name in names:
            found.append(entry)
    return sorted(found, key=order)
