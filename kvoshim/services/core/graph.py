"""Who depends on whom: what an instance waits for, whose end takes it along, circles, and orders of start and stop.

    grouping       is satisfied when
    require-all    every target is up (a file: is there)
    require-any    one target is up
    optional-all   every target that can come up by itself is up; one that is disabled, in maintenance or unknown is not waited for
    exclude-all    no target is up or can come up by itself

A dependency on a service that was up and ends, by restart-on:

    what happens to the target            none   error   restart   refresh
    it fails                               -     stops    stops     stops
    it is stopped or restarted             -       -      stops     stops
    it is refreshed                        -       -        -      restarts
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from kvoshim.services.core.model import DEFAULT, Dependency, View, full_name, split
from kvoshim.services.core.states import COMING, UP, Phase, Status

FILE = "file:"


class Node(msgspec.Struct, frozen=True):
    """An instance as its neighbours see it. wanted: it is enabled."""

    view: View
    status: Status
    wanted: bool


class Block(msgspec.Struct, frozen=True):
    """Why an instance does not start: one unsatisfied dependency. targets: those at fault. hopeless: it stays so until a person does
    something."""

    dependency: str
    targets: tuple[str, ...]
    reason: str
    hopeless: bool


Nodes = Mapping[str, Node]
There = Callable[[str], bool]


def target_name(target: str) -> str:
    """The full name of an instance that a dependency names; a file's stays as it is."""
    if target.startswith(FILE):
        return target
    service, instance = split(target)
    return full_name(service, instance or DEFAULT)


def targets_of(dependency: Dependency) -> tuple[str, ...]:
    return tuple(target_name(one) for one in dependency.targets)


def is_up(target: str, nodes: Nodes, there: There) -> bool:
    if target.startswith(FILE):
        return there(target.removeprefix(FILE))
    node = nodes.get(target)
    return node is not None and node.status.phase in UP


def comes(target: str, nodes: Nodes) -> bool:
    """Whether a target that is not up can come up without a person's help. A file may appear at any time, but nobody is at work on
    it."""
    node = nodes.get(target)
    return node is not None and node.wanted and node.status.phase in COMING | {Phase.DISABLED, Phase.DISSTOPPING}


def _said(target: str, nodes: Nodes) -> str:
    if target.startswith(FILE):
        return f"{target.removeprefix(FILE)} is not there"
    node = nodes.get(target)
    if node is None:
        return f"{target} does not exist"
    if not node.wanted:
        return f"{target} is disabled"
    return f"{target} is {node.status.state}"


def blocks(view: View, nodes: Nodes, there: There) -> tuple[Block, ...]:
    """The dependencies that are not satisfied; none: it may start."""
    found = []
    for name, dependency in view.dependencies.items():
        targets = targets_of(dependency)
        up = [one for one in targets if is_up(one, nodes, there)]
        down = [one for one in targets if one not in up]
        match dependency.grouping:
            case "require-all" if down:
                # A file is nobody's to bring.
                hopeless = any(not comes(one, nodes) for one in down)
            case "require-any" if not up:
                hopeless = not any(comes(one, nodes) for one in down)
            case "optional-all" if down := [one for one in down if comes(one, nodes)]:
                hopeless = False
            case "exclude-all" if down := up + [one for one in down if comes(one, nodes)]:
                found.append(Block(name, tuple(down), f"{name}: {down[0]} excludes it and is not disabled", True))
                continue
            case _:
                continue
        found.append(Block(name, tuple(down), f"{name}: {', '.join(_said(one, nodes) for one in down[:3])}", hopeless))
    return tuple(found)


# --- along the edges ---------------------------------------------


def needs(view: View) -> dict[str, Dependency]:
    """Target -> the dependency through which it is started before; exclusion is no order."""
    return {
        target: dependency
        for dependency in view.dependencies.values()
        if dependency.grouping != "exclude-all"
        for target in targets_of(dependency)
        if not target.startswith(FILE)
    }


def dependents(nodes: Nodes) -> dict[str, list[tuple[str, Dependency]]]:
    """Target -> (instance that depends on it, how), exclusions too."""
    found: dict[str, list[tuple[str, Dependency]]] = {}
    for name, node in nodes.items():
        for dependency in node.view.dependencies.values():
            for target in targets_of(dependency):
                found.setdefault(target, []).append((name, dependency))
    return found


def taken_along(dependency: Dependency, happened: str) -> bool:
    """Whether one that depends so is stopped or restarted. happened: "error", "stop" or "refresh"."""
    reach = {"none": (), "error": ("error",), "restart": ("error", "stop"), "refresh": ("error", "stop", "refresh")}
    return dependency.grouping != "exclude-all" and happened in reach[dependency.restart_on]


def holds_on(dependency: Dependency, nodes: Nodes, there: There) -> bool:
    """Whether a dependency is satisfied without the target that has just gone: another of require-any is up."""
    return dependency.grouping == "require-any" and any(is_up(one, nodes, there) for one in targets_of(dependency))


def circles(nodes: Nodes) -> dict[str, tuple[str, ...]]:
    """Instance -> a circle that it is part of, from itself to itself. What only waits for a circle is in none."""
    edges = {name: [one for one in needs(node.view) if one in nodes] for name, node in nodes.items()}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: dict[str, tuple[str, ...]] = {}
    for root in edges:
        if root in index:
            continue
        work = [(root, iter(edges[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            name, rest = work[-1]
            for other in rest:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(edges[other])))
                    break
                if other in on_stack:
                    low[name] = min(low[name], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    group: list[str] = []
                    while not group or group[-1] != name:
                        group.append(stack.pop())
                        on_stack.discard(group[-1])
                    if len(group) > 1 or name in edges[name]:
                        found |= {one: _circle(one, edges, set(group)) for one in group}
    return found


def _circle(start: str, edges: Mapping[str, Iterable[str]], group: set[str]) -> tuple[str, ...]:
    """The shortest way from an instance back to itself."""
    came: dict[str, str] = {}
    todo = [start]
    for name in todo:
        for other in edges[name]:
            if other == start:
                way = [start, name]
                while way[-1] != start:
                    way.append(came[way[-1]])
                return tuple(reversed(way))
            if other in group and other not in came:
                came[other] = name
                todo.append(other)
    return (start, start)


def start_order(nodes: Nodes) -> list[list[str]]:
    """Instances in ranks: each depends on earlier ranks only. Those in circles, and what waits for them, are left out."""
    left = {name: {one for one in needs(node.view) if one in nodes} for name, node in nodes.items()}
    ranks: list[list[str]] = []
    done: set[str] = set()
    while rank := sorted(name for name, waits in left.items() if waits <= done):
        ranks.append(rank)
        done |= set(rank)
        for name in rank:
            del left[name]
    return ranks


def closure(name: str, edges: Mapping[str, Iterable[str]]) -> list[str]:
    """All that is reached from a name, nearest first, without itself."""
    seen, todo = {name}, [name]
    for one in todo:
        for other in edges.get(one, ()):
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return todo[1:]
