"""What the client knows of an observable: its store, and how it is handed in."""

from __future__ import annotations

import logging
import os

from kvoshim import identity
from kvoshim._store import Reader, Writer
from kvoshim.errors import CorruptStoreError, KvoshimError, LimitError
from kvoshim.kvo import wire
from kvoshim.kvo.client import Client
from kvoshim.kvo.expiry import Expiry
from kvoshim.kvo.link import Link

log = logging.getLogger("kvoshim.observable")


class Publication:
    """Knows nothing of the Observable object, so that one can be collected."""

    def __init__(self, client: Client, name: str, writer: Writer) -> None:
        self.client = client
        self.name = name
        self.writer = writer
        self.expiry = Expiry(writer)
        self.denied = False
        self.base = 0  # what is not from a predecessor is above

    def claim(self, link: Link | None = None) -> tuple[int, int]:
        """Asks for the name; returns the floor of its versions and the predecessor's descriptor (-1:
        none)."""
        claimed, fd = self.client.request(
            lambda number: wire.Claim(number, self.name, self.writer.instance), link=link
        )
        return claimed.floor, fd

    def publish(self, link: Link | None = None) -> None:
        """Hands the store in and begins to tell the controller what changes."""

        def attach(current: Link, published: wire.Published) -> None:
            self.writer.attach(current.table, published.store, self.client.bell)
            current.bell()  # attaching marks everything as changed

        self.client.request(
            lambda number, ticket: wire.Publish(number, self.name, ticket),
            self.writer.fd,
            link=link,
            then=attach,
        )

    def hand_in(self, link: Link) -> None:
        """Publishes again, to a controller that does not know the store yet."""
        floor, fd = self.claim(link)
        if fd >= 0:
            os.close(fd)
        self.raise_floor(floor)
        self.publish(link)

    def raise_floor(self, floor: int) -> None:
        """Goes on above what observers have seen of a predecessor. If it does so already, nothing is published again: what was
        taken over is what they have seen."""
        if floor <= self.base:
            return
        try:
            self.writer.raise_floor(floor)
            self.base = floor
        except LimitError as error:
            log.warning("%r: %s", self.name, error)

    def deny(self, error: KvoshimError) -> None:
        """The controller no longer admits it: from here on its use raises `error`."""
        if self.client.publications.get(self.name) is self:
            del self.client.publications[self.name]
        log.error("%r is no longer published: %s", self.name, error)
        self.denied = True
        self.expiry.close()
        self.writer.finish()
        self.writer.detach()
        self.writer.close(error)

    def withdraw(self, discard: bool) -> None:
        """Ends the publication; without a controller at once, for the store itself says that it is closed."""
        if self.client.publications.get(self.name) is self:
            del self.client.publications[self.name]
        if not self.client.forked:  # else its lock may be held for ever, by a thread that this process never had
            self.expiry.close()
        try:
            if self.denied:
                return
            self.writer.finish()
            self.writer.detach()
            if not self.client.lost.is_set():
                self.client.request(lambda number: wire.Withdraw(number, self.name, discard))
        except KvoshimError as error:
            log.info("%r was closed without the controller: %s", self.name, error)
        finally:
            self.writer.close()
            self.client.release()


def publish(client: Client, name: str, inherit: bool, max_keys: int | None, capacity: int | None, history: int) -> Publication:
    """Makes a store, takes over what a predecessor left, and hands it in."""
    start = identity.start_time(os.getpid())
    writer = Writer(name, max_keys or 4096, capacity or 1 << 28, start=start, history=history)
    publication = Publication(client, name, writer)
    floor, fd = publication.claim()
    predecessor = _predecessor(name, fd) if fd >= 0 else None
    if predecessor is None and fd >= 0:
        publication.base = wire.REVISION_FRESH
        writer.begin_above(wire.REVISION_FRESH, wire.REVISION_FRESH)
    elif predecessor is not None:
        limits = predecessor.limits
        if max_keys is None and capacity is None and (limits["max_keys"] > 4096 or limits["capacity"] > 1 << 28):
            # Sized by default: at least as large as what is taken over.
            writer.close()
            writer = Writer(name, max(4096, limits["max_keys"]), max(1 << 28, limits["capacity"]), start=start, history=history)
            publication.writer, publication.expiry = writer, Expiry(writer)
        if inherit:
            _take_over(publication, predecessor)
        # One revision is left for the removal that an observer infers of a key that was not taken over.
        above = predecessor.revision() + 1
        if above >= wire.REVISION_MAX:
            above = wire.REVISION_FRESH
        publication.base = above
        writer.begin_above(above, above)
        predecessor.close()
    publication.raise_floor(floor)  # what was taken over as well: observers that have seen more would not look at it
    client.publications[name] = publication
    try:
        publication.publish()
    except BaseException:
        if client.publications.get(name) is publication:
            del client.publications[name]
        raise
    return publication


def _predecessor(name: str, fd: int) -> Reader | None:
    """The store that a predecessor has left; None if it is spoiled, which is not to spoil the name."""
    try:
        return Reader(fd)
    except CorruptStoreError as error:
        log.error("nothing is taken over from the predecessor of %r: %s", name, error)
        return None
    finally:
        os.close(fd)


def _take_over(publication: Publication, predecessor: Reader) -> None:
    """What cannot be read, or be true, stays behind."""
    for key in predecessor.keys():
        try:
            raw = predecessor.raw(key)
            if raw is None:
                continue
            _type, _bytes, revision, monotonic_ns, _wall, ttl_ms = raw
            if revision >= wire.REVISION_MAX:
                raise CorruptStoreError(f"no store has come to revision {revision}")
            publication.writer.restore(key, *raw)
        except KvoshimError as error:
            log.warning("%r of %r is not taken over: %s", key, publication.name, error)
            continue
        if ttl_ms:
            publication.expiry.add(key, revision, monotonic_ns / 1e9 + ttl_ms / 1e3)
