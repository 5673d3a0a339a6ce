"""One registration of this process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from kvoshim.errors import ClosedError, KvoshimError
from kvoshim.registry import wire
from kvoshim.registry.entry import Entry, Metadata, Offer, check_offer

if TYPE_CHECKING:
    from kvoshim.registry.client.client import Client

log = logging.getLogger("kvoshim.registry")


class Registration:
    """Kept for this process until close(), also over the registry's death. A context manager.

    error: why it is no more, although nobody closed it; None: it is.
    """

    def __init__(
        self, client: Client, offer: Offer, on_owned: Callable | None, on_lost: Callable | None, statistics: Callable | None
    ) -> None:
        self.error: KvoshimError | None = None
        self.at = 0  # the store's revision that shows it first
        self._client = client
        self._offer = offer
        self._on_owned = on_owned
        self._on_lost = on_lost
        self._statistics = statistics
        self._entry: Entry | None = None
        self._receipt: wire.Receipt | None = None
        self._closed = False
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "ended" if self.error else "owner" if self.owner else "waiting"
        return f"<Registration {self._offer.name!r} #{self.serial}, {state}>"

    # --- what it is ---------------------------------------------

    @property
    def entry(self) -> Entry:
        """As others find it."""
        return self._entry

    @property
    def id(self) -> int:
        return self._entry.id

    @property
    def name(self) -> str:
        return self._offer.name

    @property
    def serial(self) -> int:
        return self._entry.serial if self._entry is not None else 0

    @property
    def token(self) -> int:
        """The fencing token, while it owns the name; else 0."""
        return self._entry.token if self._entry is not None and not self._closed and self.error is None else 0

    @property
    def owner(self) -> bool:
        """Whether it owns the name, as far as is known here: what is at stake is guarded by the token."""
        return self.token > 0

    def wait_owner(self, timeout: float | None = None) -> bool:
        """Waits until it owns the name; whether it does."""
        if self._client.takes_in_here():
            self._client.take_in_until(lambda: self.owner or self._closed or self.error is not None, timeout)
            return self.owner
        with self._changed:
            self._changed.wait_for(lambda: self.owner or self._closed or self.error is not None, timeout)
        return self.owner

    # --- what it does ---------------------------------------------

    def changed(self, **fields: Any) -> Offer:
        """The offer with these changes. InvalidEntryError; ClosedError."""
        if self._closed or self.error is not None:
            raise ClosedError(f"{self._offer.name!r} is not registered any more: {self.error or 'closed'}")
        offer = msgspec.structs.replace(self._offer, **{key: value for key, value in fields.items() if value is not None})
        check_offer(offer)
        return offer

    def update(
        self, *, address: str | None = None, version: str | None = None, metadata: Metadata | None = None,
        replace: bool | None = None, allow_replacement: bool | None = None, queue: bool | None = None,
    ) -> None:  # fmt: skip
        """Changes what is given and keeps the rest. replace=True asks once more for the name. InvalidEntryError, ClosedError."""
        offer = self.changed(
            address=address, version=version, metadata=metadata, replace=replace, allow_replacement=allow_replacement, queue=queue
        )
        self._client.update(self, offer)

    def close(self) -> None:
        """Ends it: the next in line gets the name. Nothing happens in a forked child: it is its parent's."""
        if self._client.forked or self._closed:
            return
        self._closed = True
        with self._changed:
            self._changed.notify_all()
        self._client.deregister(self)

    def __enter__(self) -> Registration:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # --- from the client ---------------------------------------------

    def registering(self, request: int) -> wire.Register:
        return wire.Register(request, self._offer, self._receipt)

    def settled(self, offer: Offer) -> None:
        """The registry has taken the offer. Asking to replace somebody is done once."""
        self._offer = msgspec.structs.replace(offer, replace=False)

    def confirmed(self, entry: Entry, receipt: wire.Receipt) -> None:
        """The registry's answer to registering or updating."""
        was = self.token
        self._entry, self._receipt = entry, receipt
        with self._changed:
            self._changed.notify_all()
        if entry.token and not was:
            self._call(self._on_owned)

    def owned(self, receipt: wire.Receipt) -> None:
        self._receipt = receipt
        self._entry = msgspec.structs.replace(self._entry, token=receipt.token)
        with self._changed:
            self._changed.notify_all()
        self._call(self._on_owned)

    def lost(self, receipt: wire.Receipt, gone: bool) -> None:
        self._receipt = receipt
        self._entry = msgspec.structs.replace(self._entry, token=0)
        if gone:
            self.fail(KvoshimError(f"{self._offer.name!r} was taken over by another process"))
        else:
            self._call(self._on_lost)

    def fail(self, error: KvoshimError) -> None:
        """It is no more."""
        self.error = error
        log.warning("%r is not registered any more: %s", self._offer.name, error)
        with self._changed:
            self._changed.notify_all()
        self._call(self._on_lost)

    def _call(self, function: Callable | None) -> None:
        if function is not None and not self._closed:
            self._client.later(function, self)

    def statistics(self) -> Mapping[str, Any]:
        """What the program itself counts."""
        return {} if self._statistics is None else self._statistics()
