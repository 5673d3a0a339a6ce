"""Tells the repository what instances do, and the spawner what it may forget: an end is acknowledged only when it is known to be
reported, so a restarter killed in between finds it again."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from kvoshim.errors import KvoshimError, UnknownServiceError
from kvoshim.services.core.model import RESTARTER
from kvoshim.services.core.operations import AnyOperation, Report, Take
from kvoshim.services.core.states import UP
from kvoshim.services.startd import tokens
from kvoshim.services.startd.unit import Unit

if TYPE_CHECKING:
    from kvoshim.services.startd.engine import Engine as _Engine
else:
    _Engine = object

log = logging.getLogger("kvoshim.startd")

_BATCH = 500  # reports in one transaction


class Reporting(_Engine):
    def flush(self) -> None:
        """Tells the repository what has changed; one transaction is under way at a time, the next one takes what has gathered."""
        if self._reporting or not self.link.up:
            return
        names = [name for name, unit in self.units.items() if unit.dirty and not unit.gone and not unit.delegated][:_BATCH]
        self._submit(names)

    def _submit(self, names: list[str]) -> None:
        operations, acknowledged = [], []
        for name in names:
            unit = self.units[name]
            operations += self.operations(unit)
            acknowledged += [(name, token) for token in unit.to_acknowledge]
            unit.to_acknowledge = []
            unit.dirty = False
        if operations and (request := self.link.submit(operations)) is not None:
            self._reporting[request] = (names, acknowledged)
        elif operations:
            self._again(names, acknowledged)

    def operations(self, unit: Unit) -> list[AnyOperation]:
        status = unit.status
        found: list[AnyOperation] = [
            Report(target=unit.name, group=RESTARTER, replace=True,
                   properties=unit.report(tokens.token(unit.name, tokens.MAIN, status.run), self.spawner_id))
        ]  # fmt: skip
        if status.phase in UP and status.applied == unit.revision:
            healthy = status.ready and time.clock_gettime(time.CLOCK_BOOTTIME) - status.ready >= unit.wishes.policy.healthy_s
            for snapshot in unit.snapshots_due(bool(healthy)):
                unit.kept.add(snapshot)
                found.append(Take(target=unit.name, snapshot=snapshot))
        return found

    def commit(self, unit: Unit) -> None:
        """Reports one unit at once, before something is taken that could not be asked for again."""
        try:
            self.link.transact(self.operations(unit)[:1])
        except KvoshimError as error:
            log.debug("%s: not reported yet: %s", unit.name, error)

    def _answered(self, request: int, error: KvoshimError | None) -> None:
        names, acknowledged = self._reporting.pop(request, ([], []))
        if error is None:
            for _, token in acknowledged:
                self.acknowledge(token)
        elif isinstance(error, ConnectionError):
            self._again(names, acknowledged)
            return
        elif len(names) > 1:  # one of them is to blame, such as an instance that has just been deleted
            self._again(names, acknowledged, dirty=False)
            for name in names:
                if name in self.units:
                    self._submit([name])
            return
        else:
            if not isinstance(error, UnknownServiceError):
                log.error("%s cannot be reported: %s", ", ".join(names), error)
            for _, token in acknowledged:
                self.acknowledge(token)
        self.flush()

    def _again(self, names: list[str], acknowledged: list[tuple[str, int]], dirty: bool = True) -> None:
        for name in names:
            if name in self.units:
                self.units[name].dirty = self.units[name].dirty or dirty
        for name, token in acknowledged:
            if name in self.units:
                self.units[name].to_acknowledge.append(token)
