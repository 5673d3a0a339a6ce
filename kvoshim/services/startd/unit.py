"""An instance in the restarter's hands. All of it can be found again: in configd (status, view), in the spawner (processes,
descriptors)."""

from __future__ import annotations

import os
import socket
from typing import Any

import msgspec

from kvoshim.services.core import composing, states, wishes
from kvoshim.services.core.graph import Node
from kvoshim.services.core.model import LAST_GOOD, RESTARTER, RUNNING, START, Instance, Service, View
from kvoshim.services.core.plan import of_change
from kvoshim.services.core.states import ALIVE, Status
from kvoshim.services.spawner.cgroup import ControlGroup
from kvoshim.services.spawner.logs import Capture
from kvoshim.services.spawner.messages import Record
from kvoshim.services.spawner.notify import NotifySocket
from kvoshim.services.spawner.ready import Poll
from kvoshim.services.spawner.tree import Tree
from kvoshim.services.startd import tokens

EMPTY = View()


class Unit:
    def __init__(self, name: str, service: Service, instance: Instance) -> None:
        self.name = name
        self.key = tokens.key(name)
        self.status = Status()
        self.gone = False  # deleted in the repository
        # Processes.
        self.main: Record | None = None  # until its end is acknowledged
        self.ordered = False  # an order is under way
        self.helpers: dict[str, Record | None] = {}  # by role; None: ordered
        self.helper_deadlines: dict[str, float] = {}
        self.tree: Tree | ControlGroup | None = None
        self.to_acknowledge: list[int] = []
        # Times, on the clock that starts at boot; 0.0: none.
        self.start_deadline = 0.0
        self.stop_deadline = 0.0
        self.watchdog = 0.0
        self.look_at = 0.0
        self.stop_waits = False  # for others to stop first
        self.stop_begun = False
        self.killed = False
        self.poll: Poll | None = None
        self.watchdog_s = 0.0
        # Descriptors.
        self.capture: Capture | None = None
        self.notify: NotifySocket | None = None
        self.notify_raw: socket.socket | None = None
        self.newline: socket.socket | None = None
        # What has been told to configd.
        self.runs_by: View | None = None  # what its program was started with, or has taken in since
        self.dirty = True
        self.kept: set[str] = set()  # snapshots asked for since the last change
        self.timer: Any = None
        self.words = ""  # STATUS= of the service
        self.take(service, instance)

    def take(self, service: Service, instance: Instance) -> bool:
        """What the repository says now; whether anything of it concerns the restarter."""
        snapshot = instance.snapshots.get(RUNNING)
        started = instance.snapshots.get(START)
        good = instance.snapshots.get(LAST_GOOD)
        enabled = composing.enabled(service, instance)
        facts = (snapshot and snapshot.revision, started and started.revision, enabled, good and good.revision)
        if facts == getattr(self, "_facts", None):
            return False
        fresh = getattr(self, "_facts", (None,))[0] != facts[0] or not hasattr(self, "view")
        self._facts = facts
        self.enabled = enabled
        self.revision = snapshot.revision if snapshot else 0
        self.snapshot, self.started_with, self.good = snapshot, started, good
        if fresh:
            self.view = composing.of_snapshot(snapshot) if snapshot else EMPTY
            self.wishes = wishes.of_view(self.view)
            self.kept.clear()
        return True

    @property
    def wanted(self) -> bool:
        return self.enabled and not self.gone

    @property
    def delegated(self) -> bool:
        return bool(self.wishes.restarter)

    def node(self) -> Node:
        return Node(self.view, self.status, self.wanted)

    def change(self) -> str:
        """What it takes to run by the configuration in force."""
        if self.status.phase not in ALIVE or self.status.applied == self.revision or not self.status.applied:
            return "nothing"
        old = self.runs_by or (composing.of_snapshot(self.started_with) if self.started_with is not None else None)
        if old is None:
            return "nothing"
        what, _ = of_change(old, self.view)
        # A refresh that was asked for is done, even if nothing has changed.
        return "refresh" if what == "nothing" and "refresh" in self.view.methods else what

    def report(self, token: int, spawner: str) -> dict[str, Any]:
        found = states.to_report(self.status, token) | {"spawner": spawner}
        if self.words:
            found["words"] = self.words
        return found

    def processes(self) -> bool:
        """Whether any of its own is left, as far as is known: the tree is looked at when its main process has ended."""
        waits = self.stop_waits or tokens.STOP in self.helpers
        return self.ordered or self.main is not None and self.main.alive or self.look_at > 0 or waits

    def members(self) -> int:
        """How many processes it has, by the kernel's word."""
        return len(self.tree.look()) if self.tree is not None else 0

    def grow(self, base: str) -> None:
        """Its processes will be in a control group below `base`, or, "" for that, found by session and parents."""
        if isinstance(self.tree, ControlGroup):
            return
        if base:
            try:
                self.tree = ControlGroup(os.path.join(base, self.key))
                return
            except OSError:
                pass
        self.tree = None

    def planted(self, record: Record) -> None:
        if not isinstance(self.tree, ControlGroup):
            self.tree = Tree(record.pid, record.start if record.alive else 0)

    def snapshots_due(self, good: bool) -> list[str]:
        """Which of the snapshots that the restarter takes are not of the configuration in force."""
        if self.snapshot is None:
            return []
        wanted = [START, LAST_GOOD] if good else [START]
        there = {START: self.started_with, LAST_GOOD: self.good}
        return [
            name
            for name in wanted
            if name not in self.kept
            and ((one := there[name]) is None or (one.service, one.instance) != (self.snapshot.service, self.snapshot.instance))
        ]

    def set(self, **changes: Any) -> None:
        self.status = msgspec.structs.replace(self.status, **changes)
        self.dirty = True


def reported(instance: Instance) -> dict[str, Any]:
    return instance.volatile.get(RESTARTER, {})
