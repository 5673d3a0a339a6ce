"""Observable: the side that publishes values."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kvoshim import identity
from kvoshim._store import Reader, Writer
from kvoshim._values import check_name
from kvoshim.errors import ClosedError, KvoshimError, LimitError
from kvoshim.kvo import wire
from kvoshim.kvo.client import Client
from kvoshim.kvo.link import Link

log = logging.getLogger("kvoshim.observable")

_RAISE = object()


class Publication:
    """The client's record of an observable; knows nothing of the Observable object, so that one can be
    collected."""

    def __init__(self, client: Client, name: str, writer: Writer) -> None:
        self.client = client
        self.name = name
        self.writer = writer

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
        if floor:
            self.writer.raise_floor(floor)
        self.publish(link)

    def withdraw(self, discard: bool) -> None:
        """Ends the publication; without a controller at once, for the store itself says that it is closed."""
        if self.client.publications.get(self.name) is self:
            del self.client.publications[self.name]
        try:
            self.writer.finish()
            self.writer.detach()
            if not self.client.lost.is_set():
                self.client.request(lambda number: wire.Withdraw(number, self.name, discard))
        except KvoshimError as error:
            log.info("%r was closed without the controller: %s", self.name, error)
        self.writer.close()
        self.client.release()


class Observable:
    """Publishes named values that other processes read and observe.

    name: 1 to 255 bytes in UTF-8, unique for the controller while this object is open. controller: path of
    the controller's socket (default: KVOSHIM_CONTROLLER, else the user's own). autostart: start a controller
    if none runs. inherit: take over the last values of an ended observable of this name. Versions go on from
    its in either case. max_keys: keys at the same time (1 to 65536, default 4096). capacity: bytes reserved
    for values longer than 80 bytes, a power of two (default 256 MiB); memory is used only for what is stored.
    One value may take a quarter.

    Values: None, bool, int, float, str, bytes, datetime, and lists and dicts of these. Safe to use from
    several threads. The values stay readable after close() or the death of this process as long as the
    controller keeps them.

    Raises InvalidNameError, NameInUseError, LimitError, ControllerUnavailableError.
    """

    def __init__(
        self,
        name: str,
        *,
        controller: str | os.PathLike[str] | None = None,
        autostart: bool = True,
        inherit: bool = True,
        max_keys: int | None = None,
        capacity: int | None = None,
    ) -> None:
        check_name(name)
        self.name = name
        client = Client.acquire(controller, autostart)
        try:
            self._writer = self._publish(client, inherit, max_keys, capacity)
        except BaseException:
            client.release()
            raise
        # set() is what this object is for: it goes straight to the store.
        self.set: Callable[[str, Any], int] = self._writer.set
        self._finalizer = weakref.finalize(self, _withdraw_elsewhere, self._publication)
        self._finalizer.atexit = False

    def _publish(self, client: Client, inherit: bool, max_keys: int | None, capacity: int | None) -> Writer:
        start = identity.start_time(os.getpid())
        writer = Writer(self.name, max_keys or 4096, capacity or 1 << 28, start=start)
        publication = Publication(client, self.name, writer)
        floor, fd = publication.claim()
        if fd >= 0:
            try:
                predecessor = Reader(fd)
            finally:
                os.close(fd)
            if max_keys is None and capacity is None and predecessor.limits != writer.limits:
                # Sized by default: at least as large as what is taken over.
                limits = predecessor.limits
                larger = Writer(
                    self.name, max(4096, limits["max_keys"]), max(1 << 28, limits["capacity"]), start=start
                )
                writer.close()
                writer = publication.writer = larger
            if inherit:
                _take_over(writer, predecessor)
            # One revision is left for the removal that an observer infers of a key that was not taken over.
            above = predecessor.revision() + 1
            writer.begin_above(above, above)
            predecessor.close()
        if floor:
            writer.begin_above(floor, floor)
        client.publications[self.name] = publication
        try:
            publication.publish()
        except BaseException:
            if client.publications.get(self.name) is publication:
                del client.publications[self.name]
            raise
        self._publication = publication
        return writer

    def get(self, key: str, default: Any = _RAISE) -> Any:
        """The value of a key as stored. UnknownKeyError if there is none and no default is given."""
        return self._writer.get(key) if default is _RAISE else self._writer.get(key, default)

    def update(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **more: Any) -> None:
        """Sets several keys, one after the other."""
        for key, value in dict(values, **more).items():
            self.set(key, value)

    def remove(self, key: str) -> int:
        """Removes a key and scrubs its value; returns the version of the removal. UnknownKeyError if it has
        none."""
        return self._writer.remove(key)

    def keys(self) -> list[str]:
        """The keys that have a value."""
        return self._writer.keys()

    def version(self, key: str) -> int:
        """The version of a key: rises with each set() and remove(); 0 if it was never set."""
        return self._writer.revision(key)

    @property
    def connected(self) -> bool:
        """Whether a controller knows of this observable now; values can be set and read in either case."""
        return not self._writer.closed and not self._publication.client.lost.is_set()

    def close(self, discard: bool = False) -> None:
        """Ends the observable; idempotent. Its observers are told. The last values stay readable under the
        name as long as the controller keeps them, unless they are to be discarded."""
        if self._finalizer.detach() is not None:
            self._publication.withdraw(discard)

    @property
    def closed(self) -> bool:
        return self._writer.closed

    def __getitem__(self, key: str) -> Any:
        return self._writer.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        self.remove(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._writer.get(key, _RAISE) is not _RAISE

    def __enter__(self) -> Observable:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Observable {self.name!r}, {'closed' if self.closed else f'{len(self.keys())} keys'}>"


def _take_over(writer: Writer, predecessor: Reader) -> None:
    for key in predecessor.keys():
        raw = predecessor.raw(key)
        if raw is not None:
            try:
                writer.restore(key, *raw)
            except LimitError as error:
                log.warning("%r of %r is not taken over: %s", key, writer.name, error)


def _withdraw_elsewhere(publication: Publication) -> None:
    """For an Observable that was collected: a finalizer may run in the middle of anything, also with the very
    locks held that ending a publication takes."""
    try:
        publication.client.check()
        threading.Thread(target=publication.withdraw, args=(False,), daemon=True).start()
    except (RuntimeError, ClosedError):  # a forked child, or the interpreter is going down
        pass
