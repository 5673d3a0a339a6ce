"""Private and semi-private registries: for the children of one launcher."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from seat_harness import HOLDER, Client, said_pid, until

from kvoshim.errors import PrivateRegistryGoneError, RegistryPlaceError, RegistryStartError, RegistryUnavailableError
from kvoshim.registry import seat

# What `kvoshim registry private` does, with this folder's small registry.
LAUNCHER = f"""
import sys
from kvoshim.registry import seat
sys.exit(seat.launch_private(sys.argv[2:], sys.argv[1] == "semi", start={HOLDER!r}))
"""


@pytest.fixture
def group(stage):
    with seat.PrivateRegistry(start=HOLDER) as registry:
        yield registry


def ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_the_children_are_among_themselves(stage, group):
    """(b) private registry for a process and its children, contact passed in one environment variable."""
    children = [stage.client(*HOLDER, **group.environment) for _ in range(3)]
    assert {child.do("connect")["pid"] for child in children} == {group.pid}
    outside = stage.client(*HOLDER)
    answer = outside.do("connect")
    assert answer["pid"] != group.pid and answer["scope"] == "user"
    assert group.environment == {"KVOSHIM_REGISTRY": f"private:{group.scope.directory}"}
    assert "KVOSHIM_REGISTRY" not in os.environ


def test_an_unreachable_one_means_the_normal_start(stage, group):
    """(b) a child that fails to reach it falls back to the normal start."""
    gone = dict(group.environment)
    group.close()
    answer = stage.client(*HOLDER, **gone).do("connect")
    assert answer["scope"] == "user" and answer["pid"] == stage.record().pid
    nonsense = stage.client(*HOLDER, KVOSHIM_REGISTRY="privat:somewhere").do("connect")
    assert nonsense["scope"] == "user" and nonsense["pid"] == answer["pid"]
    with pytest.raises(RegistryUnavailableError):  # asked for in code: nobody is to get the wrong company
        seat.connect(group.scope, start=HOLDER)


def test_a_stranger_in_its_place_means_the_normal_start(stage, group):
    stage.stop(group.pid)
    child = stage.client(*HOLDER, **group.environment)
    assert child.do("connect")["scope"] == "user"


def test_nobody_takes_the_dead_holders_place(stage, group):
    """(b) when its holder dies the group does nothing: no election, and the connections among its members stay."""
    children = [stage.client(*HOLDER, **group.environment) for _ in range(3)]
    for child in children:
        child.do("connect")
        child.tell("wait")
    os.kill(group.pid, signal.SIGKILL)
    for child in children:
        assert child.answer() == {"ended": group.pid}
        answer = child.do("race")
        assert answer["error"] == "PrivateRegistryGoneError" and "launcher" in answer["text"]
    assert stage.holder_pids() == []
    with pytest.raises(PrivateRegistryGoneError):
        seat.race(group.scope)


def test_independent_and_semi_private(stage):
    """(c) the holder of a semi-private one is a client of the launcher's own registry; that of an independent one is told of
    none."""
    outside = said_pid(stage.connect())
    with seat.PrivateRegistry(semi=True, start=HOLDER) as semi, seat.PrivateRegistry(start=HOLDER) as alone:
        assert semi.scope.semi and semi.scope.private and not alone.scope.semi
        assert semi.environment["KVOSHIM_REGISTRY"] == f"semi-private:{semi.scope.directory}"
        inner = Client({**stage.environment, **alone.environment}, *HOLDER)
        try:
            assert inner.do("connect")["pid"] == alone.pid
            assert stage.client(*HOLDER, **semi.environment).do("connect")["pid"] == semi.pid != outside
        finally:
            inner.close()
        for registry in (semi, alone):
            assert psutil.Process(registry.pid).cmdline()[-5:-2] == ["--scope", registry.scope.text, "--detach"]
    os.environ["KVOSHIM_REGISTRY"] = "private:/of/the/launcher"
    try:
        with seat.PrivateRegistry(semi=True, start=HOLDER) as semi, seat.PrivateRegistry(start=HOLDER) as alone:
            assert psutil.Process(semi.pid).environ()["KVOSHIM_REGISTRY"] == "private:/of/the/launcher"
            assert "KVOSHIM_REGISTRY" not in psutil.Process(alone.pid).environ()
    finally:
        del os.environ["KVOSHIM_REGISTRY"]


def test_it_ends_with_its_launcher(stage):
    """However the launcher ends; a child that it forked keeps it."""
    code = f"""
