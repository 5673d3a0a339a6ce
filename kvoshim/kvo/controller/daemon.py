"""The controller as a daemon of the process layer: its configuration, its life, and how it sleeps.

How it sleeps without missing a change: it raises the epoch in the registration table to an odd number
("asleep"), then looks at all dirty rings once more, then waits. An observable marks its ring dirty and then
reads the epoch. With a full fence in the middle of both, either the second look finds the mark, or the
observable finds the odd epoch and rings.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import resource
import secrets
import selectors
import time
from typing import Any

from kvoshim import identity, process
from kvoshim._table import TableWriter
from kvoshim.kvo import paths
from kvoshim.kvo.controller.catalog import Catalog, Limits
from kvoshim.kvo.controller.exporter import Exporter, MetricsSettings
from kvoshim.kvo.controller.listener import Listener
from kvoshim.kvo.controller.metrics import Metrics
from kvoshim.process.process import Shutdown

log = logging.getLogger("kvoshim.controller")

_REPAIR_S = 1.0
_RETRY_S = 0.005  # for what a client had no room for
_EXPIRE_S = 10.0  # between looks at what has been silent, idle or retained for too long
_DETACHED_IDLE_S = 60.0


class LimitSettings(process.Section, frozen=True, kw_only=True):
    """What clients may ask for. stores and registrations are the size of the shared table: fixed at the start."""

    stores: int = Limits.stores
    registrations: int = Limits.registrations
    registrations_per_client: int = Limits.registrations_per_client
    names_per_client: int = Limits.names_per_client
    retained: int = Limits.retained

    def __post_init__(self) -> None:
        most = {"stores": 1 << 16, "registrations": 1 << 20}
        for name in self.__struct_fields__:
            if not 1 <= getattr(self, name) <= most.get(name, 1 << 30):
                raise ValueError(f"{name} is out of its range")


class Settings(process.Configuration, frozen=True, kw_only=True):
    """retain_s: how long the values of an ended observable are kept, 0: for ever. idle_exit_s: the controller ends
    after so long with no clients and no kept values, 0: never. The command line's values go before both."""

    retain_s: float = Limits.retain_s
    idle_exit_s: float | None = None
    limits: LimitSettings = LimitSettings()
    metrics: MetricsSettings = MetricsSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.retain_s < 0 or (self.idle_exit_s or 0) < 0:
            raise ValueError("retain-s and idle-exit-s are not negative")


