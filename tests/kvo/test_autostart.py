"""Starting a controller on demand, and ending one that nobody needs."""

import os
import signal
import stat
import subprocess
import sys

import pytest
from kvo_harness import WAIT_S, until

import kvoshim
from kvoshim.errors import ControllerUnavailableError
from kvoshim.kvo import paths

_CLIENT = """
import sys, kvoshim
sys.stdin.readline()
with kvoshim.Observable("process " + sys.argv[1]) as mine:
    mine["x"] = 1
    with kvoshim.Observer() as observer:
        print(observer._client.link.controller_pid, flush=True)
        sys.stdin.readline()
"""


def test_ten_processes_at_once_start_one_controller(place):
    clients = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", _CLIENT, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=place.environment,
        )
        for number in range(10)
    ]
    try:
        for client in clients:
            client.stdin.write("go\n")
            client.stdin.flush()
        pids = {client.stdout.readline().strip() for client in clients}
        assert len(pids) == 1 and "" not in pids
        assert place.controller_pids() == [int(pid) for pid in pids]
        with kvoshim.Observer() as observer:
            assert len(observer.observables()) == 10
    finally:
        for client in clients:
            client.communicate("end\n", timeout=WAIT_S)
    assert [client.returncode for client in clients] == [0] * 10


def test_all_ten_clients_of_a_killed_controller_find_one_again(place):
    peers = [place.peer() for _ in range(10)]
    for number, peer in enumerate(peers):
        peer.do("publish", f"name{number}")
        peer.do("observe", f"name{(number + 1) % 10}", "x")
    (old,) = place.controller_pids()
    os.kill(old, signal.SIGKILL)
    for number, peer in enumerate(peers):
        peer.do("set", f"name{number}", "x", number)
    for number, peer in enumerate(peers):
        until(lambda: peer.values() == [(number + 1) % 10])
    until(lambda: len(place.controller_pids()) == 1)  # one that was started in vain has yet to see that another serves


def test_no_autostart(place):
    for make in (lambda: kvoshim.Observer(autostart=False), lambda: kvoshim.Observable("x", autostart=False)):
        with pytest.raises(ControllerUnavailableError, match="kvoshim controller") as caught:
            make()
        assert isinstance(caught.value, ConnectionError)
    assert place.controller_pids() == []
    assert not os.path.exists(place.socket)


def test_an_idle_controller_ends_and_removes_its_socket(place):
    controller = place.controller("--idle-exit", "0.1", "--retain", "0.1")
    with kvoshim.Observable("x") as observable:
        observable["a"] = 1
        assert os.path.exists(place.socket)
    assert controller.wait(WAIT_S) == 0  # values of ended observables are kept for a while first
    assert not os.path.exists(place.socket) and not os.path.exists(place.socket + ".fds")


def test_a_stale_socket_is_no_hindrance(place):
    controller = place.controller()
    controller.kill()
    controller.wait()
    assert os.path.exists(place.socket)
    with kvoshim.Observer() as observer:
        assert observer.observables() == []


def test_a_second_controller_is_refused(place):
    first = place.controller()
    second = place.kvoshim("controller", check=False)
    assert second.returncode == 3 and "already runs" in second.stderr
    assert place.kvoshim("controller", "--detach", check=False).returncode == 3
    assert first.poll() is None
    assert stat.S_IMODE(os.stat(place.socket).st_mode) == 0o600
    first.terminate()
    assert first.wait(WAIT_S) == 0
    assert not os.path.exists(place.socket)


def test_a_controller_that_cannot_start_says_why(place):
    with pytest.raises(ControllerUnavailableError, match="No such file or directory"):
        kvoshim.Observer(controller=place.socket + "/below/a/file")
    with pytest.raises(ControllerUnavailableError, match="longer than"):
        kvoshim.Observer(controller="/tmp/" + "x" * 120)


def test_the_users_own_path(place, monkeypatch):
    monkeypatch.delenv("KVOSHIM_CONTROLLER")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place.directory))
    own = place.directory / "kvoshim"
    assert paths.controller_path() == str(own / "controller.sock")
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    own.chmod(0o755)
    with pytest.raises(ControllerUnavailableError, match="not a directory of yours alone"):
        paths.controller_path()
    own.chmod(0o700)
    own.rmdir()
    own.symlink_to("/tmp")
    with pytest.raises(ControllerUnavailableError, match="not a directory of yours alone"):
        paths.controller_path()
    own.unlink()
