"""startd as a daemon of the process layer."""

from __future__ import annotations

import argparse
import os
import resource
import selectors
import time
from collections import Counter
from typing import Any

from kvoshim import process
from kvoshim.errors import ControlError
from kvoshim.process import Arguments, Caller, Configuration, NoArguments, command
from kvoshim.process.process import Shutdown
from kvoshim.services.configd import place
from kvoshim.services.core.states import ALIVE, Event
from kvoshim.services.spawner.client import SpawnerClient
from kvoshim.services.startd.engine import Engine, summary

_CONNECT_S = 30.0


class Settings(Configuration, frozen=True, kw_only=True):
    """What a service is like is in the repository; the restarter itself needs no settings."""


class Target(Arguments):
    target: str
    reason: str = ""


class Mark(Arguments):
    target: str
    state: str = "maintenance"
    reason: str = ""


class StartdProcess(process.Process[Settings]):
    """Restarts services."""

    name = "startd"
    configuration = Settings
    needs_file = False
    loop_factory = staticmethod(lambda: process.Loop(selectors.DefaultSelector()))

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--directory", default="", metavar="DIR", help="of the repository (default: as configd's)")
        parser.add_argument("--spawner", default="", metavar="PATH", help="its socket (default: spawner.sock beside configd's)")

    @classmethod
    def paths(cls, arguments: argparse.Namespace) -> tuple[str, str]:
        directory = place.repository_directory(arguments.directory)
        volatile = place.volatile_directory(directory)
        for path in (volatile, directory):
            try:
                os.makedirs(path, 0o700, exist_ok=True)
            except OSError:
                pass  # what cannot be bound or locked there says so
        return control_path(directory), os.path.join(volatile, "startd.pid")

    def configure(self, settings: Settings, old: Settings | None) -> None:
        if old is None:
            self.engine: Engine | None = None

    def start(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else soft, hard))
        directory = place.repository_directory(self.arguments.directory)
        spawner = SpawnerClient(self.arguments.spawner or spawner_path(directory), _CONNECT_S)
        self.engine = Engine(self.loop, spawner, directory)
        for name in self.engine.counts:
            self.statistics.measure(name, lambda name=name: self.engine.counts[name])
        self.engine.begin()

    def stop(self, how: Shutdown) -> None:
        if self.engine is not None:
            self.engine.end()
            self.engine = None

    # --- for the world ---------------------------------------------

    @command("restart", arguments=Target, access="write", brief="Stops an instance and starts it again.", returns="its status")
    def restart(self, arguments: Target, caller: Caller) -> dict[str, Any]:
        return summary(self.engine.order(arguments.target, Event.RESTART, arguments.reason or "an operator restarts it"))

    @command("clear", arguments=Target, access="write", brief="Says that what was wrong is right.", returns="its status")
    def clear(self, arguments: Target, caller: Caller) -> dict[str, Any]:
        return summary(self.engine.order(arguments.target, Event.CLEARED, arguments.reason))

    @command("mark", arguments=Mark, access="write", brief="Puts it into maintenance, or calls it degraded.", returns="its status")
    def mark(self, arguments: Mark, caller: Caller) -> dict[str, Any]:
        events = {"maintenance": Event.GAVE_UP, "degraded": Event.UNWELL}
        if arguments.state not in events:
            raise ControlError(f"an instance can be marked {' or '.join(events)}, not {arguments.state!r}")
        why = arguments.reason or "an operator has marked it so"
        return summary(self.engine.order(arguments.target, events[arguments.state], why))

    @command("status", arguments=Target, access="read", brief="Tells what an instance does.", returns="its status")
    def status_of(self, arguments: Target, caller: Caller) -> dict[str, Any]:
        return summary(self.engine.unit_of(arguments.target))

    @command("close", access="write", brief="Stops all services in order, then the spawner and its daemons.", returns="{left}")
    def close(self, arguments: NoArguments, caller: Caller) -> dict[str, Any]:
        self.engine.close()
        return {"left": sum(unit.status.phase in ALIVE for unit in self.engine.units.values())}

    def announcement(self) -> str:
        return f"restarts the services of {self.engine.directory}"

    def status(self) -> dict[str, Any]:
        engine = self.engine
        return {
            "directory": engine.directory,
            "spawner": engine.spawner_id,
            "repository": "there" if engine.link.up else "does not answer",
            "services": len(engine.units),
            "states": dict(Counter(unit.status.state for unit in engine.units.values())),
            "closing": engine.closing,
            "cgroups": engine.cgroups,
            "time": time.time(),
        }


def control_path(directory: str) -> str:
    return place.beside(directory, "startd.ctl")


def spawner_path(directory: str) -> str:
    return place.beside(directory, "spawner.sock")
