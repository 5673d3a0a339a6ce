"""Who is noted under a key. Nearly every key has a single observer, and a set takes 200 bytes: one stands there by itself, and
only several are a set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvoshim.kvo.controller.entries import Registration

Members = "dict[str, Registration | set[Registration]]"


def add(members: Members, key: str, one: Registration) -> None:
    there = members.setdefault(key, one)
    if isinstance(there, set):
        there.add(one)
    elif there is not one:
        members[key] = {there, one}


def discard(members: Members, key: str, one: Registration) -> None:
    """One that is not there is no error."""
    there = members.get(key)
    if there is one:
        del members[key]
    elif isinstance(there, set):
        there.discard(one)
        if len(there) == 1:
            members[key] = there.pop()


def of(members: Members, key: str | None) -> Iterable[Registration]:
    there = members.get(key, ())
    return there if isinstance(there, (set, tuple)) else (there,)


def all_of(members: Members) -> Iterable[Registration]:
    for key in members:
        yield from of(members, key)
