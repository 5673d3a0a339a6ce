"""A real spawner with configd and startd, in a directory of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from kvoshim.process import ControlClient
from kvoshim.services import stack
from kvoshim.services.configd.client import Client, updated
from kvoshim.services.core import explain, looking
from kvoshim.services.core.model import Definition, Dependency, Method
from kvoshim.services.core.operations import Enable, Import, Refresh
from kvoshim.services.core.states import UP, Phase

QUICK = {"delay-s": 0.01, "cap-s": 0.05, "limit": 3}


class Services:
    def __init__(self, place: Path, monkeypatch) -> None:
        self.place = place
        self.directory = str(place / "repository")
        (place / "run").mkdir(mode=0o700, exist_ok=True)
        for name in list(os.environ):
            if name.startswith(("KVOSHIM_", "XDG_")) and name != "KVOSHIM_WARMUP":
                monkeypatch.delenv(name)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(place / "run"))
        monkeypatch.setenv("KVOSHIM_SERVICES", self.directory)
        monkeypatch.setenv("KVOSHIM_CONTROLLER", str(place / "controller.sock"))
        self.spawner: subprocess.Popen | None = None
        self.client: Client | None = None

    # --- life ---------------------------------------------

    def up(self) -> None:
        os.makedirs(self.directory, 0o700, exist_ok=True)
        self.log = open(os.path.join(self.directory, "spawner.log"), "ab")  # noqa: SIM115
        self.spawner = subprocess.Popen(stack.spawner_command(self.directory, grace_s=10.0), stdout=self.log, stderr=self.log)
        self.until(lambda: stack.answers(self.directory), "startd does not answer")
        self.client = Client(self.directory)

    def close(self) -> None:
        if self.client is not None:
            self.client.close()
        if self.spawner is None:
            return
        if self.spawner.poll() is None:
            self.spawner.send_signal(signal.SIGTERM)
        try:
            self.spawner.wait(30)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(self.spawner.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            self.spawner.kill()
            self.spawner.wait()
            raise AssertionError(f"the spawner did not end in order:\n{self.said()}") from None
        finally:
            self.log.close()

    def said(self) -> str:
        logs = sorted(Path(self.directory, "logs").glob("*.log")) if os.path.isdir(os.path.join(self.directory, "logs")) else []
        printed = "\n".join(f"{one.name}: {one.read_text(errors='replace')[-500:]}" for one in logs)
        return f"{Path(self.directory, 'spawner.log').read_text(errors='replace')[-4000:]}\n{printed}"

    def startd(self) -> psutil.Process | None:
        for child in psutil.Process(self.spawner.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "startd" in child.cmdline():
                    return child
        return None

    # --- asking ---------------------------------------------

    def until(self, done, what: str, seconds: float = 30.0):
        deadline = time.monotonic() + seconds
        while not (found := done()):
            if self.spawner.poll() is not None:
                raise AssertionError(f"the spawner has ended:\n{self.said()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}; {self.states()}\n{self.said()}")
            time.sleep(0.01)
        return found

    def nodes(self):
        return looking.nodes_of(self.client.read().services)

    def states(self) -> dict:
        if self.client is None:
            return {}
        return {name: (str(node.status.phase), node.status.run, node.status.reason) for name, node in self.nodes().items()}

    def wait(self, done, seconds: float = 30.0) -> dict:
        """Waits for a condition on all nodes; by what configd tells."""
        deadline = time.monotonic() + seconds
        services = dict(self.client.watch().services)
        try:
            while not done(nodes := looking.nodes_of(services)):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"it did not come to that: {self.states()}\n{self.said()}")
                for happened in self.client.changes(left):
                    services = updated(services, happened)
            return nodes
        finally:
            self.client.watch(False)
            self.client.happened.clear()

    def wait_for(self, name: str, *phases: Phase, reason: str = "", run: int = 0):
        full = f"{name}:default"

        def done(nodes):
            status = nodes[full].status
            return status.phase in phases and reason in status.reason and status.run >= run

        return self.wait(done)[full].status

    def online(self, *names: str) -> dict:
        return self.wait(lambda nodes: all(nodes[f"{name}:default"].status.phase in UP for name in names))

    def status(self, name: str):
        return self.nodes()[f"{name}:default"].status

    def explain(self, name: str):
        return explain.explain(f"{name}:default", self.nodes(), os.path.exists)

    def order(self, command: str, **arguments):
        return stack.order(self.directory, command, arguments)

    def answers(self) -> float:
        """Seconds that the control channel needs for an answer."""
        began = time.monotonic()
        with ControlClient(os.path.join(self.directory, "startd.ctl"), 10.0) as control:
            control.call("status-get")
        return time.monotonic() - began

    # --- changing ---------------------------------------------

    def add(self, *definitions: Import) -> None:
        names = [f"{one.service}:default" for one in definitions]
        self.client.transact(*definitions, *(Refresh(target=name) for name in names))

    def enable(self, name: str, enabled: bool = True, temporary: bool = False) -> None:
        self.client.transact(Enable(target=f"{name}:default", enabled=enabled, temporary=temporary))

    def log_of(self, name: str) -> str:
        try:
            return Path(self.directory, "logs", f"{name}:default.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""


def service(
    name: str, *start: str, needs=(), grouping="require-all", restart_on="restart", enabled=True, methods=None, timeout_s=30.0,
    env=None, limits=None, dependencies=None, **groups,
) -> Import:  # fmt: skip
    """An import of a service with one instance. start: the program; none: a milestone."""
    found = dict(methods or {})
    if start:
        found["start"] = Method(exec=start, timeout_s=timeout_s, env=env or {}, limits=limits or {})
    depends = dict(dependencies or {})
    if needs:
        depends["needs"] = Dependency(grouping, tuple(needs), restart_on)
    named = {key.replace("_", "-"): value for key, value in groups.items()}
    return Import(
        service=name,
        definition=Definition(methods=found, dependencies=depends, groups={"restart": QUICK, **named}),
        instances={"default": Definition(groups={"general": {"enabled": enabled}})},
    )


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


SLEEP = ("/bin/sleep", "1000")

