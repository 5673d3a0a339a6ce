"""What is registered on other hosts, as this host's registry knows it: its bridge, a process of its own, tells it.

The bridge (kvoshim/federation) is started when the port file of another host appears, or at once where an operator's own cluster is
named; a single host has none. All that may wait for a network is there; here, a pair of sockets is read and written without waiting.

What comes from other hosts is in the store beside what is registered here. When the bridge dies, it stays for as long as a host's
lease is, and another bridge is started.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from kvoshim.errors import KvoshimError, NoAnswerError, UnknownNameError
from kvoshim.registry import wire
from kvoshim.registry.catalogue import Outcome
from kvoshim.registry.daemon import bridging
from kvoshim.registry.daemon.bridge import Bridge
from kvoshim.registry.daemon.neighbours import Found, Neighbours
from kvoshim.registry.daemon.service import Service
from kvoshim.registry.daemon.settings import Cluster, HostsSettings
from kvoshim.registry.entry import Entry

log = logging.getLogger("kvoshim.registry")

_ALONE_S = 10.0  # without other hosts, before the bridge is ended
_SETTLING_S = 0.02  # between looks whether all who were registered are back
_BACKOFF_S = (0.2, 30.0)  # before a bridge is started again
_WELL_S = 30.0  # after which one counts as running well


@dataclass(frozen=True)
class Here:
    """name: this host's, as its port file is called; shared: the directory of the port files, "" if there is none; run: a directory
    for the server's files. usable(): whether `shared` answers, as far as is known; called on any thread."""

    name: str
    shared: str
    run: str
    usable: Callable[[], bool]


