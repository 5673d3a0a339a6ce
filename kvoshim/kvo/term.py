"""The term of a controller: the fencing token that says which of two is the one.

A controller that begins to serve writes a higher number into the file PATH.term, in the place of its predecessor's. One that was
stopped, and finds another number there when it goes on, has been replaced: it ends without touching anything that is the other's.
A client that finds a higher number than its controller's leaves that controller. The number follows the clock, so that it
rises even if somebody tidies the file away.
"""

from __future__ import annotations

import os
import time

_DIGITS = 32


class Term:
    """Begins a new term; only for who holds the controller's lock. OSError."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        self.number = max(_read(self._fd) + 1, time.time_ns() // 1000)
        os.pwrite(self._fd, b"%-*d\n" % (_DIGITS, self.number), 0)

    def over(self) -> bool:
        """Whether another controller has begun its term."""
        if os.fstat(self._fd).st_nlink:
            return _read(self._fd) != self.number
        return current(self._path) > self.number

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def current(path: str) -> int:
    """The term that the file tells of; 0: none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return _read(fd)
    finally:
        os.close(fd)


def _read(fd: int) -> int:
    try:
        return int(os.pread(fd, _DIGITS + 1, 0))
    except ValueError:
        return 0
