"""`kvoshim registry explain`: which registry a program would use, and why; and the command line of private registries."""

import json
import os
import subprocess
import sys

import pytest
from seat_harness import HOLDER, USER, said_pid

from kvoshim import socket
from kvoshim.registry import seat
from kvoshim.registry.seat import policy
from kvoshim.registry.seat.explaining import FAILS, RUNS, STARTS, WAITS


def steps(found: seat.Explanation) -> list[tuple[str, bool | None]]:
    return [(step.about, step.good) for step in found.steps]


def test_nothing_is_there_yet(stage):
    found = seat.explain()
    assert found.outcome == STARTS and "registry serve --scope user --detach" in found.words
    assert found.scope == "user" and "KVOSHIM_REGISTRY is not set" in found.steps[0].words
    assert not os.listdir(stage.run) and not os.listdir(stage.home), "it only looks"
    seat.configure(timeout=7)  # and settles nothing


def test_it_runs(stage):
    pid = said_pid(stage.connect())
    found = seat.explain()
    assert (found.outcome, found.pid, found.address) == (RUNS, pid, stage.known_place)
    assert steps(found) == [("scope", None), ("directory", True), ("file", True), ("lock", True), ("contact", True)]


def test_a_stale_file(stage):
    pid = said_pid(stage.connect())
    stage.kill(pid)
    found = seat.explain()
    assert found.outcome == STARTS
    of_a_place = [("directory", True), ("file", True), ("lock", False), ("contact", False)]
    assert steps(found) == [("scope", None), *of_a_place, *of_a_place, ("start", True)]


def test_a_stranger(stage):
    stage.kill(said_pid(stage.connect()))
    os.unlink(stage.known_place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
        stranger.bind(stage.known_place)
        stranger.listen()
        found = seat.explain()
        assert found.outcome == STARTS and [s for s in found.steps if s.about == "contact" and "gives no answer" in s.words]


def test_a_hung_one_is_waited_for(stage):
    holder = stage.holder()
    stage.stop(holder.pid)
    found = seat.explain()
    assert (found.outcome, found.pid) == (WAITS, holder.pid)


@pytest.mark.parametrize("start, outcome", [(False, FAILS), (HOLDER, STARTS), (lambda scope: None, STARTS)])
def test_what_is_decided_in_code_is_told(stage, start, outcome):
    seat.configure(scope="user", start=start)
    found = seat.explain()
    assert found.outcome == outcome and "decided in code" in found.steps[0].words
    assert (HOLDER[-1] in found.words) == (start is HOLDER)


def test_no_interpreter(stage, monkeypatch):
    monkeypatch.setattr(policy.sys, "executable", "")
    assert seat.explain().outcome == FAILS


def test_a_private_one(stage, monkeypatch):
    """(b) in the environment, reachable and not."""
    with seat.PrivateRegistry(start=HOLDER) as group:
        for name, value in group.environment.items():
            monkeypatch.setenv(name, value)
        found = seat.explain()
        assert (found.outcome, found.pid, found.scope) == (RUNS, group.pid, group.scope.text)
    found = seat.explain()
    assert (found.outcome, found.scope) == (STARTS, "user")
    assert "normal start" in " ".join(step.words for step in found.steps)
    assert seat.explain(group.scope).outcome == FAILS  # asked for by itself
    assert seat.explain(USER).outcome == STARTS


# --- the command line ---------------------------------------------


@pytest.fixture
def kvoshim(stage):
    def run(*arguments):
        words = [os.path.join(os.path.dirname(sys.executable), "kvoshim"), "registry", *arguments]
        return subprocess.run(words, env=stage.environment, capture_output=True, text=True, timeout=60)

    return run


def test_explain_on_the_command_line(stage, kvoshim):
    pid = said_pid(stage.connect())
    done = kvoshim("explain")
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("  the scope is user") and lines[-1] == f"= the registry of PID {pid} at {stage.known_place} is used"
    found = json.loads(kvoshim("explain", "--json").stdout)
    assert (found["outcome"], found["pid"]) == (RUNS, pid) and found["steps"][-1]["about"] == "contact"
    done = kvoshim("explain", "--scope", f"private:{stage.directory}")
    assert done.returncode == 1 and done.stdout.splitlines()[-1].startswith("= ")
    done = kvoshim("explain", "--scope", "mars")
    assert done.returncode == 1 and "'mars' is no scope" in done.stderr and done.stdout == ""


def test_what_others_wrote_is_escaped(stage, kvoshim):
    stage.own_file.parent.mkdir(0o700)
    (stage.own_file.parent / "registry.sock\x1b[2J").touch()
    done = kvoshim("explain", "--scope", f"private:{stage.directory}/\x1b[2J\n")
    assert "\x1b" not in done.stdout and "\\x1b" in done.stdout


def test_private_without_a_command(stage, kvoshim):
    assert kvoshim("private").returncode == 2
    assert kvoshim("private", "--semi", "--").returncode == 2
