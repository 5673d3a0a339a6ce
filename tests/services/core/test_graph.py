"""Dependencies: groupings, restart-on, circles, orders, plans, explanations."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvoshim.services.core import deciding, explain, graph, plan, wishes
from kvoshim.services.core.graph import Node
from kvoshim.services.core.model import Dependency, Method, View
from kvoshim.services.core.states import UP, Event, Phase, Status, advance

START = {"start": Method(exec=("/bin/true",))}


def node(phase=Phase.ONLINE, needs=(), grouping="require-all", restart_on="none", wanted=True, cause="", **groups):
    dependencies = {"needs": Dependency(grouping, tuple(needs), restart_on)} if needs else {}
    return Node(View(dependencies=dependencies, methods=START, groups=groups), Status(phase=phase, cause=cause), wanted)


def nothing(path):
    return False


def blocked(grouping, *targets, there=nothing, **nodes):
    view = node(needs=targets, grouping=grouping).view
    return graph.blocks(view, {f"{name}:default": one for name, one in nodes.items()}, there)


OFF = node(Phase.DISABLED, wanted=False)
BROKEN = node(Phase.MAINTENANCE)
COMING = node(Phase.STARTING)
ON = node()


@pytest.mark.parametrize(
    ("grouping", "a", "b", "waits", "hopeless"),
    [
        ("require-all", ON, ON, False, None),
        ("require-all", ON, COMING, True, False),
        ("require-all", COMING, BROKEN, True, True),
        ("require-all", ON, OFF, True, True),
        ("require-any", ON, BROKEN, False, None),
        ("require-any", COMING, BROKEN, True, False),
        ("require-any", OFF, BROKEN, True, True),
        ("optional-all", OFF, BROKEN, False, None),
        ("optional-all", ON, COMING, True, False),
        ("exclude-all", OFF, BROKEN, False, None),
        ("exclude-all", OFF, ON, True, True),
        ("exclude-all", OFF, COMING, True, True),
    ],
)
def test_groupings(grouping, a, b, waits, hopeless):
    found = blocked(grouping, "a", "b", a=a, b=b)
    assert bool(found) is waits
    if waits:
        assert found[0].hopeless is hopeless


def test_files_and_unknown_services():
    assert blocked("require-all", "file:/x")[0].reason == "needs: /x is not there"
    assert not blocked("require-all", "file:/x", there=lambda path: path == "/x")
    assert blocked("require-all", "nobody")[0].reason == "needs: nobody:default does not exist"
    assert not blocked("optional-all", "nobody")


@pytest.mark.parametrize("restart_on", ["none", "error", "restart", "refresh"])
def test_restart_on(restart_on):
    dependency = Dependency("require-all", ("a",), restart_on)
    reach = {"none": set(), "error": {"error"}, "restart": {"error", "stop"}, "refresh": {"error", "stop", "refresh"}}[restart_on]
    assert {what for what in ("error", "stop", "refresh") if graph.taken_along(dependency, what)} == reach
    for cause, what in (("error", "error"), ("operator", "stop")):
        nodes = {"a:default": node(Phase.WAITING, cause=cause), "b:default": node(needs=["a"], restart_on=restart_on)}
        decision = deciding.decide(
            "b:default", nodes["b:default"], wishes.Wishes(), deciding.Facts(boot=1.0, unix=1.0, processes=True), nodes, nothing
        )
        assert (decision is not None) is (what in reach)
        if decision:
            assert decision[0] is Event.WAIT


def test_circles_are_found_and_named():
    nodes = {f"{a}:default": node(needs=[b]) for a, b in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("e", "e"))}
    found = graph.circles(nodes)
    assert set(found) == {"a:default", "b:default", "c:default", "e:default"}
    assert found["a:default"] == ("a:default", "b:default", "c:default", "a:default")
    assert found["e:default"] == ("e:default", "e:default")
    assert graph.start_order(nodes) == []


EDGES = st.dictionaries(st.integers(0, 8), st.sets(st.integers(0, 8), max_size=3), max_size=9)


@given(EDGES)
def test_orders_and_circles_fit_together(edges):
    names = {*edges, *(b for targets in edges.values() for b in targets)}
    nodes = {f"s{a}:default": node(needs=[f"s{b}" for b in sorted(edges.get(a, ()))]) for a in names}
    ranks = graph.start_order(nodes)
    place = {name: number for number, rank in enumerate(ranks) for name in rank}
    for name, number in place.items():
        assert all(place[target] < number for target in graph.needs(nodes[name].view))
    for name, circle in graph.circles(nodes).items():
        assert circle[0] == circle[-1] == name and name not in place
        assert all(b in graph.needs(nodes[a].view) for a, b in zip(circle, circle[1:], strict=False))
    if len(place) < len(nodes):
        assert graph.circles(nodes)


@given(EDGES, st.sets(st.integers(0, 8)), st.data())
def test_deciding_brings_up_all_that_can_and_takes_everything_down_in_order(edges, broken, data):
    """A whole simulation: whatever the order in which units are looked at, each that does not depend on a circle or on something
    broken comes up after what it depends on, and a shutdown stops it before."""
    names = sorted({*edges, *(b for targets in edges.values() for b in targets)})
    nodes = {}
    for a in names:
        needs = [f"s{b}" for b in sorted(edges.get(a, ()))]
        nodes[f"s{a}:default"] = node(Phase.NEW, needs=needs, restart_on="restart")
    bad = {f"s{a}:default" for a in broken}
    circles = graph.circles(nodes)
    depend = graph.dependents(nodes)
    processes: set[str] = set()
    order: list[tuple[str, str]] = []

    def look(closing):
        moved = True
        while moved:
            moved = False
            for name in data.draw(st.permutations(sorted(nodes))):
                wish = wishes.Wishes(problem="broken" if name in bad else "")
                facts = deciding.Facts(
                    boot=1.0, unix=1.0, processes=name in processes, closing=closing, circle=circles.get(name, ())
                )
                one = nodes[name]
                decision = deciding.decide(name, one, wish, facts, nodes, nothing)
                if decision is not None:
                    status, effect = advance(one.status, decision[0], unix=1.0, boot=1.0, reason=decision[1])
                    if status != one.status:
                        moved = True
                    nodes[name] = msgspec.structs.replace(one, status=status)
                    if effect == "spawn":
                        processes.add(name)
                        order.append(("start", name))
                        status, _ = advance(status, Event.READY, unix=1.0, boot=1.0)
                        nodes[name] = msgspec.structs.replace(one, status=status)
                elif name in processes and one.status.phase not in UP and deciding.may_stop(name, nodes, depend, closing, nothing):
                    processes.discard(name)
                    order.append(("stop", name))
                    moved = True

    look(closing=False)
    hopeless = {*bad, *circles}
    for name in list(hopeless):
        hopeless |= set(graph.closure(name, {target: [who for who, _ in whom] for target, whom in depend.items()}))
    assert {name for name, one in nodes.items() if one.status.phase in UP} == set(nodes) - hopeless
    started = [name for what, name in order if what == "start"]
    assert len(started) == len(set(started))
    for name in started:
        assert all(started.index(target) < started.index(name) for target in graph.needs(nodes[name].view))
    look(closing=True)
    assert not processes
    stopped = [name for what, name in order if what == "stop"]
    for name in stopped:
        assert all(stopped.index(target) > stopped.index(name) for target in graph.needs(nodes[name].view))


def test_explain_names_the_root_the_way_and_how_many_are_held_back():
    nodes = {
        "db:default": Node(View(methods=START), Status(phase=Phase.MAINTENANCE, reason="5 failures", since=7.0), True),
        "app:default": node(Phase.WAITING, needs=["db"]),
        "web:default": node(Phase.WAITING, needs=["app"]),
        "other:default": node(),
    }
    found = explain.explain("web:default", nodes, nothing)
    assert [link.name for link in found.chain] == ["web:default", "app:default", "db:default"]
    assert (found.root.reason, found.root.since) == ("5 failures", 7.0)
    assert found.holds_back == ("app:default", "web:default")
    assert explain.explain("other:default", nodes, nothing).runs
    assert [one.name for one in explain.faults(nodes, nothing)] == ["db:default"]
    lost = {"a:default": node(Phase.WAITING, needs=["file:/x"])}
    assert explain.explain("a:default", lost, nothing).root.name == "file:/x"


def test_plan_restarts_as_little_as_it_can():
    def nodes(**changes):
        a = node(config=changes.get("config", {"port": 1}), restart={"limit": changes.get("limit", 3)})
        if changes.get("method"):
            a = msgspec.structs.replace(a, view=msgspec.structs.replace(a.view, methods={"refresh": Method(exec=("/r",)), **START}))
        return {"a:default": a, "b:default": node(needs=["a"], restart_on="restart"), "c:default": node(needs=["a"])}

    def steps(before, after):
        return [(one.name, one.what) for one in plan.plan(before, after)]

    assert steps(nodes(), nodes()) == []
    assert steps(nodes(), nodes(limit=9)) == []
    assert steps(nodes(), nodes(config={"port": 2})) == [("a:default", "restart"), ("b:default", "restart")]
    assert steps(nodes(method=True), nodes(method=True, config={"port": 2})) == [("a:default", "refresh")]
    gone = nodes()
    del gone["a:default"]
    assert steps(nodes(), gone) == [("a:default", "stop"), ("b:default", "restart")]
