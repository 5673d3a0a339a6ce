"""Observable: the side that publishes values."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kvoshim._values import check_key, check_name
from kvoshim.errors import ClosedError, UnknownKeyError
from kvoshim.kvo.batch import REMOVED, Batch
from kvoshim.kvo.client import Client
from kvoshim.kvo.publication import Publication, publish

log = logging.getLogger("kvoshim.observable")

_RAISE = object()
_ABSENT = object()


class Observable:
    """Publishes named values that other processes read and observe.

    name: 1 to 255 bytes in UTF-8, unique for the controller while this object is open. controller: path of
    the controller's socket (default: KVOSHIM_CONTROLLER, else the user's own). autostart: start a controller
    if none runs. inherit: take over the last values of an ended observable of this name. Revisions go on from
    its in either case. max_keys: keys at the same time (1 to 65536, default 4096). capacity: bytes reserved
    for values longer than 80 bytes, a power of two (default 256 MiB); memory is used only for what is stored.
    One value may take a quarter. history: bytes of the journal of changes, a power of two (default 1 MiB), or 0.
    thread: True: a background thread keeps the connection; None: the running event loop if there is one; False:
    see Observer.

    Values: None, bool, int, float, str, bytes, datetime, dataclasses, msgspec Structs, NumPy arrays, and lists and
    dicts of these. Safe to use from several threads. The values stay readable after close() or the death of this
    process as long as the controller keeps them.

    Raises InvalidNameError, NameInUseError, LimitError, ControllerUnavailableError.
    """

    def __init__(
        self,
        name: str,
        autostart: bool = True,
        *,
        controller: str | os.PathLike[str] | None = None,
        inherit: bool = True,
        max_keys: int | None = None,
        capacity: int | None = None,
        history: int = 1 << 20,
        thread: bool | None = None,
    ) -> None:
        check_name(name)
        self.name = name
        client = Client.acquire(controller, autostart, thread)
        try:
            self._publication = publish(client, name, inherit, max_keys, capacity, history)
        except BaseException:
            client.release()
            raise
        self._writer = self._publication.writer
        self._batches: dict[int, Batch] = {}  # by thread
        self._computed: dict[str, tuple[tuple[str, ...], Callable[..., Any]]] = {}
        self._choose_set()
        self._finalizer = weakref.finalize(self, _withdraw_elsewhere, self._publication)
        self._finalizer.atexit = False

    # --- setting ---------------------------------------------

    def _choose_set(self) -> None:
        # set() is what this object is for: it goes straight to the store unless something is to be added.
        self.computes = bool(self._computed)  # whether there are dependent keys
        plain = not self._batches and not self._computed
        self.set: Callable[[str, Any], int] = self._writer.set if plain else self._careful_set

    def _careful_set(self, key: str, value: Any) -> int:
        batch = self._batches.get(threading.get_ident())
        if batch is not None:
            check_key(key)
            batch.set(key, value)
            return 0
        if any(key in sources for sources, _ in self._computed.values()):
            with self.batch() as batch:
                batch.set(key, value)
            return batch.revision
        return self._writer.set(key, value)

    def put(self, key: str, value: Any, *, ttl: float = 0, ephemeral: bool = False, revision: int | None = None) -> int:
        """As set(). ttl: seconds after which the value has expired: the key is deleted then, reason 'expired'. ephemeral:
        the key ends with this process, reason 'owner-died'. revision: only if the key's last change is still this one
        (0: it has no value), else ConflictError."""
        check_key(key)
        with self.batch() as batch:
            batch.set(key, value, ttl, ephemeral)
            if revision is not None:
                batch.expecting(key, revision)
        return batch.revision

    def create(self, key: str, value: Any, **options: Any) -> int:
        """Sets a key that has no value; otherwise ConflictError. Options as for put()."""
        return self.put(key, value, revision=0, **options)

    def update(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **more: Any) -> int:
        """Sets several keys as one transaction, under one revision, which it returns (0 within a batch)."""
        with self.batch() as batch:
            for key, value in dict(values, **more).items():
                self._careful_set(key, value)
        return batch.revision

    def delete(self, key: str, *, purge: bool = False, revision: int | None = None) -> int:
        """Deletes a key and scrubs its value; returns the revision of the deletion (0 within a batch). purge: what the
        journal still has of it is wiped as well. UnknownKeyError if it has no value, ConflictError if its last change is
        not `revision`."""
        check_key(key)
        if not self.has(key):
            raise UnknownKeyError(f"{self.name!r} has no key {key!r}")
        with self.batch() as batch:
            batch.delete(key, "purged" if purge else "deleted")
            if revision is not None:
                batch.expecting(key, revision)
        return batch.revision

    def batch(self) -> Batch:
        """`with observable.batch():` what this thread sets and deletes in the block is published at its end, as one
        transaction: whoever reads sees all of it or nothing, and observers are told once. If the block raises, nothing
        is. `as batch`: its `revision` afterwards; batch.expecting(key, revision)."""
        return self._batches.get(threading.get_ident()) or Batch(self)

    def _begin_batch(self, batch: Batch) -> None:
        self._writer.revision()  # ClosedError, ForkedError
        batch.depth += 1
        if batch.depth == 1:
            self._batches[batch.thread] = batch
            self._choose_set()

    def _end_batch(self, batch: Batch, good: bool) -> None:
        batch.depth -= 1
        if batch.depth:
            return
        if not good:
            batch.sets.clear()
            batch.removals.clear()
            batch.expect.clear()
        try:
            if batch.sets or batch.removals:
                self._compute(batch)
        finally:
            del self._batches[batch.thread]
            self._choose_set()
        if batch.sets or batch.removals or batch.expect:
            batch.revision = self._writer.transact(batch.sets, batch.removals, batch.expect)
            now = time.monotonic()
            for key, (_, ttl, _) in batch.sets.items():
                if ttl:
                    self._publication.expiry.add(key, batch.revision, now + ttl)

    # --- dependent keys ---------------------------------------------

    def compute(self, key: str, sources: Iterable[str], function: Callable[..., Any]) -> None:
        """Makes `key` depend on others: whenever one of `sources` changes, `key` becomes function(*their values), in the
        same transaction. Without one of the sources it has no value. Sources may be dependent keys themselves."""
        check_key(key)
        sources = tuple(sources)
        if key in sources or any(key in self._sources_of(source) for source in sources):
            raise ValueError(f"{key!r} would depend on itself")
        self._computed[key] = sources, function
        self._choose_set()
        with self.batch() as batch:
            for source in sources:
                if self.has(source):
                    self._compute_one(batch, key)
                    break

    def forget_computed(self, key: str) -> None:
        """Ends what compute() began: the key is deleted and depends on nothing any more. An unknown one is no error."""
        if self._computed.pop(key, None) is not None:
            self._choose_set()
            if self.has(key):
                self.delete(key)

    def _sources_of(self, key: str) -> set[str]:
        sources, _ = self._computed.get(key, ((), None))
        return {*sources, *(below for source in sources for below in self._sources_of(source))}

    def _compute(self, batch: Batch) -> None:
        changed = {*batch.sets, *batch.removals}
        due = [key for key in self._computed if changed & self._sources_of(key)]
        for key in sorted(due, key=lambda key: sum(other in self._sources_of(key) for other in due)):
            self._compute_one(batch, key)

    def _compute_one(self, batch: Batch, key: str) -> None:
        sources, function = self._computed[key]
        try:
            values = [self.get(source) for source in sources]
        except UnknownKeyError:
            if self.has(key):
                batch.delete(key)
            return
        batch.set(key, function(*values))

    # --- reading ---------------------------------------------

    def get(self, key: str, default: Any = _RAISE) -> Any:
        """The value of a key as stored. UnknownKeyError if there is none and no default is given."""
        if self._batches:
            batch = self._batches.get(threading.get_ident())
            found = batch.look(key) if batch is not None else None
            if found is REMOVED:
                if default is _RAISE:
                    raise UnknownKeyError(f"{self.name!r} has no key {key!r}")
                return default
            if found is not None:
                return found[0]
        return self._writer.get(key) if default is _RAISE else self._writer.get(key, default)

    def has(self, key: str) -> bool:
        return self.get(key, _ABSENT) is not _ABSENT

    def keys(self) -> list[str]:
        """The keys that have a value."""
        return self._writer.keys()

    def revision(self, key: str | None = None) -> int:
        """The revision of the last change: of a key (0: it was never set), or of all."""
        return self._writer.revision(key)

    @property
    def connected(self) -> bool:
        """Whether a controller knows of this observable now; values can be set and read in either case."""
        return not self._writer.closed and not self._publication.client.lost.is_set()

    # --- the end ---------------------------------------------

    def close(self, discard: bool = False) -> None:
        """Ends the observable; idempotent. Its observers are told. The last values stay readable under the
        name as long as the controller keeps them, unless they are to be discarded."""
        if self._finalizer.detach() is not None:
            self._publication.withdraw(discard)

    @property
    def closed(self) -> bool:
        return self._writer.closed

    def __getitem__(self, key: str) -> Any:
        return self.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        self.delete(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.has(key)

    def __enter__(self) -> Observable:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Observable {self.name!r}, {'closed' if self.closed else f'{len(self.keys())} keys'}>"


def _withdraw_elsewhere(publication: Publication) -> None:
    """For an Observable that was collected: a finalizer may run in the middle of anything, also with the very
    locks held that ending a publication takes."""
    try:
        publication.client.check()
        threading.Thread(target=publication.withdraw, args=(False,), daemon=True).start()
    except (RuntimeError, ClosedError):  # a forked child, or the interpreter is going down
        pass
