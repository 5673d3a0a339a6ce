"""What the tests of the process layer share: a place with its own runtime directory, and daemons that run there. Not a test
module; conftest.py loads it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from kvoshim.process import ControlClient

DAEMONS = Path(__file__).with_name("daemons.py")
WAIT_S = 30.0  # a watchdog, not an expectation


def until(condition, what: str = ""):
    """Waits until condition() is true and returns what it gave."""
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"did not come true within {WAIT_S:g} s: {what}"
        time.sleep(0.005)
    return found


class Daemon:
    """A running daemon."""

    def __init__(self, place: Place, command: list[str], environment: dict[str, str], pass_fds=()) -> None:
        self.place = place
        self.path = str(place.runtime / "kvoshim" / "greeter.ctl")
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=pass_fds
        )
        self.first = self.process.stderr.readline()

    def client(self) -> ControlClient:
        return ControlClient(self.path, WAIT_S)

    def ask(self, command: str, arguments=None):
        with self.client() as client:
            return client.ask(command, arguments)

    def call(self, command: str, arguments=None):
        with self.client() as client:
            return client.call(command, arguments)

    def log(self) -> str:
        return self.place.log.read_text()

    def end(self) -> tuple[int, str, str]:
        """(exit code, output, errors) of a daemon that ends."""
        out, err = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, out, self.first + err


class Place:
    """A directory with a configuration file, and the daemons that were started there."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kvo-", dir="/tmp"))
        self.runtime = self.directory / "run"
        self.runtime.mkdir()
        self.file = self.directory / "greeter.json"
        self.log = self.directory / "log"
        self.log.touch()
        self.daemons: list[Daemon] = []
        self.environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(self.runtime),
            "KVOSHIM_LOG_FILE": str(self.log),
            "PYTHONWARNINGS": "error",
        }

    def write(self, text: str | None = None, **settings) -> str:
        """Writes the configuration file: a text, or these settings."""
        self.file.write_text(json.dumps({"greeter": settings}) if text is None else text)
        return str(self.file)

    def command(self, kind: str, *options: str) -> list[str]:
        return [sys.executable, "-P", str(DAEMONS), kind, *options]

    def start(self, *options: str, kind: str = "greeter", pass_fds=(), **environment: str) -> Daemon:
        """A daemon by the configuration file, when it is ready."""
        if not self.file.exists():
            self.write()
        command = self.command(kind, "--config", str(self.file), *options)
        daemon = Daemon(self, command, {**self.environment, **environment}, pass_fds)
        self.daemons.append(daemon)
        assert "ready" in daemon.first, daemon.first + daemon.process.stderr.read()
        return daemon

    def run(self, *options: str, kind: str = "greeter", **environment: str) -> subprocess.CompletedProcess:
        """A daemon's command line, run to its end."""
        return subprocess.run(
            self.command(kind, *options),
            env={**self.environment, **environment},
            text=True,
            capture_output=True,
            timeout=WAIT_S,
            check=False,
        )

    def kvoshim(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-P", "-m", "kvoshim", *arguments],
            env=self.environment,
            input=stdin,
            text=True,
            capture_output=True,
            timeout=WAIT_S,
            check=False,
        )

    def close(self) -> None:
        for daemon in self.daemons:
            if daemon.process.poll() is None:
                daemon.process.terminate()
            try:
                daemon.process.communicate(timeout=WAIT_S)
            except subprocess.TimeoutExpired:
                daemon.process.kill()
                daemon.process.communicate()
                raise
            except ValueError:  # its output was read already
                daemon.process.wait(WAIT_S)
        shutil.rmtree(self.directory)


@pytest.fixture
def place(no_leaks):
    place = Place()
    yield place
    place.close()


@pytest.fixture
def daemon(place):
    return place.start()


def alive(daemon: Daemon, clients: int = 1) -> None:
    """The daemon answers, and so many connections are open."""
    until(lambda: daemon.call("status-get")["control"]["clients"] == clients, f"{clients} connections")


@pytest.fixture(scope="module")
def shared_daemon():
    place = Place()
    daemon = place.start()
    daemon.call("greet")  # its statistics segment exists from here on
    yield daemon
    place.close()


@pytest.fixture
def shared(shared_daemon, no_leaks):
    """A daemon for all tests of a module; it has its first configuration again at the beginning of each, and no clients at
    the end."""
    place = shared_daemon.place
    place.write()
    assert shared_daemon.ask("config-reload").result == 0
    shared_daemon.path = str(place.runtime / "kvoshim" / "greeter.ctl")
    place.log.write_text("")
    yield shared_daemon
    alive(shared_daemon)
