"""The registry as a daemon of the process layer: takes the seat, serves, gives the seat up."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import selectors
from typing import Any

from kvoshim import process
from kvoshim.errors import RegistryPlaceError, SeatLostError
from kvoshim.process.launch import AlreadyRunningError
from kvoshim.process.process import Shutdown
from kvoshim.registry import seat
from kvoshim.registry.catalogue import Catalogue, local_host
from kvoshim.registry.daemon import remote
from kvoshim.registry.daemon.hosts import Here, Hosts
from kvoshim.registry.daemon.ledger import Ledger
from kvoshim.registry.daemon.listener import Listener
from kvoshim.registry.daemon.neighbours import FACT
from kvoshim.registry.daemon.outside import Outside
from kvoshim.registry.daemon.policy import Policy
from kvoshim.registry.daemon.service import Service
from kvoshim.registry.daemon.settings import Settings
from kvoshim.registry.daemon.shelf import Shelf
from kvoshim.registry.daemon.suspects import Suspects
from kvoshim.registry.seat.place import hurry
from kvoshim.registry.seat.scope import host_name

log = logging.getLogger("kvoshim.registry")

_DETACHED_IDLE_S = 60.0
_LOOK_S = 5.0  # between looks whether the seat is still held


class RegistryProcess(process.Process[Settings]):
    """Serves those who register and those who search."""

    name = "registry"
    configuration = Settings
    needs_file = False
    secrets = ("hosts/cluster",)
    # The standard selector: here, where all mostly sleep, one that looks at rings for a while takes CPU from clients.
    loop_factory = staticmethod(lambda: process.Loop(selectors.DefaultSelector()))

    # --- before there is a process ---------------------------------------------

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--scope",
            default="",
            metavar="SCOPE",
            help="user, host, private:DIR or semi-private:DIR (default: KVOSHIM_REGISTRY, else user)",
        )
        parser.add_argument(
            "--idle-exit",
            type=float,
            metavar="S",
            help="end after S seconds with no clients; 0: never (default: 60 with --detach)",
        )
        parser.add_argument("--lifeline", type=int, default=-1, metavar="FD", help="end when this descriptor comes to its end")

    @staticmethod
    def scope_of(arguments: argparse.Namespace) -> seat.Scope:
        return seat.Scope.parse(arguments.scope) if arguments.scope else seat.choose()

    @classmethod
    def paths(cls, arguments: argparse.Namespace) -> tuple[str, str]:
        place = cls.scope_of(arguments).places()[0]
        place.prepare()
        return os.path.join(place.directory, "registry.ctl"), os.path.join(place.directory, "registry.pid")

    # --- life ---------------------------------------------

    @classmethod
    def check(cls, settings: Settings) -> None:
        Policy(settings.access)

    def configure(self, settings: Settings, old: Settings | None) -> None:
        policy = Policy(settings.access, for_all=self.scope_of(self.arguments).public)
        if old is None:
            self._seat: seat.Seat | None = None
            self._listener: Listener | None = None
            self._outside: Outside | None = None
            self._hosts: Hosts | None = None
            self._policy = policy
            return
        if old.limits.entries != settings.limits.entries:
            raise ValueError("limits/entries is only changed by a restart")
        if old.hosts != settings.hosts:
            raise ValueError("hosts is only changed by a restart")
        self._service.limits = settings.limits
        self._suspects.configure(settings.suspect_s)
        self._listener.enforce(policy)

    def start(self) -> None:
        scope = self.scope_of(self.arguments)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else soft, hard))
        self._seat = seat.claim(scope)
        if self._seat is None:
            raise AlreadyRunningError(f"a registry already serves the scope {scope.text}")
        settings = self.settings
        self._ledger = Ledger(os.path.join(self._seat.directory, "registry.ledger"))
        self._shelf = Shelf(settings.limits.entries)
        kind = "private" if scope.private else scope.kind
        catalogue = Catalogue(self._ledger.base, local_host(), kind, not self._ledger.expected, settings.limits.entries)
        self._listener = Listener(self.loop, self._seat.listen(), self._seat.proof, self._emptied)
        self._service = self._listener.service = Service(
            self.loop, catalogue, self._shelf, self._ledger, self._policy, settings.limits, self._listener.flush
        )
        self._suspects = Suspects(self.loop, self._service, settings.suspect_s)
        self._service.occupied = self._suspects.begin
        self._measure()
        self._await_the_living()
        self._watch_lifeline()
        self._idle = None
        self._emptied()
        self._outside = Outside(self.loop, self._service) if scope.semi else None
        self._seat.announce()
        self._open_hosts(scope)
        self._looking = self.loop.call_later(_LOOK_S, self._look)
        log.info("registry of PID %d serves %s, scope %s", os.getpid(), self._seat.address, scope.text)

    def _open_hosts(self, scope: seat.Scope) -> None:
        """Begins to look for other hosts' registries, or has an operator's cluster joined."""
        settings = self.settings.hosts
        if not settings.enabled or scope.private:
            return
        cluster = settings.cluster or remote.cluster(scope)
        if cluster is None and scope.public:
            return
        if cluster is not None:
            self.controller.log.mask_always([cluster.password, cluster.secret_token])
            cluster = remote.for_scope(cluster, scope)
        shared = next((place.directory for place in scope.places() if place.far), "")
        places = self._seat
        here = Here(host_name(), shared, self._seat.directory, lambda: shared not in places.unusable)
        self._hosts = Hosts(self.loop, self._service, settings, cluster, here, self._announce)
        self.statistics.measure("entries-elsewhere", lambda: len(self._hosts) if self._hosts is not None else 0)

    def _announce(self, addresses: tuple[str, ...]) -> None:
        """Tells other hosts where this one's server is."""
        try:
            with hurry():
                self._seat.announce({FACT: " ".join(addresses)} if addresses else {})
        except RegistryPlaceError as error:
            log.error("other hosts cannot be told where this one is: %s", error)

    def _measure(self) -> None:
        service = self._service
        self.statistics.measure("clients", lambda: len(service.sessions))
        self.statistics.measure("entries", lambda: len(service.catalogue))
        for name in service.count:
            self.statistics.measure(name, lambda name=name: service.count[name])

    def _await_the_living(self) -> None:
        """Who was registered with the registry before comes back, or has ended, or is too late."""
        self._pidfds: dict[int, tuple[int, int]] = {}
        for one in list(self._ledger.expected):
            try:
                fd = os.pidfd_open(one[0])
            except OSError:
                self.loop.call_soon(self._service.back, one)
                continue
            self._pidfds[fd] = one
            self.loop.add_reader(fd, self._on_end, fd)
        if self._ledger.expected:
            log.info("%d processes were registered with the registry before", len(self._ledger.expected))
            self._settling = self.loop.call_later(self.settings.settle_s, self._settle)

    def _on_end(self, fd: int) -> None:
        self.loop.remove_reader(fd)
        os.close(fd)
        self._service.back(self._pidfds.pop(fd))

    def _settle(self) -> None:
        self._service.settle()
        self._drop_pidfds()

    def _drop_pidfds(self) -> None:
        for fd in self._pidfds:
            self.loop.remove_reader(fd)
            os.close(fd)
        self._pidfds.clear()

    def _watch_lifeline(self) -> None:
        fd = self.arguments.lifeline
        if fd >= 0:
            os.set_blocking(fd, False)
            os.set_inheritable(fd, False)
            self.loop.add_reader(fd, self._on_lifeline, fd)

    def _on_lifeline(self, fd: int) -> None:
        try:
            if os.read(fd, 4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.loop.remove_reader(fd)
        log.info("who has launched this registry has ended")
        self.controller.shutdown()

    def _emptied(self) -> None:
        """The last client has left."""
        seconds = self.arguments.idle_exit
        if seconds is None:
            seconds = self.settings.idle_exit_s
        if seconds is None:
            seconds = _DETACHED_IDLE_S if self.arguments.detach else 0.0
        if self._idle is not None:
            self._idle.cancel()
        self._idle = self.loop.call_later(seconds, self._end_if_idle) if seconds else None

    def _end_if_idle(self) -> None:
        self._idle = None
        if not self._service.sessions:
            log.info("there are no clients: the registry ends")
            self.controller.shutdown()

    def _look(self) -> None:
        try:
            sock = self._seat.look()
            if sock is not None:
                self._listener.replace(sock)
        except SeatLostError as error:
            log.error("%s", error)
            self.controller.fail(str(error))
            return
        except (RegistryPlaceError, OSError) as error:
            log.error("the registry's place cannot be repaired for now: %s", error)
        self._looking = self.loop.call_later(_LOOK_S, self._look)

    def stop(self, how: Shutdown) -> None:
        if self._listener is not None:
            if self._outside is not None:
                self._outside.close()
            if self._hosts is not None:
                self._hosts.close()
                self._hosts = None
            self._suspects.close()
            self._drop_pidfds()
            self._listener.close()
            self._shelf.close()
            self._ledger.close()
            if self._seat.scope.private:  # it has no successor
                os.unlink(self._ledger.path)
            self._listener = None
        if self._seat is not None:
            self._seat.close()
            self._seat = None

    # --- for the world ---------------------------------------------

    def announcement(self) -> str:
        return f"serving {self._seat.address}, scope {self._seat.scope.text}"

    def status(self) -> dict[str, Any]:
        service = self._service
        return {
            "socket": self._seat.address,
            "scope": self._seat.scope.text,
            "clients": len(service.sessions),
            "searching": sum(session.watching for session in service.sessions.values()),
            "entries": len(service.catalogue),
            "outside": 0 if self._outside is None else len(self._outside),
            "elsewhere": 0 if self._hosts is None else len(self._hosts),
            "hosts": {} if self._hosts is None else self._hosts.status(),
            "settled": service.catalogue.settled,
            "awaited": len(self._ledger.expected),
            "without": dict(self._seat.unusable),
        }
