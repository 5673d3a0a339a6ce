"""Changes to be taken one by one, by whoever wants to: a loop, a coroutine, a program that selects."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from kvoshim.errors import ClosedError, KvoshimError
from kvoshim.kvo.change import VALUED, Change

if TYPE_CHECKING:
    import asyncio

    from kvoshim.kvo.client import Client
    from kvoshim.kvo.token import Token


class Changes:
    """An iterator and asynchronous iterator; ends when it is closed.

    What waits to be taken is bounded: in mode 'latest' a change takes the place of one of the same key that still waits
    and says so (`merged`), in mode 'every' the oldest are dropped at `limit`, and the next of the same key says how many
    (`missed`). Also a context manager.
    """

    token: Token

    def __init__(self, client: Client, limit: int, every: bool) -> None:
        self._client = client
        self._limit = max(1, limit)
        self._every = every
        self._queue: deque[Change] = deque()
        self._pending: dict[object, Change] = {}  # mode latest: by key, in the order of their last changes
        self._missed: dict[str | None, int] = {}
        self._lock = threading.Condition()
        self._descriptor = -1
        self._sleepers: list[tuple[asyncio.AbstractEventLoop, asyncio.Future]] = []
        self._begun = False  # the observation is in force, or was refused
        self._error: KvoshimError | None = None  # why; raised once
        self._closed = False

    def begun(self, error: KvoshimError | None) -> None:
        """The controller has answered."""
        with self._lock:
            self._begun, self._error = True, error
            self._lock.notify_all()
            sleepers, self._sleepers = self._sleepers, []
        for loop, future in sleepers:
            wake(loop, future)

    def _refused(self) -> KvoshimError | None:
        error, self._error = self._error, None
        return error

    def put(self, change: Change) -> None:
        """The observation's callback."""
        with self._lock:
            if self._closed:
                return
            if self._every:
                self._queue.append(change)
                if len(self._queue) > self._limit:
                    lost = self._queue.popleft()
                    if lost.kind in VALUED:
                        self._missed[lost.key] = self._missed.get(lost.key, 0) + lost.missed + 1
            else:
                self._merge(change)
            self._lock.notify()
            if self._descriptor >= 0:
                os.eventfd_write(self._descriptor, 1)
            sleepers, self._sleepers = self._sleepers, []
        for loop, future in sleepers:
            wake(loop, future)

    def _merge(self, change: Change) -> None:
        if change.kind not in VALUED:
            self._pending[object()] = change
            return
        before = self._pending.pop(change.key, None)
        if before is not None:
            initial = before.kind == "initial" and change.kind != "deletion"
            change = msgspec.structs.replace(
                change, merged=change.merged + before.merged + 1, old=before.old,
                kind="initial" if initial else change.kind if change.kind == "deletion" else "setting", indexes=None)
        self._pending[change.key] = change

    def _take(self) -> Change | None:
        with self._lock:
            if self._every:
                change = self._queue.popleft() if self._queue else None
                lost = self._missed.pop(change.key, 0) if change is not None and change.kind in VALUED and self._missed else 0
                if lost:
                    change = msgspec.structs.replace(change, missed=change.missed + lost)
            else:
                change = self._pending.pop(next(iter(self._pending))) if self._pending else None
            if self._descriptor >= 0 and not self._waiting and not self._closed:
                try:
                    os.eventfd_read(self._descriptor)
                except BlockingIOError:
                    pass
            return change

    @property
    def _waiting(self) -> int:
        return len(self._queue) + len(self._pending)

    def get(self, timeout: float | None = None) -> Change:
        """The next change, after waiting for it for at most so many seconds (None: without limit). TimeoutError;
        ClosedError if it is closed and nothing is left."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            change = self._take()
            if change is not None:
                return change
            if (error := self._refused()) is not None:
                raise error
            if self._closed or self.token.closed:
                raise ClosedError("the observation is closed")
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError("there was no change")
            if self._client.driver.here():
                self._client.process(left)
            else:
                with self._lock:
                    if not self._waiting and not self._closed:
                        self._lock.wait(left)

    def fileno(self) -> int:
        """A descriptor that is readable as long as changes wait to be taken; closed with this object. Without a thread of
        ours, Observer.fileno() is the one to wait on."""
        with self._lock:
            if self._closed:
                raise ClosedError("the observation is closed")
            if self._descriptor < 0:
                self._descriptor = os.eventfd(1 if self._waiting else 0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            return self._descriptor

    def __len__(self) -> int:
        """How many wait to be taken."""
        return self._waiting

    def __iter__(self) -> Changes:
        return self

    def __next__(self) -> Change:
        try:
            return self.get()
        except ClosedError:
            raise StopIteration from None

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> Change:
        await self._in_force()
        while True:
            change = self._take()
            if change is not None:
                return change
            with self._lock:
                if self._closed or self.token.closed:
                    raise StopAsyncIteration
                if self._waiting:
                    continue
                future = self._sleeper()
            await future

    async def _in_force(self) -> None:
        """Waits until the controller has answered; what it refuses with ends the iteration."""
        try:
            while not (self._begun or self._closed or self.token.closed):
                with self._lock:
                    if self._begun:
                        break
                    future = self._sleeper()
                await self._client.finish(future, self.token._observation)
        except ClosedError:
            self.close()
        except KvoshimError:
            self.close()
            raise
        if (error := self._refused()) is not None:
            raise error

    def _sleeper(self) -> asyncio.Future:
        """Is done when there is news. The lock is held."""
        from asyncio import get_running_loop

        loop = get_running_loop()
        future = loop.create_future()
        self._sleepers.append((loop, future))
        return future

    def close(self) -> None:
        """Ends the observation; idempotent. What waits can still be taken."""
        self.token.close()
        if self._client.forked:  # the lock may be held for ever, by a thread that this process never had
            self._closed = True
            return
        with self._lock:
            self._closed = True
            self._lock.notify_all()
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            sleepers, self._sleepers = self._sleepers, []
        for loop, future in sleepers:
            wake(loop, future)

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Changes:
        await self._in_force()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()


def wake(loop: asyncio.AbstractEventLoop, future: asyncio.Future) -> None:
    """Sets a future's result, from whatever thread."""
    try:
        loop.call_soon_threadsafe(lambda: future.done() or future.set_result(None))
    except RuntimeError:  # the loop is closed, and nobody waits any more
        pass
