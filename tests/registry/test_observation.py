"""Key-Value Observation finds its controller and its targets in the registry; without one it works all the same."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from registry_harness import WAIT_S, until

import kvoshim
from kvoshim import registry
from kvoshim.errors import UnknownNameError
from kvoshim.kvo import finding, paths
from kvoshim.registry.client import pool
from kvoshim.registry.seat import Scope
from kvoshim.registry.seat.private import PrivateRegistry

sys.path.insert(0, str(Path(__file__).parents[1] / "kvo"))
from kvo_harness import Peer  # noqa: E402

_BOTH = """
import sys, kvoshim
from kvoshim import registry
with kvoshim.Observable("its own name") as mine, registry.register("motor", address="/somewhere"):
    mine["rpm"] = int(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def observing(stage, monkeypatch):
    """A stage on which nobody has chosen where the controller is. observing.peer(): a process of Key-Value Observation."""
    stage.environment.pop("KVOSHIM_CONTROLLER", None)
    monkeypatch.delenv("KVOSHIM_CONTROLLER", raising=False)
    peers = []

    def peer(**environment):
        peers.append(Peer({**stage.environment, **environment}))
        return peers[-1]

    stage.observing = peer
    yield stage
    for one in peers:
        if one.process.poll() is None:
            one.close()
        else:
            one.process.stdin.close()
            one.process.stdout.close()


def registered(name, reach="user"):
    return until(lambda: registry.owner(name, reach=reach), f"{name} is registered")


def test_the_controller_and_what_is_published_are_in_the_registry(observing):
    peer = observing.observing()
    peer.do("publish", "engine")
    peer.do("set", "engine", "rpm", 900)
    controller, engine = registered("kvo-controller"), registered("kvo:engine")
    assert controller.address == engine.address == str(observing.run / "kvoshim" / "controller.sock")
    assert [controller.pid] == observing.controller_pids() == [engine.pid]
    assert engine.metadata["pid"] == peer.pid and engine.metadata["observable"] == "engine"
    with kvoshim.Observer(autostart=False) as observer:
        assert observer.get("engine", "rpm") == observer.get(engine, "rpm") == observer.get(peer.pid, "rpm") == 900
    with registry.watch("kvo:*", reach="user") as search:
        until(lambda: search.get(WAIT_S).kind == "end", "what is there has been told")
        peer.kill()
        until(lambda: search.get(WAIT_S).kind == "removed", "its death is told")
    status = observing.kvoshim("ctl", "controller", "status-get").stdout
    assert '"trouble": ""' in status and '"scope": "user"' in status
    # Whoever comes to the controller's place is registered again.
    os.kill(controller.pid, signal.SIGKILL)
    with kvoshim.Observer() as observer:
        until(lambda: (found := registry.owner("kvo-controller", reach="user")) and found.pid != controller.pid, "another controller")


def test_a_controller_elsewhere_is_found_by_the_registry(observing, monkeypatch):
    elsewhere = str(observing.directory / "elsewhere.sock")
    command = [sys.executable, "-P", "-m", "kvoshim", "controller", "--socket", elsewhere, "--registry", "user"]
    with subprocess.Popen(command, env=observing.environment, stderr=subprocess.DEVNULL) as process:
        try:
            found = registered("kvo-controller")
            assert (found.pid, found.address) == (process.pid, elsewhere)
            with kvoshim.Observer() as observer:
                assert observer._client.path == elsewhere
                assert observer._client.link.controller_pid == process.pid
            assert observing.kvoshim("list").stdout.strip() == "no observables"
            assert observing.controller_pids() == [process.pid]
            # KVOSHIM_CONTROLLER goes before.
            monkeypatch.setenv("KVOSHIM_CONTROLLER", str(observing.directory / "chosen.sock"))
            with kvoshim.Observer() as observer:
                assert observer._client.path == str(observing.directory / "chosen.sock")
            monkeypatch.delenv("KVOSHIM_CONTROLLER")
        finally:
            process.kill()
    # What is registered is no longer there, and nobody waits for it.
    with kvoshim.Observer() as observer:
        assert observer._client.path == str(observing.run / "kvoshim" / "controller.sock")


def test_what_is_registered_may_be_of_no_use(observing):
    """An address where nobody listens, and one that is longer than a path may be."""
    for address in (str(observing.directory / "nobody"), "/x" * 200):
        with registry.register("kvo-controller", address=address, reach="user"):
            with kvoshim.Observer() as observer:
                assert observer._client.path == str(observing.run / "kvoshim" / "controller.sock")


def test_a_process_is_observed_by_the_name_that_it_has_registered(observing):
    command = [sys.executable, "-P", "-c", _BOTH]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": observing.environment}
    with subprocess.Popen([*command, "900"], **pipes) as first:
        assert first.stdout.readline() == "ready\n"
        entry = registered("motor")
        with kvoshim.Observer() as observer:
            assert observer.get("motor", "rpm") == observer.get(entry, "rpm") == observer.get("its own name", "rpm") == 900
            seen = []
            observer.observe("motor", "rpm", lambda change: seen.append(change.new))
            until(lambda: seen == [900], "it is observed by its registered name")
            with pytest.raises(UnknownNameError):
                observer.get("no such name", "rpm")
            first.communicate("\n", WAIT_S)
            until(lambda: registry.owner("motor", reach="user") is None, "it is gone")
            with subprocess.Popen([*command, "1200"], **pipes) as second:  # the name has another process
                assert second.stdout.readline() == "ready\n"
                until(lambda: observer.get("motor", "rpm") == 1200, "the name is looked up again")
                second.communicate("\n", WAIT_S)


def test_a_private_registry_gives_its_group_a_controller_of_its_own(observing):
    """The seed's private registry: the same name inside and outside, and neither sees the other."""
    outside = observing.observing()
    outside.do("publish", "engine")
    outside.do("set", "engine", "rpm", 1)
    with PrivateRegistry() as group:
        member, other = observing.observing(**group.environment), observing.observing(**group.environment)
        member.do("publish", "engine")
        member.do("set", "engine", "rpm", 2)
        entry = registered("kvo-controller", group.scope)
        assert entry.address == os.path.join(group.scope.directory, "controller.sock") and entry.reach == "private"
        assert (other.do("get", "engine", "rpm"), outside.do("get", "engine", "rpm")) == (2, 1)
        assert len(observing.controller_pids()) == 2
        # When its registry has died, the group keeps its controller and what it knows.
        os.kill(group.pid, signal.SIGKILL)
        member.do("set", "engine", "rpm", 3)
        until(lambda: other.do("get", "engine", "rpm") == 3, "the group goes on")
        member.close()
        other.close()
        until(lambda: entry.pid not in observing.controller_pids(), "the controller ends with the last of its group")
        pool.close()


def test_a_semi_private_group_observes_what_is_published_outside_but_not_the_other_way_round(observing):
    outside = observing.observing()
    outside.do("publish", "outer")
    outside.do("set", "outer", "x", 1)
    registered("kvo:outer")
    with PrivateRegistry(semi=True) as group:
        member = observing.observing(**group.environment)
        member.do("publish", "inner")
        member.do("set", "inner", "x", 2)
        registered("kvo:inner", group.scope)
        registered("kvo:outer", group.scope)
        other = observing.observing(**group.environment)
        assert (other.do("get", "outer", "x"), other.do("get", "inner", "x")) == (1, 2)
        other.do("observe", "outer", "x")
        outside.do("set", "outer", "x", 3)
        until(lambda: other.values("x")[-1:] == [3], "the group is told of a change outside")
        with pytest.raises(AssertionError, match="UnknownNameError"):
            outside.do("get", "inner", "x")
        assert registry.owner("kvo:inner", reach="user") is None
        pool.close()
        member.close()
        other.close()


def test_without_a_registry_observation_works_and_says_why(observing, caplog):
    """None can be started: its lock is a directory."""
    caplog.set_level(logging.INFO, "kvoshim.client")
    place = observing.run / "kvoshim"
    place.mkdir(mode=0o700)
    (place / ".registry.lock").mkdir()
    peer = observing.observing()
    peer.do("publish", "engine")
    peer.do("set", "engine", "rpm", 900)
    with kvoshim.Observer() as observer:
        assert observer.get("engine", "rpm") == 900
    until(lambda: "the controller is not in the registry (user):" in observing.log_text(), "the reason is logged")
    assert "nothing is known of kvo-controller: no registry answers" in caplog.text
    assert ".registry.lock" in observing.kvoshim("ctl", "controller", "status-get").stdout


def test_a_registry_that_refuses_stops_nothing(observing, monkeypatch):
    (observing.directory / "registry.json").write_text(f'{{"host": {{"directory": "{observing.directory}", "user": "root"}}}}')
    options = observing.configure(access=[{"rule": "no controllers here", "deny": ["register"], "user": "*", "names": ["kvo*"]}])
    observing.serve("--scope", "host", "--config", str(options))
    peer = observing.observing(KVOSHIM_REGISTRY="host")
    peer.do("publish", "engine")
    peer.do("set", "engine", "rpm", 900)
    monkeypatch.setenv("KVOSHIM_REGISTRY", "host")
    with kvoshim.Observer() as observer:
        assert observer.get("engine", "rpm") == 900
    until(lambda: "does not take 'kvo:engine': " in observing.log_text(), "the refusal is logged")
    assert "no controllers here" in observing.kvoshim("ctl", "controller", "status-get", KVOSHIM_REGISTRY="host").stdout


def test_a_registry_that_hangs_stops_nothing(observing, caplog):
    observing.serve()
    peer = observing.observing()
    peer.do("publish", "engine")
    registered("kvo:engine")
    pool.close()
    pid = observing.registry_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        with kvoshim.Observer() as observer:
            assert observer.keys("engine") == []
        assert f"nothing is known of kvo-controller: PID {pid} holds the registry's place and does not answer" in caplog.text
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_glance_starts_nothing_and_keeps_nothing(observing):
    assert finding.glance("user", "anything") == []
    assert not observing.registry_pids()
    assert paths.place() == (str(observing.run / "kvoshim" / "controller.sock"), "user")
    # A private registry that does not live means the normal start.
    os.environ["KVOSHIM_REGISTRY"] = Scope("private", str(observing.directory / "nobody")).text
    try:
        assert paths.place()[1] == "user"
    finally:
        del os.environ["KVOSHIM_REGISTRY"]


def test_the_demo_finds_its_processes_by_the_registry(observing):
    shown = observing.kvoshim("demo", "--seconds", "2", XDG_RUNTIME_DIR=str(observing.run), COLUMNS="200").stdout
    assert "found in a registry of the demo's own" in shown and "kvo:machine" in shown and "kvo-controller" in shown
    assert "the registry told after" in shown
    until(lambda: not observing.controller_pids() and not observing.registry_pids(), "nothing of the demo is left")
