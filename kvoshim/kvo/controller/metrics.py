"""The controller's figures: what it counts itself, what its clients report, what it measures when somebody looks.

    registrations, registrations-made     now; ever
    patterns-unsifted                     of patterns, in stores of so many keys that they are rung for all
    changes                               revisions of all observables, whoever was told of them
    notifications                         sent by the controller
    deliveries, coalesced, missed         by the clients: callbacks called, changes merged into others, changes lost
    latency-us-…                          from set() to the return of the callback: a sample for each look that delivers
    store-bytes, memory-bytes             memory that the stores take; the controller's own
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from kvoshim.kvo import wire
from kvoshim.kvo.tally import BUCKETS, Totals

if TYPE_CHECKING:
    from kvoshim.kvo.controller.catalog import Catalog
    from kvoshim.kvo.controller.entries import Store
    from kvoshim.kvo.controller.session import Session
    from kvoshim.process.statistics import Statistics

ASK_S = 1.0  # between questions to the clients, while anything changes
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Counts:
    """Part of the catalog."""

    def __init__(self) -> None:
        self.registered = 0
        self.notified = 0
        self.totals = Totals()
        self._ended = 0  # changes of stores that are no longer there

    def reported(self, session: Session, message: wire.Report) -> bool:
        """Takes in a client's report; False if it is none."""
        good = self.totals.take(session.reported, message.counts)
        if good:
            session.reported = message.counts
        return good

    def dropped(self, store: Store) -> None:
        self._ended += changes_of(store)

    def changes(self, stores: dict[str, Store]) -> int:
        return self._ended + sum(changes_of(store) for store in stores.values())


def changes_of(store: Store) -> int:
    return max(0, store.monitor.highest() - store.base)


class Metrics:
    """Puts the figures under their names, and keeps asking the clients for theirs while there is news."""

    def __init__(self, statistics: Statistics, catalog: Catalog, sessions: dict[int, Session]) -> None:
        self.catalog = catalog
        self._sessions = sessions
        self._asked = 0.0
        self._asked_at = -1  # changes
        counts = catalog.counts
        totals = counts.totals
        self.gauges = {
            "clients": (lambda: len(sessions), "Connected clients."),
            "observables": (lambda: len(catalog.stores), "Observables, live or ended and kept."),
            "registrations": (lambda: sum(len(session.registrations) for session in sessions.values()), "Observations in force."),
            "patterns-unsifted": (lambda: catalog.links.unsifted, "Observations of patterns rung for all keys of a large store."),
            "store-bytes": (lambda: sum(_bytes_of(store.fd) for store in catalog.stores.values()), "Memory that the stores take."),
            "memory-bytes": (_resident, "The controller's own memory."),
        }
        self.counters = {
            "registrations-made": (lambda: counts.registered, "Observations that were ever begun."),
            "changes": (lambda: counts.changes(catalog.stores), "Revisions of all observables."),
            "notifications": (lambda: counts.notified, "Changes that the controller told clients of."),
            "deliveries": (lambda: totals.delivered, "Callbacks called for changes."),
            "coalesced": (lambda: totals.merged, "Changes that were merged into later ones."),
            "missed": (lambda: totals.missed, "Changes that observers of every change have lost."),
        }
        for name, (measure, _) in (self.gauges | self.counters).items():
            statistics.measure(name, measure)
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            statistics.measure(f"latency-us-{name}", lambda share=share: totals.quantile(share))
        for number in range(BUCKETS):
            name = f"latency-us-le-{1 << number}" if number + 1 < BUCKETS else "latency-us-count"
            statistics.measure(name, lambda number=number: sum(totals.buckets[: number + 1]))
        statistics.measure("latency-us-sum", lambda: totals.latency_us)

    def ask(self) -> None:
        """Asks those who observe for what they have counted, if anything has changed since the last time."""
        now = time.monotonic()
        if now - self._asked < ASK_S:
            return
        changes = self.catalog.counts.changes(self.catalog.stores)
        if changes == self._asked_at:
            return
        self._asked, self._asked_at = now, changes
        for session in self._sessions.values():
            if session.registrations:
                session.send(wire.Count())


def _bytes_of(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * _PAGE
