"""What is to happen to an instance next: a pure function of it, of its neighbours, and of what is known of its processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from kvoshim.services.core import graph
from kvoshim.services.core.graph import Node, Nodes, There
from kvoshim.services.core.model import Dependency
from kvoshim.services.core.states import ALIVE, STOPPING, UP, Event, Phase
from kvoshim.services.core.wishes import Wishes

Depend = Mapping[str, Sequence[tuple[str, Dependency]]]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """boot, unix: seconds now. processes: whether any of its own is left. busy: a helper of it runs, so it cannot start yet. closing:
    everything is to stop. change: what it takes to run by the configuration in force. circle: that it is part of."""

    boot: float
    unix: float
    processes: bool = False
    busy: bool = False
    closing: bool = False
    change: str = "nothing"
    circle: tuple[str, ...] = ()


Decision = tuple[Event, str] | None


def decide(name: str, node: Node, wishes: Wishes, facts: Facts, nodes: Nodes, there: There) -> Decision:
    """The event that is due, and its reason; None: there is nothing to do but wait. Called again after each event."""
    status = node.status
    wanted = node.wanted and not facts.closing
    if status.phase in STOPPING:
        return _stopping(status.phase, wanted, facts)
    if status.phase in ALIVE:
        return _running(node, wanted, facts, nodes, there)
    if not wanted:
        if status.phase in (Phase.NEW, Phase.WAITING, Phase.BACKOFF, Phase.MAINTENANCE) and not (facts.closing and node.wanted):
            return Event.DISABLED, ""
        return None
    match status.phase:
        case Phase.NEW | Phase.DISABLED:
            return Event.ENABLED, ""
        case Phase.MAINTENANCE:
            clear_s = wishes.policy.clear_s
            if clear_s and not wishes.problem and facts.unix >= status.since + clear_s:
                return Event.CLEARED, f"tried again after {clear_s:g} s in maintenance"
            return None
    return _down(node, wishes, facts, nodes, there)


def _stopping(phase: Phase, wanted: bool, facts: Facts) -> Decision:
    if phase is Phase.DISSTOPPING and wanted:
        return Event.ENABLED, ""
    if phase is not Phase.DISSTOPPING and not wanted:
        return Event.DISABLED, ""
    return None if facts.processes else (Event.STOPPED, "")


def _running(node: Node, wanted: bool, facts: Facts, nodes: Nodes, there: There) -> Decision:
    if not wanted:
        return Event.DISABLED, "everything is stopped" if facts.closing else "it is disabled"
    if facts.circle:
        return Event.GAVE_UP, _circle(facts.circle)
    for dependency in node.view.dependencies.values():
        if (gone := _gone(dependency, nodes, there)) is not None:
            return Event.WAIT, gone
    if facts.change == "restart" or facts.change == "refresh" and node.status.phase is Phase.STARTING:
        return Event.RESTART, "its configuration has changed"
    if facts.change == "refresh" and node.status.phase in (Phase.ONLINE, Phase.DEGRADED):
        return Event.REFRESH, "its configuration has changed"
    return None


def _gone(dependency: Dependency, nodes: Nodes, there: There) -> str | None:
    """Why a dependency no longer lets it run; None if it does."""
    if dependency.restart_on == "none":
        return None
    for target in graph.targets_of(dependency):
        node = nodes.get(target)
        if dependency.grouping == "exclude-all":
            if node is not None and (node.status.phase in UP or graph.comes(target, nodes)):
                return f"{target} excludes it"
            continue
        if target.startswith(graph.FILE) or node is not None and node.status.phase in UP:
            continue
        stops = node is not None and node.status.phase in STOPPING
        if dependency.grouping == "optional-all" and not graph.comes(target, nodes) and not stops:
            continue  # it went without it from the start
        happened = "error" if node is not None and (node.status.cause == "error" or node.status.phase is Phase.MAINTENANCE) else "stop"
        if graph.taken_along(dependency, happened) and not graph.holds_on(dependency, nodes, there):
            return f"{target} " + ("has failed" if happened == "error" else "is stopped" if node is not None else "is gone")
    return None


def _down(node: Node, wishes: Wishes, facts: Facts, nodes: Nodes, there: There) -> Decision:
    """Waiting for something."""
    status = node.status
    if wishes.problem:
        return Event.GAVE_UP, wishes.problem
    if facts.circle:
        return Event.GAVE_UP, _circle(facts.circle)
    if blocked := graph.blocks(node.view, nodes, there):
        reason = f"waits for {'; '.join(one.reason for one in blocked)}"
        return (Event.WAIT, reason) if status.phase is Phase.BACKOFF or status.reason != reason else None
    if facts.boot < status.due:
        if status.phase is Phase.WAITING:
            again = f"{status.row} in a row, it starts again in {status.due - facts.boot:.1f} s"
            return Event.FAILED, f"{status.reason or 'it has failed'}; {again}"
        return None
    return None if facts.busy or facts.processes else (Event.START, "")


def _circle(circle: tuple[str, ...]) -> str:
    return f"it depends on itself: {' -> '.join(circle)}"


def may_stop(name: str, nodes: Nodes, depend: Depend, closing: bool, there: There) -> bool:
    """Whether its stop may be begun: those that need it, and go along with it, are stopped before. closing: all that need it are."""
    for other, dependency in depend.get(name, ()):
        node = nodes.get(other)
        if node is None or other == name or node.status.phase not in ALIVE or dependency.grouping == "exclude-all":
            continue
        if closing and not _back(name, other, nodes):
            return False
        if graph.taken_along(dependency, "stop") and not graph.holds_on(dependency, nodes, there):
            return False
    return True


def _back(name: str, other: str, nodes: Nodes) -> bool:
    """Whether `name` depends on `other` as well: nobody waits for the other in a circle."""
    return other in graph.needs(nodes[name].view)
