"""How a client goes on when its registry has died: another one is looked for, or becomes it (seat/), and is handed the registrations
with their receipts; requests that were not answered are made again."""

from __future__ import annotations

import logging

from kvoshim.errors import KvoshimError, PrivateRegistryGoneError
from kvoshim.registry import seat, wire
from kvoshim.registry.client.intake import Call
from kvoshim.registry.client.link import Link, LinkLost
from kvoshim.registry.client.registration import Registration

log = logging.getLogger("kvoshim.registry")

_BACKOFF_S = (0.02, 1.0)


class Succession:
    """Part of Client."""

    def _lose(self, error: Exception) -> None:
        link, self.link = self.link, None
        if link is None:
            return
        log.warning("the registry of PID %d is lost: %s", link.pid, error)
        self.driver.lost(link)
        link.close()
        with self._lock:
            if self._mirror is None:  # else it goes on with what it knows
                link.reader.close()

    def search_on(self) -> None:
        """Looks for another registry, however long it takes, and goes on with it."""
        link = self.find_link()
        if link is not None:
            self.adopt_or_close(link)

    def find_link(self) -> Link | None:
        """A connection to another registry; None: there will not be any."""
        pause, said = _BACKOFF_S[0], ""
        while not self._closing.is_set():
            try:
                return Link(seat.race(self.scope))
            except PrivateRegistryGoneError as error:
                self._give_up(error)
                return None
            except (KvoshimError, OSError) as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("no registry yet: %s", error)
            with self._lock:
                if self._mirror is not None:
                    self._tell(self._mirror.bury())
            if self.driver.here():
                self._run_later()
            self._closing.wait(pause)
            pause = min(2 * pause, _BACKOFF_S[1])
        return None

    def _attempt(self) -> None:
        """As search_on(), where somebody waits for an answer."""
        self.search_on()

    def _give_up(self, error: KvoshimError) -> None:
        """The group goes on with what it knows."""
        with self._lock:
            self.gone = error
            calls, self._calls = list(self._calls.values()), {}
        log.warning("%s", error)
        for call in calls:
            if self.driver.here():
                call.done(None, error)
            else:
                self.later(call.done, None, error)

    def adopt_or_close(self, link: Link) -> None:
        if self._closing.is_set() or self.forked or self.link is not None:
            link.close()
            return
        try:
            self._adopt(link)
        except (LinkLost, KvoshimError) as error:
            self._lose(error)
            self.driver.look_for_another()

    def _adopt(self, link: Link) -> None:
        """Goes on with another registry: hands in what this process has, and asks again what was not answered."""
        with self._lock:
            self.link = link
            if self._mirror is not None:
                self._tell(self._mirror.rebase(link.reader, link.settled, link.whole))
            pending = list(self._calls.items())
            former, self._registrations = self._registrations, {}
        self.counts["reconnections"] += 1
        for number, registration in former.items():
            self._restore(link, number, registration)
        link.send(wire.Sync(0))
        for number, call in pending:
            self._transmit(link, number, call)
        if self._searches:
            link.send(wire.Watch(True))
        self.driver.found(link)
        log.info("connected to the registry of PID %d", link.pid)

    def _restore(self, link: Link, former: int, registration: Registration) -> None:
        def done(answer: wire.Registered | None, error: KvoshimError | None) -> None:
            if error is not None:
                registration.fail(error)
                return
            with self._lock:
                self._registrations.pop(former, None)
                if not registration._closed:
                    self._registrations[answer.entry.id] = registration
            registration.confirmed(answer.entry, answer.receipt)

        with self._lock:
            self._number += 1
            number = self._number
            self._registrations[former] = registration
            self._calls[number] = Call(lambda number: None if registration._closed else registration.registering(number), done)
        self._transmit(link, number, self._calls[number])
