"""Registries for the children of one launcher: of their own, or showing inward what is outside."""

import os
import signal
import sys

import pytest
from registry_harness import until

from kvoshim import registry
from kvoshim.registry import seat


@pytest.fixture
def group(stage):
    """group(semi): a private registry, and peers inside it."""
    registries = []

    def start(semi=False):
        registries.append(seat.PrivateRegistry(semi))
        return registries[-1], lambda *arguments: stage.peer(*arguments, **registries[-1].environment)

    yield start
    for peer in stage.peers:
        peer.close()
    stage.peers.clear()
    for one in registries:
        one.close()


def names(peer):
    return [entry["name"] for entry in peer.do("find", "*")]


def test_a_private_group_sees_itself_and_nothing_else(stage, group):
    private, inside = group()
    a, b = inside(), inside()
    a.do("register", "inner", {})
    with registry.register("outer"):
        assert names(b) == ["inner"] and b.do("find", "*")[0]["reach"] == "private"
        assert [entry.name for entry in registry.find()] == ["outer"]
        assert b.do("ask", "inner", "info")["registrations"] == 1


def test_a_semi_private_group_sees_what_is_outside_but_not_the_other_way_round(stage, group):
    outer = stage.peer()
    outer.do("register", "outer", {"address": "/o"})
    outer.do("register", "both", {})
    private, inside = group(semi=True)
    a, b = inside(), inside()
    a.do("register", "inner", {})
    a.do("register", "both", {})
    b.do("watch", "*")
    until(lambda: sorted(names(b)) == ["both", "both", "inner", "outer"])
    seen = {(entry["name"], entry["reach"]): entry for entry in b.do("find", "*")}
    assert set(seen) == {("inner", "private"), ("both", "private"), ("both", "user"), ("outer", "user")}
    assert seen["outer", "user"]["address"] == "/o" and seen["outer", "user"]["pid"] == outer.pid
    assert [entry.name for entry in registry.find()] == ["both", "outer"], "nothing is shown outside"
    assert b.do("find", "both")[0]["pid"] == a.pid, "one's own group goes first"
    assert b.do("ask", "outer", "statistics")["program"] == {"answer": 42}
    outer.do("update", "outer", {"address": "/new"})
    until(lambda: b.do("find", "outer")[0]["address"] == "/new")
    outer.kill()
    until(lambda: sorted(names(b)) == ["both", "inner"])
    until(lambda: ("outer", outer.pid) in b.seen("removed"))


def test_a_semi_private_group_lives_through_the_outer_registrys_death(stage, group):
    outer = stage.peer()
    outer.do("register", "outer", {})
    private, inside = group(semi=True)
    peer = inside()
    peer.do("watch", "*")
    until(lambda: names(peer) == ["outer"])
    dead = stage.registry_pid()
    os.kill(dead, signal.SIGKILL)
    until(lambda: stage.registry_pid() not in (0, dead))
    outer.do("register", "later", {})
    until(lambda: names(peer) == ["later", "outer"])
    assert not peer.seen("removed")


@pytest.mark.parametrize("kind", [(), ("asyncio",)], ids=["thread", "asyncio"])
def test_when_its_registry_dies_a_group_keeps_what_it_knows_and_elects_nobody(stage, group, kind):
    private, inside = group()
    a, b = inside(*kind), inside(*kind)
    a.do("register", "engine", {"address": "/e"})
    b.do("watch", "*")
    until(lambda: len(b.seen()) == 2)
    os.kill(private.pid, signal.SIGKILL)
    with pytest.raises(AssertionError, match="PrivateRegistryGoneError"):
        while True:  # until it has noticed
            b.do("register", "more", {})
    (entry,) = b.do("find", "engine")
    assert entry["address"] == "/e" and not b.seen("removed")
    assert stage.registry_pids() == [], "nobody takes its place"


PROGRAM = """
import sys, time
from kvoshim import registry
registry.register("inner")
while len(registry.find()) < int(sys.argv[1]):
    time.sleep(0.005)
print(*[entry.name for entry in registry.find()])
"""


def test_a_private_registry_from_the_command_line(stage):
    program = [sys.executable, "-P", "-c", PROGRAM]
    with registry.register("outer"):
        assert stage.kvoshim("registry", "private", "--", *program, "1").stdout == "inner\n"
        assert stage.kvoshim("registry", "private", "--semi", "--", *program, "2").stdout == "inner outer\n"
