"""What the controller notes of each registration and of each store.

A registration is bound to a name, not to a store: it waits while nobody has published the name, and moves to
the successor's store by itself. Within a store it is bound to a slot as soon as its key has one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kvoshim._monitor import Monitor
from kvoshim.kvo.controller.members import Members
from kvoshim.kvo.keys import Sieve

if TYPE_CHECKING:
    from kvoshim.kvo.controller.links import Link
    from kvoshim.kvo.controller.session import Session


@dataclass(eq=False, slots=True)
class Registration:
    session: Session
    number: int
    name: str
    key: str | None
    row: int  # its place in the registration table, which has the time as well
    direct: bool = False  # rather from the observable itself
    sieve: Sieve | None = None  # of a pattern: the keys that it may be about
    store: Store | None = None
    link: Link | None = None
    told: bool = False  # by the controller: it is counted in the store's `told`


@dataclass(eq=False)
class Store:
    number: int  # its entry in the registration table
    name: str
    fd: int
    monitor: Monitor
    owner: Session | None
    program: str
    uid: int  # of whoever has published it
    size: int
    base: int = 0  # its revision when it was published, and what it was raised by since
    ended: float = 0.0
    everything: set[Registration] = field(default_factory=set)  # registrations of all keys
    by_key: Members = field(default_factory=dict)
    bound: dict[int, str] = field(default_factory=dict)  # slot -> observed key
    slots: dict[str, int] = field(default_factory=dict)  # and back
    missing: set[str] = field(default_factory=set)  # observed keys that have no slot
    links: dict[Session, Link] = field(default_factory=dict)  # clients that its owner rings, or is asked to
    told: dict[str | None, int] = field(default_factory=dict)  # key -> registrations that the controller has to tell
    repaired: int = -1  # its revision when it was last compared
    doubt: bool = False  # changes were too quick to be followed: when they end, those who are rung directly compare
    written: bool = False  # since it was compared last
    sieves: int = 0  # registrations of patterns
    keys: dict[int, str] = field(default_factory=dict)  # slot -> key, while there are any
    todo: deque[tuple[int, int | None]] = field(default_factory=deque)  # slots to be looked at; what count of writes is to be told
    behind: bool = False  # has more to be looked at than fits in a turn
    looked: int = 0  # in which turn it was looked at last

    @property
    def observed(self) -> bool:
        return bool(self.everything or self.by_key)
