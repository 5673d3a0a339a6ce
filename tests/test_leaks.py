"""What the tests take for left shared memory: all that is this run's, and nothing of other programs."""

import os
import subprocess
import sys

import leaks
import pytest


@pytest.fixture
def stranger():
    """A process that is counted for one outside this run."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()
    process.stdin.close()


def dead_pid():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def statistics(pid, namespace=None):
    return f"kvoshim-stats-{os.getuid()}-{pid}-{leaks.namespace(os.getpid()) if namespace is None else namespace}"


def test_what_this_run_has_left_is_found(tmp_path):
    memory = leaks.SharedMemory(str(tmp_path))
    names = {statistics(dead_pid()), statistics(dead_pid(), 4), f"kvoshim-{dead_pid()}", "kvo-without-a-number"}
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    for name in (*names, statistics(child.pid), statistics(os.getpid()), "of-somebody-else"):
        (tmp_path / name).touch()
    assert memory.look() == names | {statistics(child.pid)}
    child.communicate(b"\n")
    assert memory.look() == names | {statistics(child.pid)}, "also when it has ended"


def test_what_others_have_is_theirs_while_they_live_and_when_they_have_died(tmp_path, stranger, monkeypatch):
    memory = leaks.SharedMemory(str(tmp_path), ours=lambda: {os.getpid()})
    names = [statistics(stranger.pid), statistics(7, 12345), f"kvoshim-{stranger.pid}-1234567890"]
    real = leaks.namespace
    monkeypatch.setattr(leaks, "namespace", lambda pid: 12345 if pid == stranger.pid else real(pid))
    for name in names:
        (tmp_path / name).touch()
    assert memory.look() == set()
    stranger.kill()
    stranger.wait()
    assert memory.look() == set(), "nobody here has made them"
    (tmp_path / names[0]).unlink()
    assert memory.look() == set()
    (tmp_path / names[0]).touch()
    assert memory.look() == {names[0]}, "another one that has the same PID"
