"""Signals as events of the loop.

A signal interrupts a program anywhere; nothing is done there but to take note. The loop is woken through a socket
(signal.set_wakeup_fd), takes the notes in their order, numbers them, and calls the handlers: between two other
events, never amid one. What a handler raises is logged and swallowed.
"""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

log = logging.getLogger("kvoshim.process")


class Event(NamedTuple):
    """One arrival of a signal. sequence: 1 for the first that this process took, and so on."""

    sequence: int
    number: int
    name: str
    time: float


_NOTED_MAX = 32
Handler = Callable[[Event], None]


class SignalQueue:
    """Takes the signals of `handlers` into the loop until close(), which puts back what was before. ValueError outside
    the main thread."""

    def __init__(self, loop, handlers: dict[int, Handler]) -> None:
        self._loop = loop
        self._handlers: dict[int, Handler] = {}
        self._old: dict[int, object] = {}
        self._noted: deque[tuple[int, float]] = deque()
        self._sequence = 0
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        try:
            # A full socket loses bytes, which only wake; the notes themselves are not lost.
            self._old_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        except BaseException:
            self._reader.close()
            self._writer.close()
            raise
        loop.add_reader(self._reader.fileno(), self._dispatch)
        self.add(handlers)

    def add(self, handlers: dict[int, Handler]) -> None:
        """Takes further signals."""
        for number, handler in handlers.items():
            self._handlers[number] = handler
            old = signal.signal(number, self._note)
            self._old.setdefault(number, old)

    def _note(self, number: int, frame) -> None:
        if len(self._noted) >= _NOTED_MAX and any(number == noted for noted, _ in self._noted):
            return  # a flood: one that waits stands for all, as in the kernel
        self._noted.append((number, time.time()))
        self._loop.call_soon_threadsafe(self._dispatch)  # for loops that have a wake-up descriptor of their own

    def _dispatch(self) -> None:
        try:
            self._reader.recv(4096)
        except BlockingIOError:
            pass
        while self._noted:
            number, when = self._noted.popleft()
            self._sequence += 1
            event = Event(self._sequence, number, signal.Signals(number).name, when)
            log.info("signal %d: %s", event.sequence, event.name)
            try:
                self._handlers[number](event)
            except Exception:
                log.exception("signal %d: %s could not be handled", event.sequence, event.name)

    @property
    def count(self) -> int:
        """The signals handled so far."""
        return self._sequence

    def close(self) -> None:
        if self._writer.fileno() < 0:
            return
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        self._loop.remove_reader(self._reader.fileno())
        self._reader.close()
        self._writer.close()
