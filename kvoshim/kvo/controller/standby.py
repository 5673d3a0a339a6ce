"""A controller in waiting: takes the active one's place when that dies, or, if its configuration says so, when that is hung.

Whoever holds the lock PATH.lock is the active one. Its death lets go of the lock; a hung one keeps it, so its file is replaced,
and a new term begins: that keeps the old one from doing harm should it go on (kvo/term.py). Clients come by themselves, as
after a restart.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from kvoshim import process
from kvoshim.errors import KvoshimError
from kvoshim.kvo import paths
from kvoshim.kvo.link import Link
from kvoshim.process.launch import AlreadyRunningError
from kvoshim.process.pidfile import PidFile

log = logging.getLogger("kvoshim.controller")

_RETRY_S = 0.05  # while the lock is held by nobody that could be found


class StandbySettings(process.Section, frozen=True, kw_only=True):
    """takes_over_hung: also from a controller that lives and gives no sign of life."""

    takes_over_hung: bool = False


class Standby:
    """settings: the controller's. take_over(lock) is called once, with the PID file of the active controller."""

    def __init__(self, loop, path: str, settings, take_over: Callable[[PidFile], None]) -> None:
        self.path = path
        self.settings = settings
        self.active = 0  # PID of the controller that is waited for
        self.hung = False
        self._loop = loop
        self._take_over = take_over
        self._pidfd = -1
        self._link: Link | None = None
        self._unreachable = 0.0  # since when
        self._timer = loop.call_soon(self.look)

    def status(self) -> dict:
        return {"active": self.active, "connected": self._link is not None, "hung": self.hung}

    def look(self) -> None:
        """Takes over if nobody is active, else sees to it that it is noticed when that changes."""
        self._timer.cancel()
        self._forget()
        try:
            lock = PidFile(paths.life_lock(self.path), "the controller")
        except AlreadyRunningError:
            self._watch()
            return
        log.warning("no controller is active%s: taking over", f" since that of PID {self.active} has ended" if self.active else "")
        self._take_over(lock)

    def _watch(self) -> None:
        try:
            with open(paths.life_lock(self.path)) as file:
                self.active = int(file.read())
            self._pidfd = os.pidfd_open(self.active)
        except (OSError, ValueError):  # just starting, or just gone
            self._timer = self._loop.call_later(_RETRY_S, self.look)
            return
        self._loop.add_reader(self._pidfd, self.look)
        log.info("standing by for the controller of PID %d", self.active)
        self._timer = self._loop.call_later(_RETRY_S, self._feel)

    def _feel(self) -> None:
        """Feels the active controller's pulse."""
        try:
            if self._link is None:
                self._link = Link(self.path)
            if self._link.controller_pid != self.active:  # another one already
                self.look()
                return
            hung, again = self._link.pulse.hung(self._link.table)
            self._unreachable = 0.0
        except KvoshimError as error:
            log.info("the controller of PID %d cannot be reached: %s", self.active, error)
            self._unreachable = self._unreachable or time.monotonic()
            after = self.settings.hung_after_s
            hung, again = bool(after) and time.monotonic() - self._unreachable > after, 1.0
        if hung and not self.hung:
            log.warning("the controller of PID %d is hung", self.active)
        self.hung = hung
        if hung and self.settings.standby.takes_over_hung:
            log.warning("taking over from the hung controller of PID %d", self.active)
            try:
                os.unlink(paths.life_lock(self.path))  # its lock is on what has no name from now on
            except FileNotFoundError:
                pass
            self.look()
            return
        self._timer = self._loop.call_later(again, self._feel)

    def _forget(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._link is not None:
            self._link.close()
            self._link = None

    def close(self) -> None:
        self._timer.cancel()
        self._forget()
