"""Other ways for a service to say that it is ready: a newline on a descriptor (as s6 has it), and a check that is asked again and
again until it succeeds. Each is looked at when its descriptor, or its time, says so."""

from __future__ import annotations

import os
import stat
from enum import Enum

import msgspec


class Readiness(Enum):
    WAITING = "waiting"
    READY = "ready"
    GONE = "gone"  # it will never say so: the descriptor is closed


class NewlineReadiness:
    """read_end: of a pipe whose write end is one of the service's descriptors; becomes this object's. Readable: call look()."""

    def __init__(self, read_end: int) -> None:
        self._fd = read_end
        self.result = Readiness.WAITING
        os.set_blocking(read_end, False)

    def fileno(self) -> int:
        return self._fd

    def look(self) -> Readiness:
        """READY from the first newline on; GONE when every process has closed the other end before."""
        while self.result is Readiness.WAITING:
            try:
                data = os.read(self._fd, 4096)
            except (BlockingIOError, InterruptedError):
                break
            if not data:
                self.result = Readiness.GONE
            elif b"\n" in data:
                self.result = Readiness.READY
        return self.result

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def path_is_there(path: str) -> bool:
    """A check by path: a socket counts when somebody has it bound, a file when it is not empty, anything else when it exists."""
    try:
        facts = os.stat(path)
    except OSError:
        return False
    if stat.S_ISSOCK(facts.st_mode):
        return _is_bound(path)
    return not stat.S_ISREG(facts.st_mode) or facts.st_size > 0


def _is_bound(path: str) -> bool:
    real = os.path.realpath(path).encode("utf-8", "surrogateescape")
    names = {real, path.encode("utf-8", "surrogateescape")}
    with open("/proc/net/unix", "rb") as table:
        return any(fields[7] in names for line in table if len(fields := line.rstrip(b"\n").split(None, 7)) == 8)


class Poll(msgspec.Struct, frozen=True):
    """When a check is asked next: a value, with functions to the next one. Times are of one monotonic clock, in seconds.

    every_s: from one answer to the next question. timeout_s: a check that takes longer has failed, and its process is to be killed.
    needed: so many good answers in a row make it ready; after that so many bad ones in a row make it unready again.
    """

    every_s: float = 1.0
    timeout_s: float = 5.0
    needed: int = 1
    tolerated: int = 3
    ready: bool = False
    row: int = 0  # answers in a row that speak for a change
    asked: float | None = None  # since when a check is under way
    next: float = 0.0

    def due(self, now: float) -> bool:
        """Whether it is time to ask."""
        return self.asked is None and now >= self.next

    def overdue(self, now: float) -> bool:
        """Whether the check that is under way has taken too long."""
        return self.asked is not None and now >= self.asked + self.timeout_s

    def wakes(self) -> float:
        """When something is due."""
        return self.next if self.asked is None else self.asked + self.timeout_s

    def ask(self, now: float) -> Poll:
        return msgspec.structs.replace(self, asked=now)

    def answer(self, good: bool, now: float) -> Poll:
        row = self.row + 1 if good is not self.ready else 0
        change = row >= (self.needed if good else self.tolerated)
        return msgspec.structs.replace(
            self, asked=None, next=now + self.every_s, ready=good if change else self.ready, row=0 if change else row
        )
