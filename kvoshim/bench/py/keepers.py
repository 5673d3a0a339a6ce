"""What services.py measures: what keeps programs alive, each with its own settings but for what is said here.

one(path, program): keeps one program alive. Of kvoshim alone: repository(path): a client of the repository; many(path, count,
program, chain): gives what starts and what stops that many services; flapping(path, count, program): that many that end at once,
gives what asks the control channel; daemons(): names and process numbers.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from waiting import until

Command = tuple[str, ...]
UP_S = 120.0
OTHERS_END_S = 10.0


@contextmanager
def running(*command: object, log: str, patience_s: float = UP_S) -> Iterator[subprocess.Popen]:
    """A program that keeps others alive; it and they end with this. TimeoutExpired if it does not end in order in time."""
    with open(log, "ab") as output:
        process = subprocess.Popen([*map(str, command)], stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(patience_s)
        finally:
            process.kill()
            process.wait()


class Kvoshim:
    def __init__(self) -> None:
        self.spawner = 0

    @staticmethod
    def importing(name: str, program: Command, enabled: bool, after: str = "", **restart: object):
        from kvoshim.services.core.model import Definition, Dependency, Method
        from kvoshim.services.core.operations import Import

        methods = {"start": Method(exec=program)} if program else {}
        dependencies = {"after": Dependency("require-all", (after,))} if after else {}
        groups = {"restart": {key.replace("_", "-"): value for key, value in restart.items()}} if restart else {}
        return Import(
            service=name,
            definition=Definition(methods=methods, dependencies=dependencies, groups=groups),
            instances={"default": Definition(groups={"general": {"enabled": enabled}})},
        )

    @contextmanager
    def repository(self, path: str) -> Iterator:
        from kvoshim.services.configd import place
        from kvoshim.services.configd.client import Client

        directory = self.directory(path)
        with running(sys.executable, "-P", "-m", "kvoshim", "configd", "--directory", directory, log=path + ".log"):
            until(lambda: os.path.exists(place.socket_path(directory)))
            with Client(directory) as client:
                yield client

    @staticmethod
    def directory(path: str) -> str:
        directory = path + ".services"
        os.environ["XDG_RUNTIME_DIR"] = path + ".run"
        for one in (directory, os.environ["XDG_RUNTIME_DIR"]):
            os.makedirs(one, 0o700, exist_ok=True)
        return directory

    @contextmanager
    def all_three(self, path: str) -> Iterator[tuple[str, object]]:
        from kvoshim.services import stack
        from kvoshim.services.configd.client import Client

        directory = self.directory(path)
        with running(*stack.spawner_command(directory, 10.0), log=path + ".log") as spawner:
            self.spawner = spawner.pid
            until(lambda: stack.answers(directory), UP_S)
            with Client(directory) as client:
                yield directory, client

    def daemons(self) -> dict[str, int]:
        spawner = psutil.Process(self.spawner)
        found = {"spawner": spawner.pid}
        for one in spawner.children():
            with suppress(psutil.NoSuchProcess):
                words = one.cmdline()
                found |= {name: one.pid for name in ("configd", "startd") if name in words}
        return found

    @contextmanager
    def one(self, path: str, program: Command) -> Iterator[None]:
        with self.all_three(path) as (_, client):
            client.transact(self.importing("bench/one", program, True, healthy_s=0.5))
            yield

    @contextmanager
    def many(self, path: str, count: int, program: Command, chain: int) -> Iterator[tuple[Callable, Callable]]:
        from kvoshim.services.configd.client import updated
        from kvoshim.services.core import looking
        from kvoshim.services.core.operations import Enable
        from kvoshim.services.core.states import Phase

        names = [f"bench/many{number}" for number in range(count)]
        befores = [names[number - 1] if number % chain else "" for number in range(count)]
        with self.all_three(path) as (_, client):
            client.transact(*(self.importing(name, program, False, before) for name, before in zip(names, befores, strict=True)))

            def become(enabled: bool, phase: Phase) -> None:
                services = dict(client.watch().services)
                client.submit([Enable(target=f"{name}:default", enabled=enabled) for name in names])
                deadline = time.monotonic() + UP_S
                while any(node.status.phase is not phase for node in looking.nodes_of(services).values()):
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"not all services have become {phase}")
                    for happened in client.changes(1.0):
                        services = updated(services, happened)
                client.watch(False)
                client.happened.clear()

            yield lambda: become(True, Phase.ONLINE), lambda: become(False, Phase.DISABLED)

    @contextmanager
    def flapping(self, path: str, count: int, program: Command) -> Iterator[Callable]:
        from kvoshim.process import ControlClient
        from kvoshim.services.startd.daemon import control_path

        with self.all_three(path) as (directory, client):
            again = {"delay_s": 0.02, "cap_s": 0.02, "limit": 1_000_000}
            client.transact(*(self.importing(f"bench/flapping{number}", program, True, **again) for number in range(count)))
            with ControlClient(control_path(directory), UP_S) as control:
                yield lambda: control.call("status-get")


class Fork:
    """A loop that starts programs, and nothing else."""

    @contextmanager
    def many(self, path: str, count: int, program: Command, chain: int) -> Iterator[tuple[Callable, Callable]]:
        started: list[int] = []

        def stop() -> None:
            for pid in started:
                os.kill(pid, signal.SIGKILL)
            for pid in started:
                os.waitpid(pid, 0)
            started.clear()

        try:
            yield lambda: started.extend(os.posix_spawn(program[0], program, os.environ) for _ in range(count)), stop
        finally:
            stop()


class Fsync:
    record = 218  # bytes: what the journal writes for a transaction of one property


@contextmanager
def other(*command: object, log: str) -> Iterator[None]:
    """The same for what is not ours: however long it would take, it ends here (circusd now and then ignores SIGTERM)."""
    with suppress(subprocess.TimeoutExpired), running(*command, log=log, patience_s=OTHERS_END_S) as process:
        try:
            yield
        finally:
            kept = psutil.Process(process.pid).children(recursive=True)
    for one in kept:
        with suppress(psutil.NoSuchProcess):
            one.kill()


class Supervisord:
    @contextmanager
    def one(self, path: str, program: Command) -> Iterator[None]:
        script, file = written(path, program), Path(path + ".conf")
        file.write_text(
            f"[supervisord]\nnodaemon=true\nlogfile={path}.supervisord\npidfile={path}.pid\n"
            f"[program:one]\ncommand={script}\nautorestart=true\nstdout_logfile=NONE\nstderr_logfile=NONE\n"
        )
        with other(sys.executable, "-m", "supervisor.supervisord", "-c", file, log=path + ".log"):
            yield


class Circus:
    @contextmanager
    def one(self, path: str, program: Command) -> Iterator[None]:
        script, file = written(path, program), Path(path + ".ini")
        ends = "".join(f"{name} = ipc://{path}.{name}\n" for name in ("endpoint", "pubsub_endpoint"))
        file.write_text(f"[circus]\n{ends}[watcher:one]\ncmd = {script}\n")
        with other(sys.executable, "-m", "circus.circusd", file, log=path + ".log"):
            yield


class S6:
    @contextmanager
    def one(self, path: str, program: Command) -> Iterator[None]:
        folder = Path(path + ".s6", "one")
        folder.mkdir(parents=True)
        written(path, program).rename(folder / "run")
        with other("s6-svscan", folder.parent, log=path + ".log"):
            yield


def written(path: str, program: Command) -> Path:
    """A script that becomes the program."""
    file = Path(path + ".program")
    *start, last = program
    file.write_text(f"#!/bin/sh\nexec {' '.join(start)} '{last}'\n")
    file.chmod(0o755)
    return file


WAYS = {"kvoshim": Kvoshim(), "fsync": Fsync(), "fork": Fork(), "supervisord": Supervisord(), "circus": Circus(), "s6": S6()}
