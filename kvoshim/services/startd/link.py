"""The connection to configd, over its ends: asks and is told; while nobody answers, the restarter goes on by what it knows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from kvoshim.errors import KvoshimError, RepositoryUnavailableError
from kvoshim.services.configd import wire
from kvoshim.services.configd.client import Client
from kvoshim.services.core.operations import AnyOperation

log = logging.getLogger("kvoshim.startd")

RETRY_S = 0.1
ANSWER_S = 5.0


class Link:
    """here(services): all of them, at each connection. happened(told): a wire.Happened. answered(request, error): of a
    submit(). back(): may submit again."""

    def __init__(
        self, loop: Any, directory: str, here: Callable, happened: Callable, answered: Callable[[int, KvoshimError | None], None]
    ) -> None:
        self._loop, self._directory = loop, directory
        self._here, self._happened, self._answered = here, happened, answered
        self._client: Client | None = None
        self._again: Any = None
        self._open: set[int] = set()
        self._told = False

    @property
    def up(self) -> bool:
        return self._client is not None

    def connect(self) -> None:
        self._again = None
        client = None
        try:
            client = Client(self._directory, timeout=ANSWER_S)
            services = client.watch().services
        except KvoshimError as error:
            if client is not None:
                client.close()
            if not self._told:
                log.warning("the repository cannot be asked, services go on as they are: %s", error)
                self._told = True
            self._again = self._loop.call_later(RETRY_S, self.connect)
            return
        self._told = False
        self._client = client
        self._loop.add_reader(client.fileno(), self._readable)
        self._here(services)
        self._readable()

    def submit(self, operations: list[AnyOperation]) -> int | None:
        """A number for answered(); None: nobody is there."""
        if self._client is None:
            return None
        try:
            request = self._client.submit(operations)
        except RepositoryUnavailableError as error:
            self._lose(error)
            return None
        self._open.add(request)
        return request

    def transact(self, operations: list[AnyOperation]) -> None:
        """Waits for the answer. KvoshimError."""
        if self._client is None:
            raise RepositoryUnavailableError("configd is not there")
        try:
            self._client.transact(*operations)
        except RepositoryUnavailableError as error:
            self._lose(error)
            raise
        self._loop.call_soon(self._readable)  # what it has told meanwhile is no longer announced by the descriptor

    def _readable(self) -> None:
        if self._client is None:
            return
        try:
            told = self._client.receive(0)
        except KvoshimError as error:
            self._lose(error)
            return
        for one in told:
            if isinstance(one, wire.Happened):
                self._happened(one)
            else:
                self._open.discard(one[0])
                self._answered(one[0], one[1] if isinstance(one[1], KvoshimError) else None)

    def _lose(self, error: KvoshimError) -> None:
        client, self._client = self._client, None
        if client is None:
            return
        self._loop.remove_reader(client.fileno())
        client.close()
        lost, self._open = self._open, set()
        if self._again is None:
            self._again = self._loop.call_later(RETRY_S, self.connect)
        for request in sorted(lost):
            self._answered(request, error)

    def close(self) -> None:
        if self._again is not None:
            self._again.cancel()
        if self._client is not None:
            self._loop.remove_reader(self._client.fileno())
            self._client.close()
            self._client = None
