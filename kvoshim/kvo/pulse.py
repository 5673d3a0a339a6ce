"""Whether a controller is alive, hung, or replaced: from the beat that it keeps in the registration table.

Reading it is a memory read; nobody is asked. A controller counts as hung when its last beat is older than it allows (its
`hung-after-s`), twice in a row: a machine that stood still makes everybody late once. Who looks: for clients with a background
thread one more thread for the whole process, for all others a timer among their descriptors.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from kvoshim.kvo import paths, term

if TYPE_CHECKING:
    from kvoshim._table import Table
    from kvoshim.kvo.client import Client
    from kvoshim.kvo.link import Link

log = logging.getLogger("kvoshim.client")

_LOOKS = 4  # in the time after which a controller counts as hung
_SLOW_S = 60.0  # between looks at a controller that gives no sign: its configuration may change


class Pulse:
    """Of one controller, as long as one connection to it lasts."""

    def __init__(self) -> None:
        self._late_since = 0.0

    def hung(self, table: Table) -> tuple[bool, float]:
        """Whether the controller is hung, and when to look again, in seconds."""
        beat_ns, after_ms = table.beat
        if not after_ms:
            return False, _SLOW_S
        after_ns = min(max(after_ms, 100), 3_600_000) * 1_000_000
        interval = after_ns / 1e9 / _LOOKS
        now = time.monotonic_ns()
        if now - beat_ns <= after_ns:
            self._late_since = 0.0
            return False, interval
        if not self._late_since:
            self._late_since = now / 1e9
        return now / 1e9 - self._late_since >= interval * 0.9, interval


class Watching:
    """Part of Client."""

    hung = False  # the controller gives no sign of life

    def feel_pulse(self, link: Link | None = None) -> float:
        """Looks after the controller; returns when to look again, in seconds. In whatever thread."""
        link = link or self._link
        table = link.table if link is not None else None
        if table is None:
            return 1.0
        hung, again = link.pulse.hung(table)
        if hung != self.hung:
            self.hung = hung
            if hung:
                log.warning("the controller of PID %d at %s is hung", link.controller_pid, self.path)
            else:
                log.warning("the controller of PID %d at %s goes on", link.controller_pid, self.path)
        if hung and term.current(paths.term_path(self.path)) > link.term:
            link.shut()  # there is another one; whoever takes in what the controller says connects to it
        return again


class Watch:
    """A thread that feels the pulse for clients whose own thread sleeps in the connection; ends with the last of them."""

    def __init__(self) -> None:
        self._clients: set[Client] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, client: Client) -> None:
        with self._changed:
            self._clients.add(client)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kvoshim-pulse", daemon=True)
                self._thread.start()
            else:
                self._changed.notify()

    def remove(self, client: Client) -> None:
        with self._changed:
            self._clients.discard(client)
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._clients:
                    self._thread = None
                    return
                clients = list(self._clients)
            again = _SLOW_S
            for client in clients:
                try:
                    again = min(again, client.feel_pulse())
                except Exception:
                    log.exception("the controller could not be looked after")
            del client, clients
            with self._changed:
                if self._clients:
                    self._changed.wait(again)
