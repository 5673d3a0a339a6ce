"""Observer: the side that reads values and is told of their changes."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from kvoshim._values import check_name
from kvoshim.errors import ClosedError, InvalidNameError, KvoshimError, UnknownNameError
from kvoshim.kvo.change import Change, Options
from kvoshim.kvo.changes import Changes, wake
from kvoshim.kvo.client import Client, running_loop
from kvoshim.kvo.elsewhere import Elsewhere, is_entry
from kvoshim.kvo.every import Every
from kvoshim.kvo.handle import Handle
from kvoshim.kvo.keys import Selector
from kvoshim.kvo.observation import Observation
from kvoshim.kvo.token import Token
from kvoshim.kvo.waiting import wait_for

_RAISE = object()
_MODES = {"latest": Observation, "every": Every}
_DELIVERIES = {"controller": 0, "auto": 1, "direct": 2}


class Observer(Elsewhere):
    """Reads and observes the values that observables publish.

    A target is an observable's name, or the PID of a process that has exactly one, or what the registry has found: an Entry. A name
    that the controller does not know is looked for in the registry: an observable at another controller that is seen from here (a
    semi-private group sees its user's), or the process that is registered under that name. controller, autostart: as for Observable.

    thread: where changes are taken in and callbacks run. True: on one background thread for the whole process. None (the
    default): on the asyncio event loop (uvloop's as well) that is running where this object is made, without a thread; on
    the background thread if none is. False: the same, but without a running loop nowhere: wait until `fileno()` is
    readable, then call `process()`. Such an object is used in the thread that has made it.

    Raises ControllerUnavailableError.
    """

    def __init__(
        self, *, controller: str | os.PathLike[str] | None = None, autostart: bool = True, thread: bool | None = None
    ) -> None:
        self._client = Client.acquire(controller, autostart, thread)
        self._handles = self._client.handles
        self._thread = thread
        self._others: dict[str, Observer] = {}  # at other controllers, by path
        self._found: dict[str, tuple[Observer, str | int]] = {}  # what this controller does not know, and the registry does
        self._observations: set[Observation] = set()
        self._finalizer = weakref.finalize(self, _release_elsewhere, self._client, self._observations, self._others)
        self._finalizer.atexit = False

    # --- reading ---------------------------------------------

    def get(self, target: str | int, key: str, default: Any = _RAISE) -> Any:
        """The value of a key now, read from shared memory; the controller is asked at the first contact only.

        UnknownNameError, AmbiguousTargetError, InvalidKeyError, CorruptStoreError; UnknownKeyError if the key has no
        value and no default is given. The values of an observable that has ended stay readable.
        """
        try:
            reader = self._handles[target].reader
        except (KeyError, TypeError):
            reader = self._open(target).reader
        return reader.get(key) if default is _RAISE else reader.get(key, default)

    def snapshot(self, target: str | int, pattern: str | None = None) -> dict[str, Any]:
        """The values of all keys (that match), as of one moment: no transaction is seen in part. What cannot be read is
        left out; get() says why."""
        reader = self._open(target).reader
        selector = Selector(pattern)
        found = reader.newer(0, selector.which)[1]
        return {one.key: one.value for one in found if one.state == "set" and (selector.path or one.key) == one.key}

    def view(self, target: str | int, key: str):
        """A NumPy array or bytes where they lie in shared memory, without a copy: `with observer.view(…) as array:`. If
        the owner has written the key twice meanwhile, the end of the block raises ExpiredViewError."""
        return self._open(target).reader.view(key)

    def keys(self, target: str | int) -> list[str]:
        """The keys of an observable that have a value. UnknownNameError, AmbiguousTargetError."""
        return self._open(target).reader.keys()

    def revision(self, target: str | int, key: str | None = None) -> int:
        """The revision of the last change: of a key (0: it was never set), or of all."""
        return self._open(target).reader.revision(key)

    def alive(self, target: str | int) -> bool:
        """Whether the observable is open and its process lives. UnknownNameError if it is not known at
        all."""
        handle = self._open(target)
        return handle.live and not handle.owner_ended()

    def _open(self, target: str | int) -> Handle:
        self._check(target)
        where, target = self._whereabouts(target)
        if where is not self:
            return where._open(target)
        handle = self._handles.get(target)
        if handle is not None:
            return handle
        try:
            return self._client.open(target)
        except UnknownNameError:
            found = self._look_elsewhere(target)
            if found is None:
                raise
            handle = found[0]._open(found[1])
            self._found[target] = found
            return handle

    def _check(self, target: str | int) -> None:
        if self.closed:
            raise ClosedError("the observer is closed")
        self._client.check()
        _check_target(target)

    # --- observing ---------------------------------------------

    def observe(
        self,
        target: str | int,
        key: str | None,
        callback: Callable[[Change], object],
        *,
        options: Options | str | Iterable[str] | None = None,
        mode: str = "latest",
        delivery: str = "auto",
        since: int | None = None,
        own: bool = True,
        weak: bool = False,
        wait: bool = True,
    ) -> Token:
        """Calls callback(change) for every change of a key, of the keys that a pattern matches ('engine.*', 'engine.**'),
        of what lies at a path in a value ('engine.oil.temperature'), or of all keys (None). See keys.py, change.py.

        options: what is to be told, 'new|initial' by default. mode: 'latest' merges changes that follow each other
        quickly (the newest value is always delivered), 'every' delivers each as long as the store's journal has it, and
        says how many it has lost. since: only what follows this revision (Token.revision, Change.revision) of an earlier
        observation. own: False: not what this process publishes itself. weak: a bound method (or function) does not keep
        its object alive, the observation ends with it. wait: a name that nobody has published yet is waited for (a PID is
        not); otherwise it is an UnknownNameError. delivery: 'auto': the observable rings this process itself where
        that can be, else the controller tells; 'controller': always the controller; 'direct': as 'auto', but a DeliveryError
        where the controller's policy or this process rules it out. Token.delivery says which way it is.

        Returns a token whose close() ends the observation; it also ends with this observer. An exception in a
        callback is logged and goes no further. InvalidKeyError, UnknownNameError, AmbiguousTargetError,
        LimitError.
        """
        self._check(target)
        where, there = self._whereabouts(target, self._looks(wait))
        if where is not self or there is not target:
            return where.observe(
                there, key, callback, options=options, mode=mode, delivery=delivery, since=since, own=own, weak=weak, wait=wait
            )
        observation = self._observation(
            target, key, callback, options=options, mode=mode, delivery=delivery, since=since, own=own, weak=weak, wait=wait
        )
        self._client.observe(observation)
        return self._token(observation)

    async def observe_async(self, target: str | int, key: str | None, callback: Callable[[Change], object], **how: Any) -> Token:
        """As observe(), for a coroutine: the event loop goes on while the controller answers."""
        import asyncio

        self._check(target)
        where, there = self._whereabouts(target, self._looks(how.get("wait", True)))
        if where is not self or there is not target:
            return await where.observe_async(there, key, callback, **how)
        observation = self._observation(target, key, callback, **how)
        if not self._client.driver.attended:
            self._client.observe(observation)
            return self._token(observation)
        loop = asyncio.get_running_loop()
        future, errors = loop.create_future(), []

        def finished(error: KvoshimError | None) -> None:
            errors.append(error)
            wake(loop, future)

        token = self._token(observation)
        try:
            self._client.observe_soon(observation, finished)
            await self._client.finish(future, observation)
            if errors[0] is not None:
                raise errors[0]
        except BaseException:
            observation.close()
            raise
        return token

    def _token(self, observation: Observation) -> Token:
        if not observation.closed:  # by its first callback
            self._observations.add(observation)
        return Token(observation)

    def _observation(
        self, target: str | int, key: str | None, callback: Callable[[Change], object], *, options=None, mode="latest",
        delivery="auto", since=None, own=True, weak=False, wait=True,
    ) -> Observation:  # fmt: skip
        """What observe() is asked for, checked."""
        self._check(target)
        selector = Selector(key)
        if not callable(callback):
            raise TypeError(f"the callback {callback!r} cannot be called")
        if mode not in _MODES:
            raise ValueError(f"a mode is one of {', '.join(_MODES)}, not {mode!r}")
        if delivery not in _DELIVERIES:
            raise ValueError(f"a delivery is one of {', '.join(_DELIVERIES)}, not {delivery!r}")
        if since is not None and (not isinstance(since, int) or isinstance(since, bool) or since < 0):
            raise ValueError(f"since is a revision, not {since!r}")
        if weak:
            callback = _weak(callback)
        observation = _MODES[mode](
            self._client, self._observations, target, selector, callback, Options.of(options), since, own, wait
        )
        observation.direct = _DELIVERIES[delivery]
        return observation

    def changes(self, target: str | int, key: str | None = None, *, limit: int = 65536, **how: Any) -> Changes:
        """The changes that observe() would tell of, to be taken one by one: `for change in …`, `async for change in …`,
        get(timeout), or a descriptor for select. limit: how many wait at most to be taken in mode 'every'; beyond them the
        oldest are dropped and counted as missed. Otherwise as observe(). Where an event loop runs, this does not wait for the
        controller: `async with`, `async for` and get() do, and raise its errors."""
        self._check(target)
        where, there = self._whereabouts(target, self._looks(how.get("wait", True)))
        if where is not self or there is not target:
            return where.changes(there, key, limit=limit, **how)
        changes = Changes(self._client, limit, how.get("mode", "latest") == "every")
        observation = self._observation(target, key, changes.put, **how)
        if running_loop() is not None and self._client.driver.attended:
            changes.token = self._token(observation)
            self._client.observe_soon(observation, changes.begun)
        else:
            self._client.observe(observation)
            changes.token = self._token(observation)
            changes.begun(None)
        return changes

    def wait_for(
        self, target: str | int, key: str, predicate: Callable[[Any], object] | None = None, timeout: float | None = None
    ) -> Any:
        """Waits until predicate(value of the key) is true (None: until it has a value) and returns that value.
        TimeoutError after `timeout` seconds. Values that are replaced quickly may be skipped. In an event loop's thread use
        `await observer.wait_for_async(…)`."""
        return wait_for(self, target, key, predicate, timeout)

    async def wait_for_async(
        self, target: str | int, key: str, predicate: Callable[[Any], object] | None = None, timeout: float | None = None
    ) -> Any:
        """As wait_for(), for a coroutine."""
        import asyncio

        async with asyncio.timeout(timeout), self.changes(target, key) as changes:
            async for change in changes:
                if change.kind in ("initial", "setting") and (predicate is None or predicate(change.new)):
                    return change.new
        raise ClosedError("the observer was closed")

    # --- without a thread ---------------------------------------------

    def fileno(self) -> int:
        """(thread=False) A descriptor that is readable when process() has something to do; the same as long as the
        observer is open."""
        self._client.check()
        return self._client.driver.fileno()

    def process(self, timeout: float | None = 0) -> None:
        """(thread=False) Takes in what has come and runs callbacks, after waiting for it for at most so many seconds
        (None: without limit)."""
        if self.closed:
            raise ClosedError("the observer is closed")
        self._client.process(timeout)

    # --- the rest ---------------------------------------------

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
            _release(self._client, self._observations, self._others)

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _check_target(target: object) -> None:
    if is_entry(target):
        return
    if isinstance(target, bool) or not isinstance(target, (str, int)):
        raise InvalidNameError(
            f"a target is the name of an observable, a PID or an entry of the registry, not a {type(target).__qualname__}"
        )
    if isinstance(target, str):
        check_name(target)
    elif not 0 < target < 1 << 31:
        raise InvalidNameError(f"{target} is no PID")


def _weak(callback: Callable[[Change], object]) -> Any:
    try:
        return weakref.WeakMethod(callback)
    except TypeError:
        return weakref.ref(callback)


def _release(client: Client, observations: set[Observation], others: dict[str, Observer]) -> None:
    for observation in list(observations):
        observation.close()
    for other in list(others.values()):
        other.close()
    client.release()


def _release_elsewhere(client: Client, observations: set[Observation], others: dict[str, Observer]) -> None:
    """For an Observer that was collected: a finalizer may run in the middle of anything."""
    try:
        client.check()
        threading.Thread(target=_release, args=(client, observations, others), daemon=True).start()
    except (RuntimeError, KvoshimError):  # a forked child, or the interpreter is going down
        pass
