"""The three processes that keep services alive, as one: the spawner, which starts configd and startd and keeps them alive."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from kvoshim.errors import ControlError, ControlUnavailableError, KvoshimError, RepositoryUnavailableError
from kvoshim.process.client import ControlClient
from kvoshim.services.configd import place
from kvoshim.services.configd.client import Client
from kvoshim.services.spawner import program
from kvoshim.services.startd.daemon import control_path, spawner_path

_LOOK_S = 0.02


def spawner_command(directory: str, grace_s: float = 30.0) -> list[str]:
    """The command line that starts all three for a repository."""
    kvoshim = [sys.executable, "-P", "-m", "kvoshim"]
    return program.command(
        spawner_path(directory),
        [[*kvoshim, "configd", "--directory", directory], [*kvoshim, "startd", "--directory", directory]],
        grace_s=grace_s,
    )


def answers(directory: str) -> bool:
    """Whether a restarter serves this repository, and has found it."""
    try:
        with ControlClient(control_path(directory), 5.0) as client:
            return client.call("status-get").get("repository") == "there"
    except (ControlUnavailableError, ControlError):
        return False


def bring_up(directory: str, timeout_s: float = 60.0) -> bool:
    """Starts the three if they do not run, and waits until they answer; whether they had to be started.

    RepositoryUnavailableError: they did not come up in that time; its text says where they have written why."""
    if answers(directory):
        return False
    os.makedirs(directory, 0o700, exist_ok=True)
    log = os.path.join(directory, "spawner.log")
    with open(log, "ab") as output:
        started = subprocess.Popen(
            spawner_command(directory), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + timeout_s
    while not answers(directory):
        if (code := started.poll()) is not None and code != 3:  # 3: another one runs, and is on its way as well
            raise RepositoryUnavailableError(f"the spawner ended with code {code}: see {log}")
        if time.monotonic() > deadline:
            raise RepositoryUnavailableError(f"the restarter does not answer after {timeout_s:g} s: see {log}")
        time.sleep(_LOOK_S)
    return True


def bring_down(directory: str, timeout_s: float = 60.0) -> bool:
    """Stops all services in order, and the three; False if none runs. RepositoryUnavailableError: not within that time."""
    try:
        order(directory, "close", {})
    except ControlUnavailableError:
        return False
    deadline = time.monotonic() + timeout_s
    while os.path.exists(spawner_path(directory)) and _listens(directory):
        if time.monotonic() > deadline:
            raise RepositoryUnavailableError(f"the services have not stopped within {timeout_s:g} s")
        time.sleep(_LOOK_S)
    return True


def _listens(directory: str) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(spawner_path(directory))
        except OSError:
            return False
    return True


def order(directory: str, command: str, arguments: dict[str, str]) -> dict:
    """A command to startd. ControlError, ControlUnavailableError."""
    with ControlClient(control_path(directory)) as client:
        return client.call(command, arguments or None) or {}


def manifests_of(paths: Sequence[str]) -> list[str]:
    """The files that are meant: a directory's are all of its *.json. KvoshimError."""
    found: list[str] = []
    for path in paths:
        if os.path.isdir(path):
            inside = sorted(os.path.join(path, name) for name in os.listdir(path) if name.endswith(".json"))
            if not inside:
                raise KvoshimError(f"{path} has no *.json in it")
            found += inside
        else:
            found.append(path)
    return found


def shipped() -> str:
    """The directory of the manifests that come with kvoshim."""
    import importlib.resources

    return str(importlib.resources.files("kvoshim.services") / "manifests")


def client(directory: str) -> Client:
    return Client(place.repository_directory(directory))
