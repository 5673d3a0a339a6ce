"""What the tests of the registry share: a home and a run directory of their own, peers that are real processes, and the promise that
nothing is left over. Not a test module."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from kvoshim.process.client import ControlClient
from kvoshim.registry.client import pool
from kvoshim.registry.seat import policy, portfile

PEER = Path(__file__).with_name("registry_peer.py")
WAIT_S = 60.0  # a watchdog, not an expectation


def until(condition, what: str = "", timeout: float = WAIT_S):
    """Waits until condition() is true and returns what it gave; fails loudly."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"did not come true within {timeout:g} s: {what or condition}")
        time.sleep(0.005)
    return found


class Peer:
    """A process that does what it is told, one JSON line a command; its events (what its searches see) are collected."""

    def __init__(self, environment: dict[str, str], *arguments: str, prefix: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-P", str(PEER), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd="/",
        )
        self.events: list[dict] = []
        self._answers: queue.Queue = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read(self) -> None:
        for line in self.process.stdout:
            message = json.loads(line)
            if "event" in message:
                self.events.append(message["event"])
            else:
                self._answers.put(message)
        self._answers.put({"error": "EOF"})

    def tell(self, command: str, *arguments) -> None:
        """Gives a command without waiting for its answer."""
        self.process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self.process.stdin.flush()

    def answer(self, timeout: float = WAIT_S):
        """The next answer; AssertionError with the peer's error if it failed."""
        try:
            message = self._answers.get(timeout=timeout)
        except queue.Empty:
            pytest.fail(f"the peer of PID {self.pid} has not answered for {timeout:g} s")
        assert "error" not in message, message["error"]
        return message["result"]

    def do(self, command: str, *arguments, timeout: float = WAIT_S):
        self.tell(command, *arguments)
        return self.answer(timeout)

    def seen(self, kind: str | None = None) -> list:
        """(kind, name, pid) of the events so far, or (name, pid) of those of one kind."""
        events = list(self.events)
        if kind is None:
            return [(event["kind"], event.get("name"), event.get("pid")) for event in events]
        return [(event.get("name"), event.get("pid")) for event in events if event["kind"] == kind]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(WAIT_S)

    def close(self) -> None:
        """Ends the peer in order; one that does not is killed and counts as a failure."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"the peer of PID {self.pid} did not end")
        finally:
            self._thread.join(WAIT_S)
            self.process.stdout.close()


class Stage:
    """A directory that every user may enter, with a home and a run directory of this user's, and all that runs there. prefix: of the
    words of all that is run."""

    prefix: Sequence[str] = ()

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kvo-reg-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.home = self.directory / "home"
        self.run = self.directory / "run"
        self.home.mkdir(0o700)
        self.run.mkdir(0o700)
        self.log = self.directory / "log"
        self.log.touch()
        self.log.chmod(0o666)
        self.environment = {
            **os.environ,
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.run),
            "KVOSHIM_REGISTRY_CONFIG": str(self.directory / "registry.json"),
            "KVOSHIM_LOG_FILE": str(self.log),
            "KVOSHIM_LOG": "debug",
            "PYTHONWARNINGS": "error",
        }
        self.environment.pop("KVOSHIM_REGISTRY", None)
        self.peers: list[Peer] = []
        self.daemons: list[subprocess.Popen] = []

    def configure(self, **section) -> Path:
        """Writes the registry's configuration file: its section, as JSON."""
        path = self.directory / "registry-daemon.json"
        path.write_text(json.dumps({"registry": section}))
        return path

    def peer(self, *arguments: str, user: int | None = None, **environment: str) -> Peer:
        """user: who it is to be, in place of this one."""
        peer = Peer({**self.environment, **environment}, *arguments, prefix=self.prefix)
        self.peers.append(peer)
        if user is not None:
            peer.do("become", user)
        return peer

    def serve(self, *options: str, **environment: str) -> subprocess.Popen:
        """Starts a registry in the foreground and waits until it serves."""
        process = subprocess.Popen(
            [*self.prefix, sys.executable, "-P", "-m", "kvoshim", "registry", "serve", *options],
            env={**self.environment, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.daemons.append(process)
        line = process.stderr.readline()
        assert "serving" in line, line
        return process

    def kvoshim(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        """Runs the command line."""
        return subprocess.run(
            [*self.prefix, sys.executable, "-P", "-m", "kvoshim", *arguments],
            env={**self.environment, **environment},
            text=True,
            capture_output=True,
            timeout=WAIT_S,
            check=check,
        )

    def registry_pid(self) -> int:
        """Of the user's registry, by its port file; 0: none."""
        record = portfile.read(str(self.run / "kvoshim" / "registry"), os.geteuid()).record
        return record.pid if record is not None and psutil.pid_exists(record.pid) else 0

    def ask(self, command: str, arguments=None):
        """Gives the registry a command of its control channel."""
        with ControlClient(str(self.run / "kvoshim" / "registry.ctl")) as client:
            return client.call(command, arguments)

    def registry_pids(self) -> list[int]:
        """The registries that run here, whoever started them."""
        return self._pids("serve")

    def controller_pids(self) -> list[int]:
        """The same of controllers of Key-Value Observation."""
        return self._pids("controller")

    def _pids(self, word: str) -> list[int]:
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.status() != psutil.STATUS_ZOMBIE
                    and process.environ().get("KVOSHIM_REGISTRY_CONFIG") == self.environment["KVOSHIM_REGISTRY_CONFIG"]
                    and word in process.cmdline()
                ):
                    found.append(process.pid)
            except psutil.Error:
                pass
        return found

    def log_text(self) -> str:
        return self.log.read_text()

    def close(self) -> None:
        try:
            for peer in self.peers:
                peer.close()
        finally:
            pool.close()
            for process in self.daemons:
                if process.poll() is None:
                    process.terminate()
                process.wait(WAIT_S)
                process.stderr.close()
            for pids in (self.controller_pids, self.registry_pids):  # started by clients
                for pid in pids():
                    os.kill(pid, signal.SIGTERM)
                until(lambda pids=pids: not pids(), "the daemons end at SIGTERM")
            shutil.rmtree(self.directory)


@pytest.fixture(autouse=True)
def nothing_left(no_leaks):
    """Beyond what is checked for every test: no thread is left, and no store is left mapped."""
    threads = set(threading.enumerate())
    yield
    gc.collect()
    until(lambda: not [t for t in threading.enumerate() if t not in threads], "the threads of the test end", 10)
    with open("/proc/self/maps") as maps:
        mapped = [line.split()[-2:] for line in maps if "kvoshim-store" in line]
    assert not mapped, f"shared memory left mapped: {mapped}"


@pytest.fixture
def stage(nothing_left, monkeypatch):
    """A stage; this process's registry is there too."""
    stage = Stage()
    for name in ("HOME", "XDG_RUNTIME_DIR", "KVOSHIM_REGISTRY_CONFIG", "KVOSHIM_LOG_FILE"):
        monkeypatch.setenv(name, stage.environment[name])
    monkeypatch.delenv("KVOSHIM_REGISTRY", raising=False)
    monkeypatch.setattr(policy, "_policy", policy.Policy(timeout=60.0))
    monkeypatch.setattr(policy, "_settled", False)
    yield stage
    stage.close()
