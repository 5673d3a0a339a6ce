"""Why an instance does not run: the root cause, since when, the way from it to there, and how many others it holds back."""

from __future__ import annotations

import msgspec

from kvoshim.services.core import graph
from kvoshim.services.core.graph import Nodes, There
from kvoshim.services.core.states import UP, Phase


class Link(msgspec.Struct, frozen=True):
    """One instance (or file:) of the way, and why it does not run."""

    name: str
    state: str
    reason: str
    since: float


class Explanation(msgspec.Struct, frozen=True):
    """chain: from the instance that was asked about to the root cause, which is its last. holds_back: instances that are enabled and
    do not run because of the root, itself not counted. log: of the root, "" if it has none."""

    name: str
    runs: bool
    chain: tuple[Link, ...]
    holds_back: tuple[str, ...]

    @property
    def root(self) -> Link:
        return self.chain[-1]


def explain(name: str, nodes: Nodes, there: There) -> Explanation:
    """name: full, of nodes."""
    chain: list[Link] = []
    seen: set[str] = set()
    at: str | None = name
    while at is not None:
        seen.add(at)
        chain.append(_link(at, nodes, there))
        at = _cause(at, nodes, there, seen)
    return Explanation(name, nodes[name].status.phase in UP, tuple(chain), held_back(chain[-1].name, nodes, there))


def _link(name: str, nodes: Nodes, there: There) -> Link:
    node = nodes.get(name)
    if node is None:
        return Link(name, "", "it is not there" if name.startswith(graph.FILE) else "it does not exist", 0.0)
    status = node.status
    reason = status.reason
    if not node.wanted and status.phase not in UP:
        reason = status.reason or "it is disabled"
    elif status.phase in (Phase.WAITING, Phase.NEW) and (blocked := graph.blocks(node.view, nodes, there)):
        reason = f"waits for {blocked[0].reason}"
    return Link(name, status.state, reason, status.since)


def _cause(name: str, nodes: Nodes, there: There, seen: set[str]) -> str | None:
    """The next one on the way to the root: a target that is at fault, one without hope first."""
    node = nodes.get(name)
    if node is None or node.status.phase not in (Phase.WAITING, Phase.NEW) or not node.wanted:
        return None
    blocked = sorted(graph.blocks(node.view, nodes, there), key=lambda one: not one.hopeless)
    for block in blocked:
        # First those that no person's help is asked for elsewhere: a target in maintenance says more than one that waits as well.
        for target in sorted(block.targets, key=lambda one: graph.comes(one, nodes)):
            if target not in seen:
                return target
    return None


def held_back(root: str, nodes: Nodes, there: There) -> tuple[str, ...]:
    """Instances that are enabled, do not run, and have the root on each way's end or on one of it."""
    back: dict[str, list[str]] = {}
    for name, node in nodes.items():
        if node.wanted and node.status.phase in (Phase.WAITING, Phase.NEW):
            for block in graph.blocks(node.view, nodes, there):
                for target in block.targets:
                    back.setdefault(target, []).append(name)
    return tuple(sorted(graph.closure(root, back)))


def faults(nodes: Nodes, there: There) -> list[Explanation]:
    """One for each root cause among instances that are enabled and do not run, what holds back most first."""
    roots: dict[str, Explanation] = {}
    for name, node in nodes.items():
        if node.wanted and node.status.phase in (Phase.WAITING, Phase.NEW, Phase.MAINTENANCE, Phase.BACKOFF, Phase.DEGRADED):
            root = explain(name, nodes, there).root.name
            if root not in roots:
                roots[root] = explain(root, nodes, there) if root in nodes else explain(name, nodes, there)
    return sorted(roots.values(), key=lambda one: (-len(one.holds_back), one.name))
