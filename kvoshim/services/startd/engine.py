"""Brings together what should be and what is: finds (finding.py), decides (core/deciding.py), has it done (effects.py), reports
(reporting.py)."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from kvoshim.errors import ControlError, KvoshimError
from kvoshim.services.configd.wire import Happened
from kvoshim.services.core import graph
from kvoshim.services.core.deciding import Facts, decide, may_stop
from kvoshim.services.core.graph import Node
from kvoshim.services.core.model import RESTARTER, Service, full_name
from kvoshim.services.core.restart import End, judge
from kvoshim.services.core.states import ALIVE, UP, Effect, Event, Phase, advance, from_report
from kvoshim.services.spawner import cgroup, messages
from kvoshim.services.spawner.client import SpawnerClient, reason
from kvoshim.services.startd import channels, tokens
from kvoshim.services.startd.effects import Effects
from kvoshim.services.startd.finding import Finding
from kvoshim.services.startd.link import Link
from kvoshim.services.startd.reporting import Reporting
from kvoshim.services.startd.unit import Unit, reported

log = logging.getLogger("kvoshim.startd")

_FILES_S = 0.25  # between looks at files that somebody waits for
_EVENTS_MAX = 16  # of one unit in one turn: more would be a circle


def boot_now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Engine(Finding, Reporting):
    """loop: of the process layer. directory: of the repository."""

    def __init__(self, loop: Any, spawner: SpawnerClient, directory: str) -> None:
        self.loop, self.spawner, self.directory = loop, spawner, directory
        self.spawner_id = f"{spawner.hello.pid}-{spawner.hello.start}"
        self.log_directory = os.path.join(directory, "logs")
        self.cgroups = cgroup.base(f"kvoshim-{tokens.key(directory)}")
        self.units: dict[str, Unit] = {}
        self.nodes: dict[str, Node] = {}
        self.owners: dict[int, tuple[str, str]] = {}  # hash -> instance, role
        self.depend: dict[str, list] = {}
        self.circles: dict[str, tuple[str, ...]] = {}
        self.held: set[str] = set()
        self.closing = False
        self.finished = False
        self.counts = {"starts": 0, "failures": 0, "adopted": 0}
        self.effects = Effects(self)
        self.link = Link(loop, directory, self._here, self._happened, self._answered)
        self._adopted = False
        self._shape = True  # dependencies have changed
        self._todo: dict[str, None] = {}
        self._turn_due: Any = None
        self._files: Any = None
        self._reporting: dict[int, tuple[list[str], list[tuple[str, int]]]] = {}
        self._strays: dict[int, float] = {}
        self._early: list[messages.Message] = []

    def begin(self) -> None:
        os.makedirs(self.log_directory, 0o700, exist_ok=True)
        self.spawner.attach(self.loop, self.hear, self._spawner_lost)
        self.closing = self.spawner.hello.stopping
        self.link.connect()

    def _spawner_lost(self, error: KvoshimError) -> None:
        log.error("the spawner is gone, and without it nothing can be done: %s", error)
        os._exit(1)  # the spawner's end is that of all

    # --- what the repository says ---------------------------------------------

    def _here(self, services: dict[str, Service]) -> None:
        self._update(services)
        for name, unit in self.units.items():
            if name.partition(":")[0] not in services or name.partition(":")[2] not in services[name.partition(":")[0]].instances:
                self._remove(unit)
        if not self._adopted:
            self._adopt(services)
        else:
            for unit in self.units.values():
                unit.dirty = True
        self.look(self.units)

    def _happened(self, told: Happened) -> None:
        for name, groups in told.volatile.items():
            unit = self.units.get(name)
            if unit is not None and unit.delegated:  # its own restarter has reported
                unit.status = from_report(groups.get(RESTARTER, {}))
                self._told(unit)
        services = told.services
        for name, service in services.items():
            known = set() if service is None else {full_name(name, one) for one in service.instances}
            for unit in [one for one in self.units.values() if one.name.partition(":")[0] == name and one.name not in known]:
                self._remove(unit)
        self._update({name: one for name, one in services.items() if one is not None})

    def _update(self, services: dict[str, Service]) -> None:
        for name, service in services.items():
            for short, instance in service.instances.items():
                full = full_name(name, short)
                unit = self.units.get(full)
                if unit is None:
                    unit = self.units[full] = Unit(full, service, instance)
                    for role in tokens.ROLES:
                        self.owners[tokens.owner(full, role)] = (full, role)
                elif not unit.take(service, instance) and not unit.delegated and not unit.gone:
                    continue
                unit.gone = False
                if unit.delegated:
                    unit.status = from_report(reported(instance))
                self._shape = True
                self._told(unit)

    def _remove(self, unit: Unit) -> None:
        unit.gone = True
        self._shape = True
        self._told(unit)

    def _told(self, unit: Unit) -> None:
        """Something of a unit has changed: it and its neighbours are looked at."""
        self.nodes[unit.name] = unit.node()
        self.look((unit.name, *(name for name, _ in self.depend.get(unit.name, ())), *graph.needs(unit.view)))

    def look(self, names: Iterable[str]) -> None:
        for name in names:
            self._todo[name] = None
        if self._turn_due is None:
            self._turn_due = self.loop.call_soon(self._turn)

    # --- what the spawner says ---------------------------------------------

    def hear(self, message: messages.Message) -> None:
        match message:
            case messages.Stop():
                self.close()
                return
            case messages.Signalled() | messages.Stranger():
                return
        if not self._adopted:  # the listing will tell
            if isinstance(message, messages.Refused):
                self._early.append(message)
            return
        token = message.token if isinstance(message, messages.Refused) else message.child.token
        name, role = self.owners.get(tokens.split(token)[0], ("", ""))
        unit = self.units.get(name)
        if unit is None:
            if not isinstance(message, messages.Refused) and not message.child.alive:
                self._strays.pop(token, None)
                self.acknowledge(token)
            return
        match message:
            case messages.Spawned(child):
                self.effects.spawned(unit, role, child)
            case messages.Failed(child):
                self.effects.not_started(unit, role, child.token, reason(child))
            case messages.Exited(child):
                self.effects.ended(unit, role, child)
            case messages.Refused():
                self.effects.not_started(unit, role, 0, f"the spawner refuses: {os.strerror(message.errno)} ({message.step.meaning})")

    # --- deciding ---------------------------------------------

    def _turn(self) -> None:
        self._turn_due = None
        if not self._adopted:
            return
        if self._shape:
            self._shape = False
            self.depend = graph.dependents(self.nodes)
            self.circles = graph.circles(self.nodes)
            self._todo = dict.fromkeys(self.units)
        turns = 0
        while self._todo and turns < 4 * len(self.units) + 64:
            turns += 1
            name = next(iter(self._todo))
            del self._todo[name]
            if (unit := self.units.get(name)) is not None and not unit.delegated:
                self._consider(unit)
        if self._todo:
            self.look(())
        self._finish()
        self.flush()

    def _consider(self, unit: Unit) -> None:
        self.effects.times(unit)
        status = unit.status
        if status.phase in UP and status.applied != unit.revision and unit.change() == "nothing":
            unit.set(applied=unit.revision)  # nothing of the change concerns what runs
            unit.runs_by = unit.view
            self._told(unit)
        for _ in range(_EVENTS_MAX):
            node = self.nodes[unit.name]
            facts = Facts(
                boot=boot_now(), unix=time.time(), processes=unit.processes(), busy=bool(unit.helpers), closing=self.closing,
                change=unit.change(), circle=self.circles.get(unit.name, ()),
            )  # fmt: skip
            decision = decide(unit.name, node, unit.wishes, facts, self.nodes, self.there)
            if decision is None or not self.apply(unit, *decision):
                break
        if unit.stop_waits and unit.status.phase in ALIVE:
            self.effects.stop(unit)
        if unit.gone and unit.status.phase in (Phase.DISABLED, Phase.MAINTENANCE, Phase.NEW):
            self._forget(unit)
            return
        self._arm(unit)

    def apply(self, unit: Unit, event: Event, why: str = "") -> bool:
        """Whether anything has changed."""
        before = unit.status
        status, effect = advance(before, event, unix=time.time(), boot=boot_now(), reason=why)
        if status == before and not effect:
            return False
        unit.status = status
        unit.dirty = True
        self._told(unit)
        if status.phase is not before.phase:
            log.debug("%s: %s -> %s: %s", unit.name, before.phase, status.phase, status.reason)
            if status.phase is Phase.MAINTENANCE:
                log.error("%s needs help: %s", unit.name, status.reason)
            if status.phase in UP and before.phase not in UP:
                self.effects.is_up(unit)
            if event is Event.REFRESHED:
                self._refreshed(unit)
            if event is Event.STOPPED:
                self.effects.is_down(unit)
        match effect:
            case Effect.SPAWN:
                self.effects.spawn(unit)
            case Effect.STOP:
                self.effects.stop(unit)
            case Effect.SWEEP:
                self.effects.sweep(unit)
            case Effect.REFRESH:
                self.effects.refresh(unit)
        return True

    def _refreshed(self, unit: Unit) -> None:
        for name, dependency in self.depend.get(unit.name, ()):
            other = self.units.get(name)
            if other is not None and other.status.phase in ALIVE and graph.taken_along(dependency, "refresh"):
                if not graph.taken_along(dependency, "stop") or dependency.restart_on == "refresh":
                    self.apply(other, Event.RESTART, f"{unit.name} was refreshed")

    def failed(self, unit: Unit, end: End) -> None:
        """Its program has ended, or does not do what it should, and nobody ordered that."""
        if unit.status.phase not in ALIVE and unit.status.phase is not Phase.WAITING:
            return
        self.counts["failures"] += 1
        counted, event, why = judge(unit.wishes.policy, unit.status, end, boot_now(), random.random())
        unit.status = counted
        if not self.apply(unit, event, why):
            self._told(unit)

    def there(self, path: str) -> bool:
        if os.path.exists(path):
            return True
        if self._files is None:
            self._files = self.loop.call_later(_FILES_S, self._look_at_files)
        return False

    def _look_at_files(self) -> None:
        self._files = None
        self.look([
            name for name, node in self.nodes.items()
            if any(t.startswith(graph.FILE) for d in node.view.dependencies.values() for t in d.targets)
        ])  # fmt: skip

    def may_stop(self, unit: Unit) -> bool:
        return may_stop(unit.name, self.nodes, self.depend, self.closing, self.there)

    def _arm(self, unit: Unit) -> None:
        """Looks at it again when its next time comes."""
        if unit.timer is not None:
            unit.timer.cancel()
            unit.timer = None
        when = self.effects.next_time(unit)
        if when:
            unit.timer = self.loop.call_later(max(0.0, when - boot_now()), self.look, (unit.name,))

    def _forget(self, unit: Unit) -> None:
        self.effects.close_channels(unit)
        channels.drop_all(self.spawner, unit.key)
        for token in unit.to_acknowledge:
            self.acknowledge(token)
        if unit.timer is not None:
            unit.timer.cancel()
        del self.units[unit.name]
        del self.nodes[unit.name]
        for role in tokens.ROLES:
            self.owners.pop(tokens.owner(unit.name, role), None)
        self._shape = True

    # --- orders ---------------------------------------------

    def unit_of(self, name: str) -> Unit:
        """ControlError, with a name that is near perhaps."""
        try:
            full = graph.target_name(name)
        except KvoshimError as error:
            raise ControlError(str(error)) from None
        unit = self.units.get(full)
        if unit is None or unit.gone:
            raise ControlError(f"there is no instance {full}")
        if unit.delegated:
            raise ControlError(f"{full} is in the hands of {unit.wishes.restarter}")
        return unit

    def order(self, name: str, event: Event, why: str) -> Unit:
        unit = self.unit_of(name)
        if event is Event.RESTART and unit.status.phase is Phase.BACKOFF:
            unit.set(due=0.0, row=0)
        self.apply(unit, event, why)
        self.look((unit.name,))
        return unit

    def close(self) -> None:
        """Stops everything in order, then the spawner. What is starting does not go on starting."""
        if not self.closing:
            log.info("everything is stopped")
            self.closing = True
        self.look(self.units)

    def _finish(self) -> None:
        if not self.closing or self.finished or not self._adopted:
            return
        if any(unit.status.phase in ALIVE or unit.helpers for unit in self.units.values() if not unit.delegated):
            return
        self.finished = True
        self.loop.call_later(0.05, self.spawner.finish, 0)  # the last reports are under way

    def end(self) -> None:
        """Lets go of everything; services run on."""
        for unit in self.units.values():
            if unit.timer is not None:
                unit.timer.cancel()
            self.effects.close_channels(unit)
        self.link.close()
        self.spawner.close()


def summary(unit: Unit) -> dict[str, Any]:
    return msgspec.to_builtins(unit.status) | {"state": unit.status.state, "next": unit.status.next, "words": unit.words}
