"""One observation: what was delivered, what has to be, and the token that ends it.

The contract, per observation and key:
* the newest value is always delivered in the end; values in between may be skipped;
* versions rise strictly over the changes that carry one ('initial', 'setting', 'removal');
* callbacks of one observation never run at the same time, and none runs after close() has returned.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from kvoshim.errors import CorruptStoreError, ReadContentionError

if TYPE_CHECKING:
    from kvoshim.kvo.client import Client, Handle

log = logging.getLogger("kvoshim.observer")


class Change(msgspec.Struct, frozen=True):
    """What a callback is told.

    kind: 'initial' (the value that was there when the observation began), 'setting', 'removal' (the key was
    removed), 'gone' (the observable was closed or its process died; its last values stay readable), 'back' (a
    successor has published the name). value: None for 'removal'; the last value for 'gone' and 'back' of a
    single key, None for those of all keys. version: rises with every write of the key; old_version: of the
    change delivered before (0: none). 'gone' and 'back' carry the last version again; for an observation of
    all keys their key is None. timestamp: of the write, in seconds since the epoch by the wall clock;
    monotonic_ns: the same by CLOCK_MONOTONIC. pid: of the observable's process.
    """

    name: str
    key: str | None
    kind: str
    value: Any
    version: int
    old_version: int
    timestamp: float
    monotonic_ns: int
    pid: int


class _Seen:
    """What was delivered of a key."""

    __slots__ = ("version", "present", "value", "wall", "monotonic")

    def __init__(self) -> None:
        self.version = 0
        self.present = False
        self.value: Any = None
        self.wall = 0
        self.monotonic = 0


class Observation:
    """The client's record of a registration; knows nothing of the Observer object, so that one can be
    collected."""

    def __init__(
        self,
        client: Client,
        group: set[Observation],
        number: int,
        target: str | int,
        key: str | None,
        callback: Callable[[Change], object],
        initial: bool,
        wait: bool,
    ) -> None:
        self.client = client
        self.group = group  # its Observer's
        self.number = number
        self.target = target
        self.name = target if isinstance(target, str) else ""
        self.key = key
        self.callback = callback
        self.initial = initial
        self.wait = wait
        self.closed = False
        self.instance = b""  # of the store that was read last
        self._begun = False
        self._kind = "setting"  # of the values that the next refresh finds
        self._pid = 0  # of the process that published the store read last
        self._live = True
        self._gate = threading.RLock()  # held while a callback runs; close() takes it
        self._seen: dict[str, _Seen] = {}
        self._slots: dict[int, str] = {}

    @property
    def last(self) -> int:
        """The highest version seen."""
        return max((seen.version for seen in list(self._seen.values())), default=0)

    def begin(self, handle: Handle | None) -> None:
        """The registration is in force; `handle`: the store as it is then. Without `initial`, what it holds
        is taken as known, so that whatever is set after observe() has returned is delivered and nothing else.
        Later calls, after a reconnection, change nothing. A refresh of everything follows in each case."""
        with self._gate:
            if self.closed or self._begun:
                return
            self._begun = True
            if handle is None:
                return
            if self.initial:
                self._kind = "initial"
                return
            self.instance, self._pid, self._live = handle.instance, handle.pid, handle.live
            for key in [self.key] if self.key is not None else handle.reader.directory():
                self._note(key, handle)

    def refresh(self, handle: Handle, slot: int | None) -> None:
        """Delivers what has changed in one slot, or anywhere (None)."""
        with self._gate:
            if not self.closed and self._begun:
                kind, self._kind = self._kind, "setting"
                self._refresh(handle, None if kind == "initial" else slot, kind)

    def _note(self, key: str, handle: Handle) -> None:
        seen = self._seen.setdefault(key, _Seen())
        try:
            found = handle.reader.read(key)
            state, value, seen.version, seen.wall, seen.monotonic = (
                found.state, found.value, found.revision, found.wall_ns, found.monotonic_ns)
        except (CorruptStoreError, ReadContentionError) as error:
            log.error("%r of %r cannot be read: %s", key, self.name, error)
            return
        seen.present = state == "set"
        seen.value = value

    def _refresh(self, handle: Handle, slot: int | None, kind: str) -> None:
        if self.instance != handle.instance:
            if self.instance:
                self._lifecycle("gone")
                self._pid = handle.pid
                self._lifecycle("back")
            self._pid = handle.pid
            self.instance = handle.instance
            slot = None
        elif handle.live:
            self._pid = handle.pid
            self._lifecycle("back")
        if self.key is not None:
            self._refresh_key(self.key, handle, kind)
        elif slot is not None:
            key = handle.reader.key_of(slot)
            old = self._slots.get(slot)
            if old is not None and old != key:
                self._refresh_key(old, handle, kind)
            if key is not None:
                self._slots[slot] = key
                self._refresh_key(key, handle, kind)
        else:
            known = handle.reader.directory()
            self._slots = {number: key for key, number in known.items()}
            for key in [key for key in self._seen if key not in known]:
                self._refresh_key(key, handle, kind)
            for key in sorted(known, key=known.__getitem__):
                self._refresh_key(key, handle, kind)
        if not handle.live:
            self._lifecycle("gone")

    def _lifecycle(self, kind: str) -> None:
        if self._live == (kind == "back"):
            return
        self._live = kind == "back"
        if self.key is None:
            self._call(Change(self.name, None, kind, None, self.last, self.last, 0.0, 0, self._pid))
        else:
            seen = self._seen.setdefault(self.key, _Seen())
            self._call(
                Change(
                    self.name,
                    self.key,
                    kind,
                    seen.value,
                    seen.version,
                    seen.version,
                    seen.wall / 1e9,
                    seen.monotonic,
                    self._pid,
                )
            )

    def _refresh_key(self, key: str, handle: Handle, kind: str) -> None:
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen()
        try:
            found = handle.reader.read(key)
            state, value, version, wall, monotonic = (
                found.state, found.value, found.revision, found.wall_ns, found.monotonic_ns)
        except (CorruptStoreError, ReadContentionError) as error:
            log.error("%r of %r cannot be read: %s", key, self.name, error)
            return
        if state == "absent":
            if not seen.present:
                return
            # Removed, and its slot has gone to another key since: the removal was a later version than the
            # last seen.
            state, version, wall, monotonic = "removed", seen.version + 1, time.time_ns(), time.monotonic_ns()
        if version <= seen.version:
            return
        old, seen.version, seen.wall, seen.monotonic = seen.version, version, wall, monotonic
        was_present, seen.present = seen.present, state == "set"
        seen.value = value if self.key is not None else None
        if state == "set":
            self._call(Change(self.name, key, kind, value, version, old, wall / 1e9, monotonic, handle.pid))
        elif was_present:
            self._call(
                Change(self.name, key, "removal", None, version, old, wall / 1e9, monotonic, handle.pid)
            )

    def _call(self, change: Change) -> None:
        if self.closed:  # a callback may have closed it just now
            return
        try:
            self.callback(change)
        except BaseException:  # not even SystemExit ends the thread that serves everybody else
            log.exception(
                "the callback for %s of %r raised",
                "all keys" if self.key is None else repr(self.key),
                self.name,
            )

    def close(self) -> None:
        """No callback runs after this has returned, unless it is called from that very callback."""
        self.closed = True
        if not self.client.forked:  # else the gate may be held for ever, by a thread that this process never had
            with self._gate:
                pass
        self.group.discard(self)
        self.client.forget(self)


class Token:
    """Ends an observation. Closing is idempotent; a context manager closes on leaving.

    close() called from another thread returns once a running callback has ended; do not hold a lock that the
    callback wants. The observation also ends when its Observer is closed or collected, but not when the token
    is: keep the token only if you want to end the observation on its own.
    """

    def __init__(self, observation: Observation) -> None:
        self._observation = observation

    def close(self) -> None:
        """Ends the observation."""
        self._observation.close()

    @property
    def closed(self) -> bool:
        return self._observation.closed

    @property
    def name(self) -> str:
        """The observable's name; known at once, even if the target was a PID."""
        return self._observation.name

    @property
    def key(self) -> str | None:
        return self._observation.key

    def __enter__(self) -> Token:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<Token for {'all keys' if self.key is None else repr(self.key)} of {self.name!r}, {state}>"
