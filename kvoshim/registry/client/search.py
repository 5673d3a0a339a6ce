"""A continuous search: what is there, an end marker, then what changes."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvoshim.errors import ClosedError
from kvoshim.registry.client.mirror import Event
from kvoshim.registry.entry import Pattern

if TYPE_CHECKING:
    from kvoshim.registry.client.client import Client

log = logging.getLogger("kvoshim.registry")

END = Event("end")


class Search:
    """An iterator and asynchronous iterator of Event that ends when it is closed; also a context manager. With a callback, that
    is called with each event, where the client takes in, and there is nothing to iterate over.

    What waits to be taken is bounded: of one entry at most one event waits, a newer one takes its place.
    """

    def __init__(self, client: Client, pattern: Pattern, callback: Callable[[Event], object] | None) -> None:
        self.pattern = pattern
        self.callback = callback
        self._client = client
        self._pending: dict[int, Event] = {}  # by entry; the end marker is number 0
        self._lock = threading.Condition()
        self._closed = False
        self._descriptor = -1
        self._sleepers: list[tuple[asyncio.AbstractEventLoop, asyncio.Future]] = []

    def __repr__(self) -> str:
        return f"<Search for {self.pattern.text!r}{', closed' if self._closed else ''}>"

    # --- from the client ---------------------------------------------

    def begin(self, present: list) -> None:
        self._pending.update((entry.id, Event("present", entry)) for entry in present)
        self._pending[0] = END

    def take(self, events: list[Event]) -> None:
        """Those that are about what it searches for wait from now on."""
        mine = [event for event in events if self.pattern.matches(event.entry.name)]
        if not mine:
            return
        with self._lock:
            for event in mine:
                self._merge(event)
            self._wake()

    def _merge(self, event: Event) -> None:
        number = event.entry.id
        waiting = self._pending.pop(number, None)
        if waiting is None:
            self._pending[number] = event
        elif event.kind == "changed":
            if waiting.kind == "present":
                self._pending = {number: Event("present", event.entry), **self._pending}  # still before the end marker
            else:
                self._pending[number] = Event(waiting.kind, event.entry, waiting.before)
        elif waiting.kind == "changed":  # and removed now
            self._pending[number] = event
        elif waiting.kind == "removed":  # and there again
            self._pending[number] = Event("changed", event.entry, waiting.entry)

    def _wake(self) -> None:
        self._lock.notify_all()
        if self._descriptor >= 0:
            os.eventfd_write(self._descriptor, 1)
        sleepers, self._sleepers = self._sleepers, []
        for loop, future in sleepers:
            try:
                loop.call_soon_threadsafe(_finish, future)
            except RuntimeError:  # the loop was closed
                pass

    def deliver(self) -> None:
        """Calls the callback with what waits; only where the client takes in."""
        while not self._closed and (event := self._pop()) is not None:
            try:
                self.callback(event)
            except Exception:
                log.exception("the callback of a search for %r failed", self.pattern.text)

    # --- for whoever searches ---------------------------------------------

    def _pop(self) -> Event | None:
        with self._lock:
            for number in self._pending:
                return self._pending.pop(number)
            if self._descriptor >= 0:
                try:
                    os.eventfd_read(self._descriptor)
                except BlockingIOError:
                    pass
            return None

    def get(self, timeout: float | None = None) -> Event:
        """The next event. TimeoutError; ClosedError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._check()
            if (event := self._pop()) is not None:
                return event
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(f"nothing has changed among {self.pattern.text!r} within {timeout:g} s")
            if self._client.takes_in_here():
                self._client.take_in(left)
                continue
            with self._lock:
                if not self._pending and not self._closed:
                    self._lock.wait(left)

    def _check(self) -> None:
        self._client.check()
        if self._closed:
            raise ClosedError("the search is closed")

    def __iter__(self) -> Search:
        return self

    def __next__(self) -> Event:
        try:
            return self.get()
        except ClosedError:
            raise StopIteration from None

    def __aiter__(self) -> Search:
        return self

    async def __anext__(self) -> Event:
        while True:
            if self._closed:
                raise StopAsyncIteration
            if (event := self._pop()) is not None:
                return event
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            with self._lock:
                if self._pending or self._closed:
                    continue
                self._sleepers.append((loop, future))
            await future

    def fileno(self) -> int:
        """A descriptor that is readable while events wait; get(0) takes them, until TimeoutError."""
        with self._lock:
            if self._descriptor < 0 and not self._closed:
                self._descriptor = os.eventfd(1 if self._pending else 0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            return self._descriptor

    def close(self) -> None:
        """Ends the search; whoever waits for it wakes."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._pending.clear()
            self._wake()
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
        self._client.end_search(self)

    def __enter__(self) -> Search:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _finish(future: asyncio.Future) -> None:
    if not future.done():
        future.set_result(None)
