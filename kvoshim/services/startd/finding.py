"""A restarter that has just been started finds out what runs: what the repository was told, and which processes the spawner has."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from kvoshim.errors import SpawnerError
from kvoshim.services.core.model import Service
from kvoshim.services.core.restart import End
from kvoshim.services.core.states import Event, Phase, Status, from_report
from kvoshim.services.spawner.messages import Record
from kvoshim.services.startd import tokens
from kvoshim.services.startd.adopting import adopt
from kvoshim.services.startd.unit import Unit, reported

if TYPE_CHECKING:
    from kvoshim.services.startd.engine import Engine as _Engine
else:
    _Engine = object

log = logging.getLogger("kvoshim.startd")

_STRAY_S = 5.0  # that a process of no service has from SIGTERM to SIGKILL


def _boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Finding(_Engine):
    def _adopt(self, services: dict[str, Service]) -> None:
        self._adopted = True
        listing = self.spawner.list()
        self.held = set(listing.held)
        mains: dict[str, list] = {}
        helpers: dict[str, list] = {}
        for token, record in listing.children.items():
            owner, run = tokens.split(token)
            name, role = self.owners.get(owner, ("", ""))
            if not name:
                self._stray(record)
            else:
                (mains if role == tokens.MAIN else helpers).setdefault(name, []).append((run, role, record))
        for name, unit in self.units.items():
            service, _, short = name.partition(":")
            group = reported(services[service].instances[short]) if service in services else {}
            status = from_report(group)
            if group.get("spawner") != self.spawner_id:
                status = Status(run=status.run)  # of another life: nothing of it runs any more
            if not unit.delegated:
                unit.status = status
                self._adopt_one(unit, sorted(mains.get(name, []), key=lambda one: (one[2].alive, one[0])), helpers.get(name, []))
            self.nodes[name] = unit.node()
        log.info("%d services, %d of them found running", len(self.units), self.counts["adopted"])
        for message in self._early:
            self.hear(message)

    def _adopt_one(self, unit: Unit, mains: list, helpers: list) -> None:
        for _, _, record in mains[:-1]:
            unit.to_acknowledge.append(record.token)
        run, _, record = mains[-1] if mains else (None, "", None)
        running = unit.wishes.running
        free = running.kind == "one-shot" or unit.wishes.milestone(unit.view)
        unit.status, what = adopt(unit.status, run, record is not None and record.alive, running.ready == "spawned", free)
        for _, role, helper in helpers:
            if helper.alive:
                unit.helpers[role] = helper
            else:
                self.loop.call_soon(self.effects.helper_ended, unit, role, helper)
        if record is not None:
            unit.grow(self.cgroups)
            unit.main = record
            unit.planted(record)
        self.effects.adopt_channels(unit)
        if what == "runs":
            self.counts["adopted"] += 1
            self.effects.runs(unit, record, adopted=True)
        elif what == "ended":
            self.loop.call_soon(self.effects.main_ended, unit, record)
        elif what == "forget":
            unit.to_acknowledge.append(record.token)
            unit.main = None
            unit.look_at = _boot()  # what is left of it is still to go
        elif what == "lost":
            self.loop.call_soon(self.failed, unit, End(what="its process is gone, and nobody knows how it ended"))
        if unit.status.phase is Phase.REFRESHING and tokens.REFRESH not in unit.helpers and not running.reassert:
            self.loop.call_soon(self.apply, unit, Event.REFRESHED)

    def _stray(self, record: Record) -> None:
        """A process of a service that is no more."""
        if not record.alive:
            self.acknowledge(record.token)
            return
        first = record.token not in self._strays
        deadline = self._strays.setdefault(record.token, _boot() + _STRAY_S)
        try:
            self.spawner.signal(record.token, 15 if _boot() < deadline else 9, whole_group=True)
        except SpawnerError as error:
            log.debug("%s", error)
        if first:
            log.warning("process %d belongs to no service and is ended", record.pid)
        if record.token in self._strays:
            self.loop.call_later(_STRAY_S + 0.1, lambda: record.token in self._strays and self._stray(record))

    def acknowledge(self, token: int) -> None:
        try:
            self.spawner.acknowledge(token)
        except SpawnerError as error:
            log.debug("%s", error)
