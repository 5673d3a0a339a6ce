"""Which registered processes are stopped (SIGSTOP, a debugger).

The kernel tells that to a process's parent alone, so it has to be looked for: in /proc, a few microseconds for each process, as
seldom as the configuration says, and never so often that it takes more than a thousandth of the time.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvoshim.registry.daemon.service import Service

_SHARE = 1000


def stopped(pid: int, start: int) -> bool:
    """Whether this very process is stopped."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:
            fields = stat.read(1024).rpartition(b")")[2].split()
            return fields[0] in (b"T", b"t") and int(fields[19]) == start
    except (OSError, IndexError, ValueError):
        return False


class Suspects:
    """Looks as long as there is anybody to look at."""

    def __init__(self, loop, service: Service, interval: float) -> None:
        self._loop = loop
        self._service = service
        self._interval = interval
        self._marked: set[int] = set()  # by number of the session
        self._timer = None

    def configure(self, interval: float) -> None:
        self._interval = interval
        self.close()
        self.begin()

    def begin(self) -> None:
        """There may be somebody to look at."""
        if self._timer is None and self._interval and len(self._service.catalogue):
            self._timer = self._loop.call_later(self._interval, self._look)

    def _look(self) -> None:
        begun = self._loop.time()
        self._timer = None
        for session in self._holders():
            is_stopped = stopped(session.who.pid, session.who.start)
            if is_stopped != (session.number in self._marked):
                (self._marked.add if is_stopped else self._marked.discard)(session.number)
                self._service.suspect(session, is_stopped)
        self._marked &= self._service.sessions.keys()
        if len(self._service.catalogue) and self._interval:
            delay = max(self._interval, _SHARE * (self._loop.time() - begun))
            self._timer = self._loop.call_later(delay, self._look)

    def _holders(self) -> Iterable:
        return [session for session in self._service.sessions.values() if self._service.catalogue.holds(session.number)]

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
