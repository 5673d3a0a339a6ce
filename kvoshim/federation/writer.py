"""What is registered here, told to one other host's server, or to the operator's cluster.

A session begins with a new epoch: all entries are written under it, then the lease names it, and watchers change over at once. From
then on each change is written when it happens, and the lease is renewed three times before it would expire. It is renewed as a
comparison: if the lease is not the one that was written last, it has expired there meanwhile and the entries are forgotten, or
somebody else has written it; then a new session begins. That takes no clock, and no agreement about one.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Sequence

import nats.errors
import nats.js.errors

from kvoshim.errors import HostsError
from kvoshim.federation import keys
from kvoshim.federation.connecting import Connection, Connector, words
from kvoshim.registry.entry import Entry

_BATCH = 128  # writes under way at a time
_BACKOFF_S = (0.1, 1.0)
_MARKER_S = 60  # that the marker of a key that was taken back stays: watchers have seen it by then
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_WRONG = (10071, 10164)  # JetStream's codes: it is not


class Local:
    """What is registered on this host. ready: all of it is known."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.ready = asyncio.Event()
        self.writers: set[Writer] = set()

    def change(self, put: Sequence[Entry], drop: Sequence[int]) -> None:
        self.entries.update((entry.id, entry) for entry in put)
        for number in drop:
            self.entries.pop(number, None)
        for writer in self.writers:
            writer.dirty.update(dict.fromkeys([*(entry.id for entry in put), *drop]))
            writer.wake.set()


class Writer:
    """Runs until it is cancelled. servers: where to connect to; they may change. name: of the other host, for people. told(): the
    state has changed. own_bucket: whether whoever is there makes the bucket."""

    def __init__(
        self, name: str, servers: Sequence[str], local: Local, host: str, lease: float, connector: Connector,
        told: Callable[[], None], own_bucket: bool,
    ) -> None:  # fmt: skip
        self.name = name
        self.servers = servers
        self.state = "is being connected"  # "": all is told
        self.connection: Connection | None = None  # while a session goes on
        self.dirty: dict[int, None] = {}  # in the order in which they changed
        self.wake = asyncio.Event()
        self._local = local
        self._host = host
        self._beat = lease / 3
        self._lease = lease
        self._connector = connector
        self._told = told
        self._opens = not own_bucket  # other hosts make their buckets by themselves
        self._epoch = ""
        self._leaving = False
        self._left = asyncio.Event()
        local.writers.add(self)

    async def run(self) -> None:
        pause = _BACKOFF_S[0]
        try:
            while not self._leaving:
                try:
                    await self._session()
                except Exception as error:  # nats-py has accidents of its own when a connection dies under it
                    well = not self.state
                    self._say(words(error))
                    pause = _BACKOFF_S[0] if well else min(2 * pause, _BACKOFF_S[1])
                await asyncio.sleep(random.uniform(0.5, 1.5) * pause)  # many may have lost the same server
        finally:
            self._local.writers.discard(self)
            self._left.set()

    def _say(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self._told()

    async def _session(self) -> None:
        await self._local.ready.wait()
        connection = await self._connector.connect(self.servers, self.name)
        try:
            if self._opens:
                await connection.open_bucket(self._connector.replicas)
            self._epoch = secrets.token_hex(8)
            self.dirty = dict.fromkeys(self._local.entries)
            while self.dirty:
                await self._write_some(connection)
            at = await self._renew(connection, None)
            self.connection = connection
            self._say("")
            await self._go_on(connection, at)
        finally:
            self.connection = None
            await connection.close()

    async def _go_on(self, connection: Connection, at: int) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._beat
        closing = asyncio.create_task(connection.closed.wait())
        closing.add_done_callback(lambda _: self.wake.set())
        try:
            while not connection.closed.is_set():
                if self._leaving:
                    return await self._leave(connection)
                while self.dirty and loop.time() < due:
                    await self._write_some(connection)
                if loop.time() >= due:
                    due = loop.time() + self._beat
                    at = await self._renew(connection, at)
                    continue
                self.wake.clear()
                if self.dirty:
                    continue
                try:
                    await asyncio.wait_for(self.wake.wait(), max(0.0, due - loop.time()))
                except TimeoutError:
                    pass
        finally:
            closing.cancel()
        raise nats.errors.ConnectionClosedError

    async def _write_some(self, connection: Connection) -> None:
        """Writes what has changed, a part of it if it is much. What fails is written again in another session."""
        numbers = list(self.dirty)[:_BATCH]
        for number in numbers:
            del self.dirty[number]
        await asyncio.gather(*(self._write(connection, number) for number in numbers))

    async def _write(self, connection: Connection, number: int) -> None:
        subject = connection.subject(keys.entry_key(self._host, self._epoch, number))
        entry = self._local.entries.get(number)
        if entry is not None:
            await connection.js.publish(subject, keys.encode_entry(entry), stream=connection.stream)
        else:
            headers = {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}
            await connection.js.publish(subject, stream=connection.stream, headers=headers, msg_ttl=_MARKER_S)

    async def _renew(self, connection: Connection, at: int | None) -> int:
        """at: the revision of the lease that was written last; None: whatever it is."""
        headers = {} if at is None else {_EXPECTED: str(at)}
        subject = connection.subject(keys.lease_key(self._host))
        try:
            done = await connection.js.publish(
                subject, keys.encode_lease(self._host, self._epoch), stream=connection.stream, headers=headers, msg_ttl=self._lease
            )
        except nats.js.errors.APIError as error:
            if error.err_code in _WRONG:
                raise HostsError("the lease had expired there") from None
            raise
        return done.seq

    # --- leaving ---------------------------------------------

    async def take_back(self) -> None:
        """This host leaves in order: its lease is taken back there, and with it all that is registered here."""
        if self.connection is not None:
            self._leaving = True
            self.wake.set()
            await self._left.wait()

    async def _leave(self, connection: Connection) -> None:
        headers = {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}
        lease = connection.subject(keys.lease_key(self._host))
        entries = connection.subject(keys.epoch_keys(keys.token(self._host), self._epoch))
        await connection.js.publish(lease, stream=connection.stream, headers=headers, msg_ttl=_MARKER_S)
        await connection.js.purge_stream(connection.stream, subject=entries)
