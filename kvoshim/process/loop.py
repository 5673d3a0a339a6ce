"""The event loop of a daemon: one thread waits for descriptors, timers and signals, and calls back.

Its methods have the names and the meaning that they have in asyncio, so a process that needs asyncio (for a
library written for it) names an asyncio loop as its `loop_factory` and the rest of the daemon does not notice. This
one is for speed: no task, no future, and a sleeper that has a last look before the loop sleeps.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from kvoshim import selectors

log = logging.getLogger("kvoshim.process")


class Handle:
    """A callback that is due. cancel(): it is not called any more."""

    __slots__ = ("_callback", "_args", "_cancelled")

    def __init__(self, callback: Callable, args: tuple) -> None:
        self._callback = callback
        self._args = args
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        self._callback, self._args = None, ()  # what it refers to goes now, not when it would have been due

    def cancelled(self) -> bool:
        return self._cancelled

    def run(self) -> None:
        if self._cancelled:
            return
        try:
            self._callback(*self._args)
        except Exception:  # a bug met by one client must not end the service of all
            log.exception("an event could not be handled")


class Sleeper(Protocol):
    """Work that no descriptor announces, such as memory that others write to."""

    def work(self) -> bool:
        """Called each turn; whether there was anything to do."""

    def arm(self) -> bool:
        """Called before sleep: from here on others ring. False: there is work already, do not sleep."""

    def disarm(self) -> None:
        """Called after sleep."""


class Loop:
    """selector: waits for the descriptors (default: one that knows the rings of kvoshim.socket)."""

    def __init__(self, selector=None) -> None:
        self._selector = selectors.DefaultSelector() if selector is None else selector
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = itertools.count()
        self._callbacks: dict[int, list[Handle | None]] = {}  # descriptor -> [reader, writer]
        self._stopping = False
        self._running = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.sleeper: Sleeper | None = None
        self.add_reader(self._wake, self._woken)

    def time(self) -> float:
        return time.monotonic()

    # --- what to wait for ---------------------------------------------

    def add_reader(self, fd, callback: Callable, *args) -> None:
        self._watch(fd, 0, Handle(callback, args))

    def add_writer(self, fd, callback: Callable, *args) -> None:
        self._watch(fd, 1, Handle(callback, args))

    def remove_reader(self, fd) -> bool:
        return self._watch(fd, 0, None)

    def remove_writer(self, fd) -> bool:
        return self._watch(fd, 1, None)

    def _watch(self, fileobj, which: int, handle: Handle | None) -> bool:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        pair = self._callbacks.setdefault(fd, [None, None])
        before = (pair[0] is not None) | (pair[1] is not None) << 1  # EVENT_READ is 1, EVENT_WRITE 2
        had = pair[which] is not None
        if had:
            pair[which].cancel()
        pair[which] = handle
        after = (pair[0] is not None) | (pair[1] is not None) << 1
        if not after:
            del self._callbacks[fd]
            if before:
                self._selector.unregister(fd)
        elif not before:
            self._selector.register(fd, after, pair)
        elif after != before:
            self._selector.modify(fd, after, pair)
        return had

    def call_soon(self, callback: Callable, *args) -> Handle:
        handle = Handle(callback, args)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(self, callback: Callable, *args) -> Handle:
        handle = self.call_soon(callback, *args)
        os.eventfd_write(self._wake, 1)
        return handle

    def call_later(self, delay: float, callback: Callable, *args) -> Handle:
        return self.call_at(self.time() + delay, callback, *args)

    def call_at(self, when: float, callback: Callable, *args) -> Handle:
        handle = Handle(callback, args)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def _woken(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            pass

    # --- life ---------------------------------------------

    def is_running(self) -> bool:
        return self._running

    def run_forever(self) -> None:
        """Until stop(). What was due then is still called, as in asyncio."""
        self._running = True
        try:
            while True:
                self._turn()
                if self._stopping:
                    return
        finally:
            self._running = self._stopping = False

    def stop(self) -> None:
        self._stopping = True

    def close(self) -> None:
        if self._wake >= 0:
            self.remove_reader(self._wake)
            os.close(self._wake)
            self._wake = -1
            self._selector.close()
            self._ready.clear()
            self._timers.clear()
            self._callbacks.clear()

    def _turn(self) -> None:
        for _ in range(len(self._ready)):
            self._ready.popleft().run()
        sleeper = self.sleeper
        busy = sleeper is not None and sleeper.work()
        timeout = 0.0 if busy or self._ready or self._stopping else self._until_timer()
        if sleeper is None or timeout == 0.0:
            events = self._selector.select(timeout)
        else:
            try:
                events = self._selector.select(timeout if sleeper.arm() else 0.0)
            finally:
                sleeper.disarm()
        for key, mask in events:
            reader, writer = key.data
            if reader is not None and mask & 1:
                reader.run()
            if writer is not None and mask & 2:
                writer.run()
        now = self.time()
        while self._timers and (self._timers[0][0] <= now or self._timers[0][2].cancelled()):
            heapq.heappop(self._timers)[2].run()

    def _until_timer(self) -> float | None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - self.time()) if self._timers else None
