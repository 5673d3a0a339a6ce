"""What the tests of Key-Value Observation share: a controller of their own, peers that are real processes,
and the promise that nothing is left over. Not a test module; the conftest.py files of tests/kvo and tests/cli
load it."""

from __future__ import annotations

import functools
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

PEER = Path(__file__).with_name("kvo_peer.py")
WAIT_S = 30.0  # a watchdog, not an expectation


def until(condition, what: str = "", timeout: float = WAIT_S):
    """Waits until condition() is true and returns what it gave; fails loudly."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"did not come true within {timeout:g} s: {what or condition}")
        time.sleep(0.005)


class Peer:
    """A process that does what it is told, one JSON line a command; its events (changes seen) are
    collected."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(PEER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
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

    def values(self, key: str | None = None, kinds=("initial", "setting")) -> list:
        return [
            event["new"]
            for event in list(self.events)
            if event["kind"] in kinds and (key is None or event["key"] == key)
        ]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(WAIT_S)

    def close(self) -> None:
        """Ends the peer in order; one that does not is killed and counts as a failure."""
        try:
            self.process.stdin.close()
        except OSError:
            pass
        try:
            self.process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"the peer of PID {self.pid} did not end")
        finally:
            self._thread.join(WAIT_S)
            self.process.stdout.close()


class Place:
    """A directory with a controller's socket, and everything that runs there."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kvo-", dir="/tmp"))
        self.socket = str(self.directory / "c")
        self.log = self.directory / "log"
        self.environment = {
            **os.environ,
            "KVOSHIM_CONTROLLER": self.socket,
            "KVOSHIM_LOG_FILE": str(self.log),
            "KVOSHIM_LOG": "debug",
            "PYTHONWARNINGS": "error",
        }
        self.peers: list[Peer] = []
        self.controllers: list[subprocess.Popen] = []

    def configure(self, **section) -> Path:
        """Writes the controller's configuration file: its section, as JSON."""
        path = self.directory / "controller.json"
        path.write_text(json.dumps({"controller": section}))
        return path

    def open_to_others(self) -> None:
        """Lets other users reach the controller's sockets."""
        self.directory.chmod(0o755)

    def controller(self, *options: str) -> subprocess.Popen:
        """Starts a controller in the foreground and waits until it serves."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "kvoshim", "controller", *options],
            env=self.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.controllers.append(process)
        line = process.stderr.readline()
        assert "serving" in line, line
        return process

    def peer(self, uid: int | None = None, groups: Sequence[int] = ()) -> Peer:
        """uid: of the user that it is to be, in place of this one."""
        peer = Peer(self.environment)
        self.peers.append(peer)
        if uid is not None:
            peer.do("become", uid, groups)
        return peer

    def kvoshim(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
        """Runs the command line."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "kvoshim", *arguments],
            env={**self.environment, **environment},
            text=True,
            capture_output=True,
            timeout=WAIT_S,
            check=check,
        )

    def controller_pids(self) -> list[int]:
        """The controllers that serve this place, whoever started them."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.status() != psutil.STATUS_ZOMBIE
                    and "controller" in process.cmdline()
                    and process.environ().get("KVOSHIM_CONTROLLER") == self.socket
                ):
                    found.append(process.pid)
            except psutil.Error:
                pass
        return found

    def log_text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def close(self) -> None:
        try:
            for peer in self.peers:
                peer.close()
        finally:
            for process in self.controllers:
                if process.poll() is None:
                    process.terminate()
                process.wait(WAIT_S)
                process.stderr.close()
            started = self.controller_pids()  # by clients
            for pid in started:
                os.kill(pid, signal.SIGTERM)
            until(lambda: not self.controller_pids(), "the controllers end at SIGTERM")
            shutil.rmtree(self.directory)


@functools.cache
def _freeze() -> None:
    """Once: what pytest and the modules consist of need not be looked through by each gc.collect()."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_mapped(no_leaks):
    """Beyond what is checked for every test: no thread is left, and no store or table is left mapped."""
    _freeze()
    gc.collect()
    threads = set(threading.enumerate())
    yield
    gc.collect()
    until(lambda: not [t for t in threading.enumerate() if t not in threads], "the threads of the test end", 5)
    with open("/proc/self/maps") as maps:
        mapped = [line.split()[-2:] for line in maps if "kvoshim-store" in line or "kvoshim-table" in line]
    assert not mapped, f"shared memory left mapped: {mapped}"


@pytest.fixture
def place(nothing_mapped, monkeypatch):
    """A place for controllers; KVOSHIM_CONTROLLER points to it in this process too."""
    place = Place()
    monkeypatch.setenv("KVOSHIM_CONTROLLER", place.socket)
    monkeypatch.setenv("KVOSHIM_LOG_FILE", str(place.log))
    yield place
    gc.collect()  # what the test has left to be collected would start another controller when this one ends
    place.close()
