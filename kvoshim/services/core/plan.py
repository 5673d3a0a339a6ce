"""What a change of the configuration does to what runs: as little as it can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from kvoshim.services.core import composing, graph
from kvoshim.services.core.graph import Node, Nodes
from kvoshim.services.core.model import START, View
from kvoshim.services.core.states import ALIVE, UP

What = Literal["nothing", "refresh", "restart", "start", "stop"]

REFRESH_METHOD = "refresh"

# What the restarter itself goes by: in force without the service's noticing.
_QUIET = ("groups/general/", "groups/restart/", "dependencies/", "templates/", "methods/stop", "methods/refresh", "methods/check",
          "methods/finish", "groups/log/")  # fmt: skip


class Step(msgspec.Struct, frozen=True):
    """name: an instance. because: the paths that changed, or the instance that takes it along."""

    name: str
    what: What
    because: str


def of_change(old: View, new: View) -> tuple[What, tuple[str, ...]]:
    """What an instance that runs by the view `old` has to do to run by `new`, and the paths for which it has to. A refresh method
    takes in what is in groups; how the program is started takes a restart."""
    paths = tuple(one for one in composing.difference(old, new) if not one.startswith(_QUIET))
    if not paths:
        return "nothing", ()
    if REFRESH_METHOD in new.methods and all(one.startswith("groups/") and not one.startswith("groups/startd/") for one in paths):
        return "refresh", paths
    return "restart", paths


def plan(before: Nodes, after: Nodes) -> list[Step]:
    """What putting `after` in force does to what runs, in the order of the names. Both: all instances; a node's view is the one that
    it runs by (before), and is to run by (after)."""
    steps: dict[str, Step] = {}
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        runs = old is not None and old.status.phase in ALIVE
        if new is None or not new.wanted:
            if runs:
                steps[name] = Step(name, "stop", "it is gone" if new is None else "it is disabled")
        elif old is None or not old.wanted:
            steps[name] = Step(name, "start", "it is new" if old is None else "it is enabled")
        elif runs:
            what, paths = of_change(old.view, new.view)
            if what != "nothing":
                steps[name] = Step(name, what, ", ".join(paths))
    _along(steps, before, after)
    return [steps[name] for name in sorted(steps)]


def _along(steps: dict[str, Step], before: Nodes, after: Nodes) -> None:
    """Adds those that depend on what is stopped, restarted or refreshed."""
    depend = graph.dependents(after)
    todo = [name for name, step in steps.items() if step.what in ("refresh", "restart", "stop")]
    for name in todo:
        happened = "refresh" if steps[name].what == "refresh" else "stop"
        for other, dependency in depend.get(name, ()):
            runs = other in before and before[other].status.phase in UP
            if runs and graph.taken_along(dependency, happened) and steps.get(other, Step("", "refresh", "")).what == "refresh":
                steps[other] = Step(other, "restart", f"{name} has to {steps[name].what}")
                todo.append(other)


def running_nodes(nodes: Nodes, instances: Mapping[str, object]) -> dict[str, Node]:
    """Nodes with the view that each was started with (its snapshot "start") where it runs. instances: of model.Instance."""
    found = {}
    for name, node in nodes.items():
        snapshot = instances[name].snapshots.get(START)  # type: ignore[attr-defined]
        runs = node.status.phase in ALIVE and snapshot is not None
        found[name] = msgspec.structs.replace(node, view=composing.of_snapshot(snapshot)) if runs else node
    return found
