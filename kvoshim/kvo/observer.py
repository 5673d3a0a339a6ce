"""Observer: the side that reads values and is told of their changes."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from kvoshim._values import check_key, check_name
from kvoshim.errors import ClosedError, InvalidNameError
from kvoshim.kvo.client import Client, Handle
from kvoshim.kvo.observation import Change, Observation, Token

_RAISE = object()


class Observer:
    """Reads and observes the values that observables publish.

    A target is an observable's name, or the PID of a process that has exactly one. controller, autostart: as
    for Observable. All callbacks of a process run on one background thread, one after the other.

    Raises ControllerUnavailableError.
    """

    def __init__(self, *, controller: str | os.PathLike[str] | None = None, autostart: bool = True) -> None:
        self._client = Client.acquire(controller, autostart)
        self._handles = self._client.handles
        self._observations: set[Observation] = set()
        self._finalizer = weakref.finalize(self, _release_elsewhere, self._client, self._observations)
        self._finalizer.atexit = False

    def get(self, target: str | int, key: str, default: Any = _RAISE) -> Any:
        """The value of a key now, read from shared memory; the controller is asked at the first contact only.

        UnknownNameError, AmbiguousTargetError, InvalidKeyError; UnknownKeyError if the key has no value and
        no default is given. The values of an observable that has ended stay readable.
        """
        try:
            reader = self._handles[target].reader
        except (KeyError, TypeError):
            reader = self._open(target).reader
        return reader.get(key) if default is _RAISE else reader.get(key, default)

    def keys(self, target: str | int) -> list[str]:
        """The keys of an observable that have a value. UnknownNameError, AmbiguousTargetError."""
        return self._open(target).reader.keys()

    def version(self, target: str | int, key: str) -> int:
        """The version of a key: rises with each write; 0 if it was never set. UnknownNameError."""
        return self._open(target).reader.revision(key)

    def alive(self, target: str | int) -> bool:
        """Whether the observable is open and its process lives. UnknownNameError if it is not known at
        all."""
        handle = self._open(target)
        return handle.live and not handle.owner_ended()

    def _open(self, target: str | int) -> Handle:
        if self.closed:
            raise ClosedError("the observer is closed")
        self._client.check()
        _check_target(target)
        handle = self._handles.get(target)
        return self._client.open(target) if handle is None else handle

    def observe(
        self,
        target: str | int,
        key: str | None,
        callback: Callable[[Change], object],
        *,
        initial: bool = True,
        wait: bool = True,
    ) -> Token:
        """Calls callback(change) for every change of a key (None: of all keys, present and to come).

        Changes that follow each other quickly may be merged: the newest value is always delivered, versions
        rise strictly. initial: the value that is there already is delivered first, as a change of kind
        'initial'. wait: a name that nobody has published yet is waited for (a PID is not); otherwise it is an
        UnknownNameError.

        Returns a token whose close() ends the observation; it also ends with this observer. An exception in a
        callback is logged and goes no further. InvalidKeyError, UnknownNameError, AmbiguousTargetError,
        LimitError.
        """
        if self.closed:
            raise ClosedError("the observer is closed")
        self._client.check()
        _check_target(target)
        if key is not None:
            check_key(key)
        if not callable(callback):
            raise TypeError(f"the callback {callback!r} cannot be called")
        observation = self._client.observe(
            lambda number: Observation(
                self._client, self._observations, number, target, key, callback, initial, wait
            )
        )
        if not observation.closed:  # by its first callback
            self._observations.add(observation)
        return Token(observation)

    def observables(self) -> list[dict]:
        """All observables that the controller knows: name, pid (0: awaited only), live, program, observers
        (pid, key, since)."""
        if self.closed:
            raise ClosedError("the observer is closed")
        return [
            {
                "name": row.name,
                "pid": row.pid,
                "live": row.live,
                "program": row.program,
                "observers": [{"pid": one.pid, "key": one.key, "since": one.since} for one in row.observers],
            }
            for row in self._client.rows()
        ]

    @property
    def connected(self) -> bool:
        """Whether there is a controller now; values known before can be read in either case."""
        return not self.closed and not self._client.lost.is_set()

    def close(self) -> None:
        """Ends all observations of this observer; idempotent. As with a token, no callback runs
        afterwards."""
        if self._finalizer.detach() is not None:
            self._handles = {}
            _release(self._client, self._observations)

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _check_target(target: object) -> None:
    if isinstance(target, bool) or not isinstance(target, (str, int)):
        raise InvalidNameError(
            f"a target is the name of an observable or a PID, not a {type(target).__qualname__}"
        )
    if isinstance(target, str):
        check_name(target)
    elif not 0 < target < 1 << 31:
        raise InvalidNameError(f"{target} is no PID")


def _release(client: Client, observations: set[Observation]) -> None:
    for observation in list(observations):
        observation.close()
    client.release()


def _release_elsewhere(client: Client, observations: set[Observation]) -> None:
    """For an Observer that was collected: a finalizer may run in the middle of anything."""
    try:
        client.check()
        threading.Thread(target=_release, args=(client, observations), daemon=True).start()
    except RuntimeError:  # a forked child, or the interpreter is going down
        pass
