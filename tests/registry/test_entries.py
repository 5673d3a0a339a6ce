"""Registering and finding, from several processes."""

import os

import pytest
from registry_harness import until

from kvoshim import registry
from kvoshim.errors import ClosedError, InvalidEntryError, NameInUseError, UnknownNameError


def test_what_one_process_registers_another_finds(stage):
    peer = stage.peer()
    theirs = peer.do("register", "engine", {"address": "/run/engine.sock", "version": "1.2.0", "metadata": {"zone": "a", "n": 3}})
    (entry,) = registry.find("engine")
    assert (entry.name, entry.serial, entry.pid, entry.uid) == ("engine", 1, peer.pid, os.geteuid())
    assert (entry.address, entry.version, entry.metadata) == ("/run/engine.sock", "1.2.0", {"zone": "a", "n": 3})
    assert entry.host == os.uname().nodename and entry.reach == "user" and entry.owner and entry.token == theirs["token"]
    assert registry.find("eng*") == [entry] == registry.find() and registry.owner("engine") == entry
    assert registry.find("other") == [] and registry.owner("other") is None


def test_one_finds_at_once_what_one_has_registered(stage):
    for number in range(50):
        with registry.register(f"name{number}", address="/a") as mine:
            assert registry.find(f"name{number}") == [mine.entry]
            mine.update(address="/b", metadata={"x": 1})
            assert registry.find(f"name{number}")[0].address == "/b" and mine.entry.metadata == {"x": 1}
        assert registry.find(f"name{number}") == []


def test_instances_of_a_name(stage):
    peers = [stage.peer() for _ in range(3)]
    states = [peer.do("register", "engine", {}) for peer in peers]
    assert [state["serial"] for state in states] == [1, 2, 3]
    assert [entry.pid for entry in registry.find("engine")] == [peer.pid for peer in peers]
    assert registry.owner("engine").pid == peers[0].pid
    peers[0].do("close", "engine")
    assert peers[1].do("wait_owner", "engine", 30)
    until(lambda: peers[1].seen("owned") == [("engine", peers[1].pid)])
    assert registry.owner("engine").pid == peers[1].pid
    assert peers[1].do("state", "engine")["token"] > states[0]["token"]


def test_the_name_is_taken(stage):
    peer = stage.peer()
    peer.do("register", "engine", {})
    with pytest.raises(NameInUseError, match=f"PID {peer.pid}"):
        registry.register("engine", queue=False)
    assert len(registry.find("engine")) == 1


def test_a_replaced_owner_is_told_and_waits(stage):
    peer = stage.peer()
    theirs = peer.do("register", "engine", {"allow_replacement": True})
    with registry.register("engine", replace=True) as mine:
        assert mine.owner and mine.token > theirs["token"]
        until(lambda: peer.seen("lost") == [("engine", peer.pid)])
        assert peer.events[-1]["error"] is None
        assert not peer.do("state", "engine")["owner"]
        assert [entry.pid for entry in registry.find("engine")] == [os.getpid(), peer.pid]
    assert peer.do("wait_owner", "engine", 30)
    assert peer.do("state", "engine")["token"] > mine.entry.token


def test_a_replaced_owner_that_does_not_wait_is_gone_and_is_told(stage):
    peer = stage.peer()
    peer.do("register", "engine", {"allow_replacement": True, "queue": False})
    with registry.register("engine", replace=True):
        until(lambda: peer.seen("lost"))
        assert "taken over" in peer.events[-1]["error"]
        assert [entry.pid for entry in registry.find("engine")] == [os.getpid()]


def test_replacing_is_asked_for_once(stage):
    """After the owner has let itself be replaced and comes back, nobody is replaced again."""
    with registry.register("engine", replace=True, allow_replacement=True) as mine:
        peer = stage.peer()
        peer.do("register", "engine", {"replace": True, "allow_replacement": True})
        mine.update(address="/x")
        assert registry.owner("engine").pid == peer.pid
        mine.update(replace=True)
        assert registry.owner("engine").pid == os.getpid() and mine.owner


def test_what_cannot_be_registered(stage):
    for bad in ({"name": "a\nb"}, {"name": "x" * 10000}, {"name": "*"}, {"version": "one"}, {"metadata": {"a": b""}}):
        with pytest.raises(InvalidEntryError):
            registry.register(**{"name": "engine", **bad})
    with pytest.raises(InvalidEntryError):
        registry.find("")
    with registry.register("a/b: ü") as mine:
        assert registry.find("a/b: ü") == [mine.entry]


def test_a_registration_that_is_over(stage):
    mine = registry.register("engine")
    entry = mine.entry
    mine.close()
    mine.close()
    assert not mine.owner and mine.token == 0
    with pytest.raises(ClosedError):
        mine.update(address="/x")
    with pytest.raises(UnknownNameError):
        registry.ping(entry)


def test_many_at_once(stage):
    mine = [registry.register(f"n{number % 100}", metadata={"n": number}) for number in range(1000)]
    peer = stage.peer()
    assert len(peer.do("find", "*")) == 1000
    assert sorted(entry["serial"] for entry in peer.do("find", "n7")) == list(range(1, 11))
    for one in mine:
        one.close()
    assert peer.do("find", "*") == []


def test_a_forked_child_is_a_process_of_its_own(stage):
    peer = stage.peer()
    peer.do("register", "parent", {})
    assert peer.do("fork") == 0
    assert [entry.name for entry in registry.find()] == ["parent"]


def test_using_it_again_after_closing_all(stage):
    from kvoshim.registry.client import pool

    with registry.register("engine"):
        pool.close()
    assert registry.find() == []
    with registry.register("engine") as mine:
        assert registry.find() == [mine.entry]