import os, sys, time
from kvoshim.registry import seat
registry = seat.PrivateRegistry(start={HOLDER!r})
if os.fork():
    print(registry.pid, registry.scope.directory, flush=True)
    os.kill(os.getpid(), 9)
sys.stdin.read()
"""
    launcher = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=stage.environment
    )
    pid, directory = launcher.stdout.readline().split()
    assert launcher.wait(30) == -signal.SIGKILL
    assert not ended(int(pid))  # the forked child lives
    launcher.stdin.close()
    launcher.stdout.close()
    until(lambda: ended(int(pid)))
    assert not os.path.exists(directory)


def test_what_is_left_of_killed_ones_is_removed(stage, group):
    parent = os.path.dirname(group.scope.directory)
    dead = subprocess.Popen(["true"])
    dead.wait()
    left, recent, alive = (os.path.join(parent, name) for name in (f"private-{dead.pid}-a", f"private-{dead.pid}-b", "private-1-c"))
    for directory in (left, recent, alive):
        os.mkdir(directory, 0o700)
        Path(directory, "registry").write_text("")
        if directory != recent:
            os.utime(directory, (0, 0))
    with seat.PrivateRegistry(start=HOLDER) as another:
        assert not os.path.exists(left) and os.path.exists(recent) and os.path.exists(alive)
        assert os.path.exists(another.scope.directory)
    assert os.path.exists(group.scope.directory) and not os.path.exists(another.scope.directory)


def test_the_launchers_end_of_the_command_line(stage):
    """The command's exit code, as a shell tells it; nothing is left."""
    def run(mode, *command):
        return subprocess.run(
            [sys.executable, "-P", "-c", LAUNCHER, mode, *command], env=stage.environment, capture_output=True, text=True, timeout=60
        )

    assert run("private", "sh", "-c", "exit 7").returncode == 7
    assert run("private", "sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM
    said = run("semi", "sh", "-c", "echo $KVOSHIM_REGISTRY").stdout.strip()
    assert said.startswith(f"semi-private:{stage.run}/kvoshim/private-") and not os.path.exists(said.partition(":")[2])
    assert stage.holder_pids() == []
    assert "FileNotFoundError" in run("private", "/no such program").stderr
    assert [name for name in os.listdir(stage.run / "kvoshim") if name.startswith("private-")] == []


def test_a_signal_goes_on_to_the_command(stage):
    launcher = subprocess.Popen(
        [sys.executable, "-P", "-c", LAUNCHER, "private", "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"],
        env=stage.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert launcher.stdout.readline() == "ready\n"
    launcher.terminate()
    assert launcher.wait(30) == 9
    launcher.stdout.close()
    assert stage.holder_pids() == []


def test_one_that_cannot_be_started(stage, monkeypatch):
    with pytest.raises(RegistryStartError, match="exited with 5: no"):
        seat.PrivateRegistry(start=["sh", "-c", "echo no >&2; exit 5", "sh"])
    own = stage.run / "kvoshim"
    assert os.listdir(own) == []
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"{stage.run}/{'x' * 100}")
    os.mkdir(f"{stage.run}/{'x' * 100}", 0o700)
    with pytest.raises(RegistryStartError, match="longer than a socket's may be"):
        seat.PrivateRegistry(start=HOLDER)
    assert os.listdir(f"{stage.run}/{'x' * 100}/kvoshim") == []


def test_a_private_registry_has_one_directory(stage):
    """It is the launcher's to make, and goes with the registry."""
    directory = stage.run / "own"
    with pytest.raises(RegistryPlaceError, match="cannot be used"):
        seat.claim(seat.Scope("private", str(directory)))
    directory.mkdir(0o700)
    mine = seat.claim(seat.Scope("private", str(directory)))
    assert seat.claim(seat.Scope("semi-private", str(directory))) is None
    assert not stage.home.joinpath(".kvoshim").exists()
    mine.close()
    assert not directory.exists()