class Hosts:
    """announce(addresses): tells other hosts where this one's server is. cluster: an operator's own."""

    def __init__(
        self, loop, service: Service, settings: HostsSettings, cluster: Cluster | None, here: Here,
        announce: Callable[[tuple[str, ...]], None],
    ) -> None:  # fmt: skip
        self._loop = loop
        self._service = service
        self._settings = settings
        self._cluster = cluster
        self._here = here
        self._announce = announce
        self._bridge: Bridge | None = None
        self._ready = False  # the bridge knows all that is registered here
        self._peers: Found = {}
        self._shown: dict[int, Entry] = {}
        self._unconfirmed: set[int] = set()  # by a new bridge
        self._expiry = None  # the call that lets go of what no bridge has confirmed
        self._start = self._end = None  # calls that are to start, and end, the bridge
        self._pause = _BACKOFF_S[0]
        self._numbers = 0
        self._pending: dict[int, Callable[[str, KvoshimError | None], None]] = {}
        self._route: tuple[str, ...] = ()
        self._state = bridging.State({}, {}, 0)
        self._handlers: dict[type, Callable[[Any], None]] = {
            bridging.Route: self._on_route,
            bridging.Shown: self._on_shown,
            bridging.Whole: self._on_whole,
            bridging.Say: lambda message: log.log(message.level, "%s", message.text),
            bridging.State: self._on_state,
            bridging.Asked: self._on_asked,
            bridging.Answer: lambda message: self._finish(message.number, message.text, message.code),
        }
        service.outside = self
        service.published = self._published
        service.whole = False
        self._completion = loop.call_later(settings.lease_s, self._complete)  # who is not heard by then is out
        self._neighbours: Neighbours | None = None
        if cluster is not None:
            self._begin()
        elif here.shared:
            self._neighbours = Neighbours(
                here.shared, here.name, os.geteuid(), settings.poll_s,
                lambda found: loop.call_soon_threadsafe(self._found, found), here.usable,
            )  # fmt: skip

    # --- the bridge's life ---------------------------------------------

    def _found(self, peers: Found) -> None:
        self._peers = peers
        if not peers:
            self._complete()
        log.info("the hosts beside this one: %s", ", ".join(peers) or "none")
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self._bridge is not None:
            self._bridge.send(bridging.Peers(peers))
            if not peers:
                self._end = self._loop.call_later(_ALONE_S, self._leave)
        elif peers and self._start is None:
            self._begin()

    def _begin(self) -> None:
        self._start = None
        here, settings, cluster = self._here, self._settings, self._cluster
        try:
            self._bridge = Bridge(self._loop, self._take, self._lost)
        except OSError as error:
            log.error("no bridge to other hosts can be started: %s", error)
            self._again()
            return
        self._bridge.send(
            bridging.Begin(
                here.name, self._service.catalogue.reach, settings.lease_s, os.path.dirname(here.shared),
                here.run, settings.listen, settings.advertise, settings.server, self._service.limits.entries,
                None if cluster is None else msgspec.to_builtins(cluster),
            )
        )  # fmt: skip
        self._bridge.send(bridging.Peers(self._peers))
        self._hand_over()

    def _hand_over(self) -> None:
        """Tells a new bridge what is registered here, once all are back who were registered with the registry before."""
        if self._bridge is None or self._ready:
            return
        if not self._service.catalogue.settled:
            self._loop.call_later(_SETTLING_S, self._hand_over)
            return
        entries = self._service.catalogue.entries()
        for at in range(0, len(entries), bridging.CHUNK):
            self._bridge.send(bridging.Local(entries[at : at + bridging.CHUNK], []))
        self._bridge.send(bridging.Ready())
        self._ready = True

    def _lost(self, why: str) -> None:
        log.error("the bridge to other hosts is lost: %s", why)
        if self._bridge is not None and self._bridge.age() > _WELL_S:
            self._pause = _BACKOFF_S[0]
        self._forget()
        self._again()

    def _again(self) -> None:
        if self._start is None and (self._peers or self._cluster is not None):
            self._start = self._loop.call_later(self._pause, self._begin)
            self._pause = min(2 * self._pause, _BACKOFF_S[1])

    def _forget(self) -> None:
        self._bridge = None
        self._ready = False
        self._state = bridging.State({}, {}, 0)
        pending, self._pending = self._pending, {}
        for finish in pending.values():
            finish("", NoAnswerError("the link to other hosts is lost"))
        if self._shown:
            self._unconfirmed = set(self._shown)
            if self._expiry is not None:
                self._expiry.cancel()
            self._expiry = self._loop.call_later(self._settings.lease_s, self._expire)

    def _leave(self) -> None:
        """There are no other hosts any more."""
        self._end = None
        if self._bridge is not None:
            self._bridge.leave(bridging.Farewell())
            self._forget()
            self._on_route(bridging.Route(()))

    def close(self) -> None:
        if self._neighbours is not None:
            self._neighbours.close()
        for call in (self._start, self._end, self._expiry, self._completion):
            if call is not None:
                call.cancel()
        if self._bridge is not None:
            self._bridge.close(bridging.Farewell())
            self._bridge = None

    # --- what the bridge says ---------------------------------------------

    def _take(self, message: Any) -> None:
        self._handlers[type(message)](message)

    def _on_route(self, message: bridging.Route) -> None:
        if message.addresses != self._route:
            self._route = message.addresses
            self._announce(message.addresses)

    def _on_shown(self, message: bridging.Shown) -> None:
        put, drop = [], []
        for entry in message.put:
            before = self._shown.get(entry.id)
            if entry.id in self._service.catalogue or before is not None and before.host != entry.host:
                continue  # that number is another's: as good as impossible, and who was there first stays
            self._unconfirmed.discard(entry.id)
            if before != entry:
                self._shown[entry.id] = entry
                put.append(entry)
        for number, host in message.drop:
            entry = self._shown.get(number)
            if entry is not None and entry.host == host:
                del self._shown[number]
                self._unconfirmed.discard(number)
                drop.append(entry)
        self._service.mirror(put, drop)

    def _on_whole(self, message: bridging.Whole) -> None:
        if self._cluster is not None:
            self._complete()
        if self._expiry is None:
            return
        self._expiry.cancel()
        # Another bridge knows the hosts by now, but not each host's lease need be renewed yet.
        self._expiry = self._loop.call_later(self._settings.lease_s, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        gone = [self._shown.pop(number) for number in self._unconfirmed if number in self._shown]
        self._unconfirmed.clear()
        if gone:
            log.warning("%d entries of other hosts are dropped: nothing was heard of them", len(gone))
            self._service.mirror([], gone)

    def _on_state(self, message: bridging.State) -> None:
        self._state = message
        if all(message.hosts.get(name) == "here" for name, servers in self._peers.items() if servers):
            self._complete()

    def _complete(self) -> None:
        """All other hosts have told what is registered there, or are silent."""
        self._completion.cancel()
        self._service.complete()

    # --- what is registered here ---------------------------------------------

    def _published(self, outcomes: list[Outcome]) -> None:
        if not self._ready:
            return
        latest = {outcome.entry.id: outcome for outcome in outcomes}
        put = [outcome.entry for outcome in latest.values() if not outcome.gone]
        drop = [number for number, outcome in latest.items() if outcome.gone]
        for at in range(0, max(len(put), len(drop)), bridging.CHUNK):
            self._bridge.send(bridging.Local(put[at : at + bridging.CHUNK], drop[at : at + bridging.CHUNK]))

    # --- questions ---------------------------------------------

    def ask(self, number: int, what: wire.What, finish: Callable[[str, KvoshimError | None], None]) -> None:
        """Asks a process of another host; finish() is called later. UnknownNameError; NoAnswerError."""
        entry = self._shown.get(number)
        if entry is None:
            raise UnknownNameError(f"nothing is registered under number {number}")
        if self._bridge is None:
            raise NoAnswerError("the link to other hosts is lost")
        self._numbers += 1
        self._pending[self._numbers] = finish
        self._bridge.send(bridging.Question(self._numbers, entry.host, number, what))

    def _finish(self, number: int, text: str, code: str) -> None:
        finish = self._pending.pop(number, None)
        if finish is not None:
            finish("" if code else text, wire.PROTOCOL.error(code, text) if code else None)

    def _on_asked(self, message: bridging.Asked) -> None:
        bridge = self._bridge

        def finish(text: str, error: KvoshimError | None) -> None:
            if bridge is self._bridge and bridge is not None:
                code = "" if error is None else wire.PROTOCOL.code_of(error)
                bridge.send(bridging.Reply(message.number, text if error is None else str(error)[: wire.TEXT_MAX], code))

        try:
            self._service.ask_inside(message.id, message.what, finish)
        except KvoshimError as error:
            finish("", error)

    # --- for the world ---------------------------------------------

    def __len__(self) -> int:
        return len(self._shown)

    def status(self) -> dict[str, Any]:
        return {
            "found": sorted(self._peers),
            "cluster": self._cluster is not None,
            "bridge": 0 if self._bridge is None else self._bridge.pid,
            "server": self._state.server,
            "hosts": self._state.hosts,
            "links": self._state.links,
        }