class ControllerProcess(process.Process[Settings]):
    """Serves observers and observables."""

    name = "controller"
    configuration = Settings
    needs_file = False
    # The standard selector: the one that knows rings looks at them for a while before it sleeps, and here, where all sides
    # mostly sleep, that time is taken from observers on the same CPU.
    loop_factory = staticmethod(lambda: process.Loop(selectors.DefaultSelector()))

    # --- before there is a process ---------------------------------------------

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--socket",
            metavar="PATH",
            help="where to serve (default: KVOSHIM_CONTROLLER, else a path of "
            "your own below XDG_RUNTIME_DIR or /tmp)",
        )
        parser.add_argument(
            "--idle-exit",
            type=float,
            metavar="S",
            help="end after S seconds with no clients and no kept values; 0: never (default: 60 with --detach)",
        )
        parser.add_argument(
            "--retain",
            type=float,
            metavar="S",
            help="keep the values of an ended observable for S seconds; 0: for ever (default: 3600)",
        )

    @classmethod
    def paths(cls, arguments: argparse.Namespace) -> tuple[str, str]:
        path = paths.controller_path(arguments.socket)
        return paths.control_path(path), paths.life_lock(path)

    # --- life ---------------------------------------------

    def configure(self, settings: Settings, old: Settings | None) -> None:
        limits = self._limits_of(settings)
        if old is None:
            self._listener: Listener | None = None
            self._exporter: Exporter | None = None
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else soft, hard))
            number = identity.start_time(os.getpid())
            self._table = TableWriter(secrets.token_bytes(16), limits.stores, limits.registrations, number)
            self._catalog = Catalog(self._table, limits)
        elif (limits.stores, limits.registrations) != (self._catalog.limits.stores, self._catalog.limits.registrations):
            raise ValueError("the limits stores and registrations are only changed by a restart")
        if self._exporter is not None:
            self._exporter.configure(settings.metrics)
        self._catalog.limits = limits
        self._idle_exit_s = self._idle_exit_of(settings)
        self._expire_s = max(0.05, min([_EXPIRE_S, *(s for s in (self._idle_exit_s, limits.retain_s) if s)]))

    def _limits_of(self, settings: Settings) -> Limits:
        retain = settings.retain_s if self.arguments.retain is None else self.arguments.retain
        numbers = {name: getattr(settings.limits, name) for name in settings.limits.__struct_fields__}
        return dataclasses.replace(Limits(), **numbers, retain_s=retain)

    def _idle_exit_of(self, settings: Settings) -> float:
        for chosen in (self.arguments.idle_exit, settings.idle_exit_s):
            if chosen is not None:
                return chosen
        return _DETACHED_IDLE_S if self.arguments.detach else 0.0

    def start(self) -> None:
        self.path = paths.controller_path(self.arguments.socket)
        try:
            self._listener = Listener(self.loop, self.path, self._catalog)
        except OSError as error:
            raise OSError(f"{self.path} cannot be bound: {error}") from None
        self._repaired = self._expired = self._busy_at = time.monotonic()
        self._timer = None
        self._due = 0.0
        self.loop.sleeper = self
        self._metrics = Metrics(self.statistics, self._catalog, self._listener.service.sessions)
        self._exporter = Exporter(self.loop, self._metrics)
        self._exporter.configure(self.settings.metrics)
        log.info("controller of PID %d serves %s", os.getpid(), self.path)

    def stop(self, how: Shutdown) -> None:
        self.loop.sleeper = None
        if self._exporter is not None:
            self._exporter.close()
        if self._listener is not None:
            self._listener.close()
            self._catalog.close()

    def announcement(self) -> str:
        return f"serving {self.path}"

    def status(self) -> dict[str, Any]:
        live = sum(store.owner is not None for store in self._catalog.stores.values())
        return {
            "socket": self.path,
            "clients": self._listener.clients,
            "observables": {"live": live, "ended": len(self._catalog.stores) - live},
            "metrics": self._exporter.address,
        }

    # --- the loop's sleeper ---------------------------------------------

    def work(self) -> bool:
        """Takes in what clients and observables have left, and sends what follows from it."""
        listener, catalog = self._listener, self._catalog
        busy = listener.read_on()
        busy |= catalog.look_all()
        listener.flush()
        if busy or listener.readable:
            return True
        self._plan()
        return False

    def arm(self) -> bool:
        self._table.arm()
        return not self._catalog.waiting()

    def disarm(self) -> None:
        self._table.disarm()

    def _plan(self) -> None:
        """Sees to it that the loop wakes when there will be something to do, and not otherwise."""
        due = self._next_due()
        if due == self._due and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = self.loop.call_at(due, self._tick) if due is not None else None

    def _next_due(self) -> float | None:
        """When there is something to do, by time.monotonic(); None: not until somebody calls."""
        if self._catalog.changed:  # what did not fit
            return time.monotonic() + _RETRY_S
        if self._catalog.watching:
            return self._repaired + _REPAIR_S
        kept = self._catalog.limits.retain_s and self._catalog.stores
        if self._listener.greeting or not self._listener.accepting or self._idle_exit_s or kept:
            return self._expired + self._expire_s
        return None

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        if now - self._repaired >= _REPAIR_S and self._catalog.watching:
            self._repaired = now
            self._catalog.repair()
            self._metrics.ask()
        if now - self._expired >= self._expire_s:
            self._expired = now
            self._catalog.expire()
            self._listener.drop_silent()
            self._listener.accept_again()
            if self._listener.clients or self._catalog.stores or not self._idle_exit_s:
                self._busy_at = now
            elif now - self._busy_at >= self._idle_exit_s:
                log.info("no clients for %g s: the controller ends", self._idle_exit_s)
                self.controller.shutdown()
