"""The controller as a daemon of the process layer: its configuration, its life, and how it sleeps.

How it sleeps without missing a change: it raises the epoch in the registration table to an odd number
("asleep"), then looks at all dirty rings once more, then waits. An observable marks its ring dirty and then
reads the epoch. With a full fence in the middle of both, either the second look finds the mark, or the
observable finds the odd epoch and rings.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import resource
import secrets
import selectors
import time
from typing import TYPE_CHECKING, Any

from kvoshim import identity, process
from kvoshim._table import TableWriter
from kvoshim.kvo import paths
from kvoshim.kvo.controller.catalog import Catalog
from kvoshim.kvo.controller.exporter import Exporter
from kvoshim.kvo.controller.listener import Listener
from kvoshim.kvo.controller.metrics import Metrics
from kvoshim.kvo.controller.policy import Policy
from kvoshim.kvo.controller.quota import Limits
from kvoshim.kvo.controller.settings import Settings
from kvoshim.kvo.controller.standby import Standby
from kvoshim.kvo.term import Term
from kvoshim.process.pidfile import PidFile
from kvoshim.process.process import Shutdown

if TYPE_CHECKING:
    from kvoshim.kvo.controller.registrar import Registrar

log = logging.getLogger("kvoshim.controller")

_REPAIR_S = 1.0
_RETRY_S = 0.005  # for what a client had no room for
_EXPIRE_S = 10.0  # between looks at what has been silent, idle or retained for too long
_DETACHED_IDLE_S = 60.0
_ORPHAN_S = 0.2  # between looks whether the last client has left
_BEATS = 4  # in the time after which a controller counts as hung
_TERM_S = 0.02  # between looks whether this is still the one


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

        parser.add_argument(
            "--registry",
            metavar="SCOPE",
            help="register there (user, host, private:DIR, semi-private:DIR), or nowhere: none (default: in the registry of this "
            "process's scope, if the place is the one that clients look at by themselves; else nowhere)",
        )
        parser.add_argument(
            "--standby",
            action="store_true",
            help="wait until the controller at this path has ended (or is hung, if the configuration says so) and take its place",
        )

    @classmethod
    def paths(cls, arguments: argparse.Namespace) -> tuple[str, str]:
        path = paths.controller_path(arguments.socket)
        if arguments.standby:
            path = paths.standby_path(path)
        return paths.control_path(path), paths.life_lock(path)

    # --- life ---------------------------------------------

    @classmethod
    def check(cls, settings: Settings) -> None:
        Policy(settings.access)

    def configure(self, settings: Settings, old: Settings | None) -> None:
        limits, policy = self._limits_of(settings), Policy(settings.access)
        if old is None:
            self._listener: Listener | None = None
            self._exporter: Exporter | None = None
            self._standby: Standby | None = None
            self._term: Term | None = None
            self._registrar: Registrar | None = None
            self._orphaned = False  # the group that it serves has ended
            self._looked = 0.0  # when the term was looked at last
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else soft, hard))
            number = identity.start_time(os.getpid())
            self._table = TableWriter(secrets.token_bytes(16), limits.stores, limits.registrations, number)
            self._catalog = Catalog(self._table, limits)
        elif (limits.stores, limits.registrations) != (self._catalog.limits.stores, self._catalog.limits.registrations):
            raise ValueError("the limits stores and registrations are only changed by a restart")
        if self._exporter is not None:
            self._exporter.configure(settings.metrics)
        if self._standby is not None:
            self._standby.settings = settings
        self._hung_after_ms = int(settings.hung_after_s * 1000)
        self._beat_s = settings.hung_after_s / _BEATS
        self._catalog.limits = limits
        self._policy = policy
        if self._listener is not None:
            self._listener.enforce(policy)
        self._catalog.let_ring(settings.delivery == "auto")
        self._idle_exit_s = self._idle_exit_of(settings)
        self._expire_s = max(0.05, min([_EXPIRE_S, *(s for s in (self._idle_exit_s, limits.retain_s) if s)]))

    def _limits_of(self, settings: Settings) -> Limits:
        retain = settings.retain_s if self.arguments.retain is None else self.arguments.retain
        return settings.limits.as_limits(retain)

    def _idle_exit_of(self, settings: Settings) -> float:
        for chosen in (self.arguments.idle_exit, settings.idle_exit_s):
            if chosen is not None:
                return chosen
        return _DETACHED_IDLE_S if self.arguments.detach else 0.0

    def start(self) -> None:
        self.path, self._scope = paths.place(self.arguments.socket)
        if self.arguments.registry is not None:
            self._scope = "" if self.arguments.registry == "none" else self.arguments.registry
        self._timer = None
        if self.arguments.standby:
            self._standby = Standby(self.loop, self.path, self.settings, self._take_over)
        else:
            self._serve()

    def _take_over(self, lock: PidFile) -> None:
        """The active controller's place is ours."""
        try:
            self._standby.close()
            self._standby = None
            self.controller.pid_file.release()
            self.controller.pid_file = lock
            self.arguments.standby = False
            path = paths.control_path(self.path)
            if os.path.exists(path):  # a hung controller listens there still, and _clear() leaves it to it
                os.unlink(path)
            if not self.settings.control_socket.path:
                self.controller.channel.configure(self.settings.control_socket, path)
            self._serve()
        except Exception as error:
            log.exception("the place of the active controller cannot be taken")
            self.controller.fail(f"the place of the active controller cannot be taken: {error}")

    def _serve(self) -> None:
        self._term = Term(paths.term_path(self.path))
        try:
            self._listener = Listener(self.loop, self.path, self._catalog, self._term.number)
        except OSError as error:
            raise OSError(f"{self.path} cannot be bound: {error}") from None
        self._listener.enforce(self._policy)
        self._repaired = self._expired = self._busy_at = self._beaten = self._beat()
        self._due = 0.0
        self.loop.sleeper = self
        self._metrics = Metrics(self.statistics, self._catalog, self._listener.service.sessions)
        self._exporter = Exporter(self.loop, self._metrics)
        self._exporter.configure(self.settings.metrics)
        if self._scope:
            from kvoshim.kvo.controller.registrar import Registrar  # most of it is not needed by who has a place of its own

            self._registrar = Registrar(self.loop, self._scope, self.path, {"term": self._term.number}, self._orphan)
            self._catalog.registrar = self._registrar
        log.info("controller of PID %d serves %s", os.getpid(), self.path)

    def _orphan(self) -> None:
        """The private registry has ended, and nobody else finds this controller: it ends with its last client."""
        log.info("the group of this controller has ended")
        self._orphaned = True
        self._expire_s = _ORPHAN_S
        self._plan()

    def _beat(self) -> float:
        """A sign of life; returns the time."""
        now = time.monotonic()
        for table in (self._table, self._listener.blank) if self._listener is not None else (self._table,):
            table.show(int(now * 1e9), self._hung_after_ms)
        return now

    def _still_the_one(self) -> bool:
        """Whether no other controller has taken this one's place, while it was stopped. One that was replaced ends: whom it
        serves finds the other one."""
        now = self._beat()
        if now - self._looked < _TERM_S:
            return True
        self._looked = now
        if self._listener is None or not self._term.over():
            return self._listener is not None
        log.error("another controller has taken this one's place while it was stopped: it ends")
        self._stop_serving()
        self.controller.fail("another controller has taken its place")
        return False

    def stop(self, how: Shutdown) -> None:
        if self._standby is not None:
            self._standby.close()
        self._stop_serving()

    def _stop_serving(self) -> None:
        self.loop.sleeper = None
        if self._timer is not None:
            self._timer.cancel()
        if self._exporter is not None:
            self._exporter.close()
        if self._registrar is not None:
            self._registrar.close()
            self._registrar = self._catalog.registrar = None
        if self._listener is not None:
            self._listener.close()
            self._catalog.close()
            self._listener = None
        if self._term is not None:
            self._term.close()
            self._term = None

    def announcement(self) -> str:
        return f"{'standing by for' if self._standby is not None else 'serving'} {self.path}"

    def status(self) -> dict[str, Any]:
        if self._standby is not None:
            return {"socket": self.path, "standby": self._standby.status()}
        live = sum(store.owner is not None for store in self._catalog.stores.values())
        return {
            "socket": self.path,
            "clients": self._listener.clients,
            "observables": {"live": live, "ended": len(self._catalog.stores) - live},
            "metrics": self._exporter.address,
            "term": self._term.number,
            "registry": None if self._registrar is None else {"scope": self._scope, "trouble": self._registrar.trouble},
        }

    # --- the loop's sleeper ---------------------------------------------

    def work(self) -> bool:
        """Takes in what clients and observables have left, and sends what follows from it."""
        if not self._still_the_one():
            return False
        listener, catalog = self._listener, self._catalog
        busy = listener.read_on()
        busy |= catalog.look_all()
        busy |= listener.flush()
        if busy or listener.readable:
            return True
        self._plan()
        return False

    def arm(self) -> bool:
        self._table.arm()
        return not self._catalog.waiting()

    def disarm(self) -> None:
        self._table.disarm()
        # What was written first, it is what clients wait for. To tell one's own clients does no harm, whoever is the one by now;
        # all else waits for the look whether this is still the one: it may have been stopped in its sleep.
        if self._catalog.look_all():
            self._listener.flush()
        self._still_the_one()

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
        beat = self._beaten + self._beat_s if self._beat_s and self._listener.clients else math.inf
        if self._catalog.watching:
            return min(beat, self._repaired + _REPAIR_S)
        if beat < math.inf:
            return min(beat, self._expired + self._expire_s)
        kept = self._catalog.limits.retain_s and self._catalog.stores
        if self._listener.greeting or not self._listener.accepting or self._idle_exit_s or kept or self._orphaned:
            return self._expired + self._expire_s
        return None

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        if now - self._beaten >= self._beat_s:
            self._beaten = now  # that it has woken up is the sign
        if now - self._repaired >= _REPAIR_S and self._catalog.watching:
            self._repaired = now
            self._catalog.repair()
            self._metrics.ask()
        if now - self._expired >= self._expire_s:
            self._expired = now
            self._catalog.expire()
            self._listener.drop_silent()
            self._listener.accept_again()
            if self._orphaned and not self._listener.clients:
                log.info("the last of its group has left: the controller ends")
                self.controller.shutdown()
            elif self._listener.clients or self._catalog.stores or not self._idle_exit_s:
                self._busy_at = now
            elif now - self._busy_at >= self._idle_exit_s:
                log.info("no clients for %g s: the controller ends", self._idle_exit_s)
                self.controller.shutdown()
