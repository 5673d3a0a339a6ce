"""What the tests of the registry's seat share: a home and a run directory of their own, small registries (holder.py) and clients
(client.py) that are real processes, and the promise that nothing is left over. Not a test module; conftest.py loads it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from kvoshim.registry import seat
from kvoshim.registry.seat import policy, portfile
from kvoshim.registry.seat.scope import host_name

FOLDER = Path(__file__).parent
HOLDER = [sys.executable, "-P", str(FOLDER / "holder.py")]
WAIT_S = 30.0  # a watchdog, not an expectation
USER = seat.Scope()


def until(condition, what: str = "", timeout: float = WAIT_S):
    """Waits until condition() is true and returns what it gave; fails loudly."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"did not come true within {timeout:g} s: {what or condition}")
        time.sleep(0.005)
    return found


class Client:
    """A process that finds its registry and says what it found, as often as it is told to (client.py)."""

    def __init__(self, environment: dict[str, str], *arguments: str, user: int | None = None) -> None:
        become = [] if user is None else ["--user", str(user)]
        self.process = subprocess.Popen(
            [sys.executable, str(FOLDER / "client.py"), *become, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd="/",
        )

    def tell(self, command: str) -> None:
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        assert line, f"the client of PID {self.process.pid} has ended"
        return json.loads(line)

    def do(self, command: str) -> dict:
        self.tell(command)
        return self.answer()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(WAIT_S)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


class Stage:
    """A directory that every user may enter, with a home and a run directory of this user's."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kvo-seat-", dir="/tmp"))
        self.directory.chmod(0o755)
        self.home = self.directory / "home"
        self.run = self.directory / "run"
        self.home.mkdir(0o700)
        self.run.mkdir(0o700)
        self.environment = {
            **os.environ,
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.run),
            "KVOSHIM_REGISTRY_CONFIG": str(self.directory / "registry.json"),
            "KVOSHIM_LOG_FILE": str(self.directory / "log"),
            "PYTHONWARNINGS": "error",
        }
        self.environment.pop("KVOSHIM_REGISTRY", None)
        self.clients: list[Client] = []
        self.holders: list[subprocess.Popen] = []
        self._contacts: list[seat.Contact] = []

    # --- what there is ---------------------------------------------

    @property
    def port_file(self) -> Path:
        """Below the home directory, named as the host."""
        return self.home / ".kvoshim" / "registry" / host_name()

    @property
    def own_file(self) -> Path:
        """The one in the run directory."""
        return self.run / "kvoshim" / "registry"

    @property
    def known_place(self) -> str:
        return str(self.run / "kvoshim" / "registry.sock")

    def record(self, path: Path | None = None) -> portfile.Record | None:
        return portfile.read(str(path or self.port_file), os.geteuid()).record

    def holder_pids(self) -> list[int]:
        """The registries that run on this stage."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            with contextlib.suppress(psutil.Error):
                words = process.info["cmdline"] or []
                if words[: len(HOLDER)] == HOLDER and process.environ().get("HOME") == str(self.home):
                    if process.info["status"] != psutil.STATUS_ZOMBIE:
                        found.append(process.pid)
        return sorted(found)

    # --- who acts ---------------------------------------------

    def connect(self, scope: seat.Scope | None = None, timeout: float = WAIT_S, start=HOLDER) -> seat.Contact:
        """A contact of this process's."""
        contact = seat.connect(scope, timeout, start=start)
        self._contacts.append(contact)
        return contact

    def race(self, scope: seat.Scope, timeout: float = WAIT_S, start=HOLDER) -> seat.Contact:
        contact = seat.race(scope, timeout, start=start)
        self._contacts.append(contact)
        return contact

    def client(self, *arguments: str, user: int | None = None, **environment: str) -> Client:
        client = Client({**self.environment, **environment}, *arguments, user=user)
        self.clients.append(client)
        return client

    def holder(self, *arguments: str, scope: str = "user", ready: bool = True, **environment: str) -> subprocess.Popen:
        """A registry in the foreground; with `ready`, one that serves."""
        reader, writer = os.pipe()
        words = [*HOLDER, "--scope", scope, "--ready-fd", str(writer), *arguments]
        process = subprocess.Popen(words, pass_fds=[writer], stdout=subprocess.PIPE, env={**self.environment, **environment})
        os.close(writer)
        self.holders.append(process)
        with os.fdopen(reader, "rb") as answer:
            if ready:
                assert answer.read(1) == b"\n", f"the holder ended with {process.wait()}"
        return process

    def kill(self, pid: int) -> None:
        """Ends a registry as a crash does; returns when it is gone, with all its threads and locks."""
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        ended, _, _ = select.select([pidfd], [], [], WAIT_S)
        os.close(pidfd)
        assert ended

    @staticmethod
    def stop(pid: int) -> None:
        """Stops a registry; returns when all its threads stand still."""
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)  # in the background, too, it is a child of this process, once its parent has ended

    def close(self) -> None:
        for contact in self._contacts:
            contact.sock.close()
        for process in self.holders:  # clients may wait for them
            process.kill()
            process.wait()
            process.stdout.close()
        for client in self.clients:
            client.close()
        for pid in self.holder_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not self.holder_pids())
        shutil.rmtree(self.directory)


@pytest.fixture
def stage(monkeypatch):
    """A stage; this process's environment is that of its processes, and its policy the default."""
    made = Stage()
    for name in ("HOME", "XDG_RUNTIME_DIR", "KVOSHIM_REGISTRY_CONFIG"):
        monkeypatch.setenv(name, made.environment[name])
    monkeypatch.delenv("KVOSHIM_REGISTRY", raising=False)
    monkeypatch.setattr(policy, "_policy", policy.Policy())
    monkeypatch.setattr(policy, "_settled", False)
    yield made
    made.close()


def said_pid(contact: seat.Contact) -> int:
    """What a holder says once its client has proved itself: its PID."""
    contact.sock.settimeout(WAIT_S)
    data = b""
    while not data.endswith(b"\n"):
        more = contact.sock.recv(64)
        assert more, "the registry has closed the connection"
        data += more
    return int(data)
