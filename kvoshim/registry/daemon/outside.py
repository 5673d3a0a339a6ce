"""A semi-private registry shows its group what is registered outside, where the launcher itself would look, and shows nothing of the
group outside: it only searches there.

What comes from outside is in the store under keys of its own, after what is registered inside, and keeps the reach it has: "user",
mostly. When the outer registry dies, its successor is waited for as by any client; what was there stays so long.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from kvoshim.errors import KvoshimError, UnknownNameError
from kvoshim.registry import seat, wire
from kvoshim.registry.client import asking
from kvoshim.registry.client.client import Client
from kvoshim.registry.client.drivers import ThreadDriver
from kvoshim.registry.client.link import Link
from kvoshim.registry.client.search import Search
from kvoshim.registry.daemon.service import Service
from kvoshim.registry.entry import Entry, Pattern

log = logging.getLogger("kvoshim.registry")

_AGAIN_S = 1.0


class Outside:
    """A client of the outer registry, on a thread of its own: the daemon's loop is not to wait while one is looked for."""

    def __init__(self, loop, service: Service) -> None:
        self._loop = loop
        self._service = service
        self._client: Client | None = None
        self._shown: dict[int, Entry] = {}  # by its number inside
        self._closed = threading.Event()
        service.outside = self
        self._thread = threading.Thread(target=self._connect, name="kvoshim-outside", daemon=True)
        self._thread.start()

    def _connect(self) -> None:
        said = ""
        while not self._closed.is_set():
            try:
                link = Link(seat.connect())
            except (KvoshimError, OSError) as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("nothing is shown from outside for now: %s", error)
                self._closed.wait(_AGAIN_S)
                continue
            client = Client(link.scope, link, ThreadDriver())
            self._client = client
            if self._closed.is_set():
                client.close()
                return
            search = Search(client, Pattern("*"), lambda event: self._loop.call_soon_threadsafe(self._take, event))
            client.watch(search)
            return

    def _take(self, event) -> None:
        if event.entry is None or self._closed.is_set():
            return
        number = event.entry.id
        if number in self._service.catalogue:
            return  # one of the group's own has that number: as good as impossible, and it goes first
        if event.kind == "removed":
            entry = self._shown.pop(number, None)
            if entry is not None:
                self._service.mirror([], [entry])
        else:
            self._shown[number] = event.entry
            self._service.mirror([event.entry], [])

    def ask(self, number: int, what: wire.What, finish: Callable[[str, KvoshimError | None], None]) -> None:
        """Asks a process outside; finish() is called on the daemon's loop. UnknownNameError."""
        entry, client = self._shown.get(number), self._client
        if entry is None or client is None:
            raise UnknownNameError(f"nothing is registered under number {number}")
        asking.begin(client, entry, what, lambda text, error: self._loop.call_soon_threadsafe(finish, text, error))

    def __len__(self) -> int:
        return len(self._shown)

    def close(self) -> None:
        self._closed.set()
        if self._client is not None:
            self._client.close()
        self._thread.join(5.0)
