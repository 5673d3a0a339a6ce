"""How a client loses its controller and finds one again: it hands in the stores and registrations that the process has,
and versions are compared, so that nothing that was set meanwhile is missed."""

from __future__ import annotations

import logging
import time

from kvoshim.errors import AccessDeniedError, KvoshimError
from kvoshim.kvo import launch, wire
from kvoshim.kvo.direct import BROKEN, STORES
from kvoshim.kvo.link import Link, LinkLost

log = logging.getLogger("kvoshim.client")

_BACKOFF_S = (0.02, 1.0)  # first and longest pause between attempts to reconnect
_SLICE_S = 0.1  # of a pause, in which the end of the client is noticed
_SUSPECT_S = 1.0  # between looks at the owners of stores of which a new controller does not know


class Reconnecting:
    """Part of Client."""

    _said = ""  # the reason that was logged last

    def _lose(self, error: Exception) -> None:
        """There is no connection any more."""
        log.warning("the controller at %s is lost: %s", self.path, error)
        self.lost.set()
        with self._lock:
            link, self._link = self._link, None
        self.hung = False
        self.driver.lost()
        if link is not None:
            link.close()
        self.bells.clear()
        self._suspects.update(handle for handle in self.handles.values() if handle.live)
        self._pause = _BACKOFF_S[0]

    def _attempt(self) -> bool:
        """Tries to connect and to hand in what this process has."""
        try:
            link = launch.connect(self.path, self.autostart, self.registry)
            link.counted = self.tally.totals()
            try:
                self._hand_in(link)
            except BaseException:
                link.close()
                raise
        except (KvoshimError, LinkLost) as error:
            if isinstance(error, AccessDeniedError):
                self._deny_all(error)
            if str(error) != self._said:
                self._said = str(error)
                log.warning("no connection yet: %s", error)
            return False
        with self._lock:
            self._link = link
            calls = [(number, call) for number, call in self._calls.items() if not call.answered.is_set()]
        self._said = ""
        self.lost.clear()
        self.driver.found(link)
        log.info("connected to the controller of PID %d", link.controller_pid)
        try:
            for number, call in calls:
                self._transmit(link, number, call)
        except LinkLost:
            pass  # noticed again by the next receive(), with the calls still there
        return True

    def _reconnect(self, error: Exception, deadline: float = 0.0, dispatch: bool = False) -> None:
        """Connects again, however long it takes; gives up only at the deadline, or when closed."""
        self._lose(error)
        while not self.closing:
            if self._attempt():
                if dispatch:
                    self._dispatch()
                if self._suspects:
                    self._examine_later()
                return
            self._examine_suspects()
            if dispatch:
                self._dispatch()
            if deadline and time.monotonic() > deadline:
                return
            self._rest(self._pause, dispatch)
            self._pause = min(2 * self._pause, _BACKOFF_S[1])

    def _rest(self, seconds: float, dispatch: bool) -> None:
        """Waits before the next attempt. Observables go on ringing, whoever the controller was."""
        direct, deadline = self.direct, time.monotonic() + seconds
        if not dispatch or direct.sleeper is None:
            self._closing.wait(seconds)
            return
        while not self.closing and (left := deadline - time.monotonic()) > 0:
            found = direct.sleeper.wait(direct.renew().stores, -1, min(left, _SLICE_S), 0)
            if found & STORES:
                direct.look()
                self._dispatch()
            if found & BROKEN:
                direct.deaf()

    def _try_again(self) -> None:
        """One attempt to connect; sets the timer for the next one."""
        if self.closing:
            return
        if self._attempt():
            if self._suspects:
                self._examine_later()
            return
        self._examine_suspects()
        self.driver.ring_in(self._pause)
        self._pause = min(2 * self._pause, _BACKOFF_S[1])

    def _hand_in(self, link: Link) -> None:
        self.direct.lost()
        if self.direct.sleeper is not None:
            self.direct.begin(link)
        for publication in list(self.publications.values()):
            try:
                publication.hand_in(link)
            except AccessDeniedError as error:
                publication.deny(error)
            except KvoshimError as error:
                log.error("%r can no longer be published: %s", publication.name, error)
        covered = set()
        for observation in dict.fromkeys(list(self.observations.values())):
            covered.add(observation.name)
            try:
                self._register(observation, link)
            except AccessDeniedError as error:
                self._deny(observation.name, False, error)
            except KvoshimError as error:
                log.error("%r of %r can no longer be observed: %s", observation.selector.given, observation.name, error)
        for name in {handle.name for handle in self.handles.values()} - covered:
            try:
                self.request(lambda number, name=name: wire.Open(number, name, True), link=link)
            except AccessDeniedError as error:
                self._deny(name, False, error)
            except KvoshimError:
                pass  # its values stay readable here; the controller tells if the name is published again

    def _deny_all(self, error: AccessDeniedError) -> None:
        """The controller does not admit this user at all any more."""
        for name in list(self.publications):
            self._deny(name, True, error)
        known = [*self.observations.values(), *self.handles.values()]
        for name in {one.name for one in known}:
            self._deny(name, False, error)

    def _examine_suspects(self) -> None:
        """Looks after the owners of stores of which no controller knows at the moment."""
        for handle in list(self._suspects):
            if handle.owner_ended():
                self._suspects.discard(handle)
                handle.end()
                self._refresh_later(handle.name)

    def _examine_later(self) -> None:
        self.driver.ring_in(_SUSPECT_S)

    def on_timer(self) -> None:
        """For a driver that waits for the controller only: lets it answer something, so that suspects are examined."""
        if self._suspects and not self.closing:
            self.post(wire.Ping(0))
            self._examine_later()



