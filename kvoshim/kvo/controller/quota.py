"""How much of the controller a client may have, and how much a user with all its clients.

Requests are counted by a token bucket: `burst` at once, `rate` a second in the long run. Whoever has used up its bucket
gets a RateLimitError for the request in hand and is not read for a moment: to refuse each of a flood's requests
would take as long as to do them.

Limits by user do not hold for the controller's own user and root, who could end it if they wanted to harm it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvoshim.errors import LimitError
from kvoshim.process.bucket import Bucket

if TYPE_CHECKING:
    from kvoshim.kvo.controller.session import Session

PAUSE_S = 0.05  # that a client is not read for when its bucket is empty


@dataclass(frozen=True)
class Share:
    """What one user may have with all its clients. requests_per_s 0: as many as it likes."""

    clients: int = 64
    registrations: int = 8192
    names: int = 256
    store_bytes: int = 1 << 37
    requests_per_s: float = 4000.0
    requests_burst: float = 32768.0


@dataclass(frozen=True)
class Limits:
    """What clients may ask for. store_bytes: the sizes of a client's stores, which are sealed: what the values in them can
    come to at most."""

    stores: int = 1024
    registrations: int = 16384
    registrations_per_client: int = 4096
    names_per_client: int = 256
    store_bytes_per_client: int = 1 << 37
    requests_per_s: float = 2000.0  # of one client in the long run; 0: as many as it likes
    requests_burst: float = 16384.0  # at once: all that a client hands in when it connects again
    retained: int = 512
    retain_s: float = 3600.0  # how long the values of an ended observable stay readable; 0: for ever
    per_user: Share = Share()


class Account:
    """A user and its clients. trusted: limits by user do not hold for it."""

    def __init__(self, uid: int, trusted: bool) -> None:
        self.uid = uid
        self.trusted = trusted
        self.sessions: set[Session] = set()
        self._bucket = Bucket()

    def take(self, cost: float, share: Share) -> bool:
        return self.trusted or self._bucket.take(cost, share.requests_per_s, share.requests_burst)

    def idle(self, share: Share) -> bool:
        """Whether it makes no difference to forget it."""
        return not self.sessions and not self._bucket.used(share.requests_per_s)

    def admit_client(self, share: Share) -> None:
        if not self.trusted and len(self.sessions) >= share.clients:
            raise LimitError(f"user {self.uid} may have {share.clients} connections at a time")

    def admit_registration(self, share: Share) -> None:
        if not self.trusted and sum(len(one.registrations) for one in self.sessions) >= share.registrations:
            raise LimitError(f"user {self.uid} may observe {share.registrations} keys at a time")

    def admit_name(self, share: Share) -> None:
        if not self.trusted and sum(len(one.names) for one in self.sessions) >= share.names:
            raise LimitError(f"user {self.uid} may publish {share.names} observables at a time")

    def admit_bytes(self, total: int, share: Share) -> None:
        """total: of its stores, those of ended observables that are kept included."""
        if not self.trusted and total > share.store_bytes:
            raise LimitError(f"the stores of user {self.uid} may have {share.store_bytes} bytes together")
