"""What the spawner's tests share: a spawner in a directory of its own, its controllers, and orders. Not a test module; conftest.py
loads it."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from kvoshim.services.spawner import program
from kvoshim.services.spawner.client import SpawnerClient
from kvoshim.services.spawner.messages import Order

WAIT_S = 30.0  # a watchdog, not an expectation
PYTHON = os.path.realpath(sys.executable)  # that every user can run
tokens = itertools.count(1)


def until(condition, what: str = ""):
    """Waits until condition() is true and returns what it gave."""
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"did not come true within {WAIT_S:g} s: {what}"
        time.sleep(0.003)
    return found


def shell(script: str, **fields) -> Order:
    """An order for a shell with this script; PATH is set."""
    fields.setdefault("token", next(tokens))
    fields.setdefault("env", {"PATH": os.environ["PATH"]})
    return Order(program="/bin/sh", args=("sh", "-c", script), **fields)


def python(script: str, **fields) -> Order:
    """An order for this Python with this script."""
    fields.setdefault("token", next(tokens))
    return Order(program=PYTHON, args=(PYTHON, "-I", "-S", "-c", script), **fields)


def sleeper(**fields) -> Order:
    fields.setdefault("token", next(tokens))
    return Order(program="/bin/sleep", args=("sleep", "1000"), **fields)


class Host:
    """A directory with a running spawner. words in front of its command: `prefix`, such as unshare's."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kvo-", dir="/tmp"))
        self.socket = str(self.directory / "spawner")
        self.process: subprocess.Popen | None = None
        self.clients: list[SpawnerClient] = []

    def start(self, *daemons, prefix=(), environment=None, **options) -> subprocess.Popen:
        command = [*prefix, *program.command(self.socket, daemons, **options)]
        with open(self.directory / "stderr", "ab") as said:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=said, env=environment)
        until(lambda: self.listens() or self.process.poll() is not None, "it listens")
        return self.process

    def listens(self) -> bool:
        """Whether somebody does at the socket: its path is there a moment earlier."""
        with open("/proc/net/unix") as table:
            return any(line.endswith(f" {self.socket}\n") and line.split()[3] == "00010000" for line in table)

    def said(self) -> str:
        return (self.directory / "stderr").read_text()

    def client(self) -> SpawnerClient:
        client = SpawnerClient(self.socket, WAIT_S)
        self.clients.append(client)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()
        process = self.process
        if process is not None:
            for _ in range(500):  # from the second one on it is impatient
                if process.poll() is not None:
                    break
                for one in [process, *psutil.Process(process.pid).children()]:
                    try:
                        one.send_signal(signal.SIGTERM)
                    except psutil.Error:
                        continue
                time.sleep(0.02)
            process.kill()
            process.wait()
        shutil.rmtree(self.directory)


@pytest.fixture
def place(no_leaks):
    """A directory where a test starts a spawner in its own way."""
    host = Host()
    yield host
    host.close()


@pytest.fixture
def host(place):
    """A running spawner without daemons."""
    place.start(term_s=0.5)
    return place


def event(client: SpawnerClient, kind: type | tuple[type, ...]):
    """The next unasked message, which is of this kind."""
    message = client.receive(WAIT_S)
    assert isinstance(message, kind), message
    return message
