"""What other hosts have told this host's server, or the operator's cluster: watched, judged by the directory, told to the registry.

A watch that is lost is begun anew, and its first part, all that there is, is compared with what was known.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import nats.errors
from nats.js.kv import KeyValue

from kvoshim.federation import keys
from kvoshim.federation.connecting import FAILURES, Connection, Connector, words
from kvoshim.federation.directory import Change, Directory

_BACKOFF_S = (0.05, 1.0)
_HEARING_S = 0.05


class Watcher:
    """Runs until it is cancelled. host, servers: whose bucket, and where. tell(change): what is to be told. whole(): all that there is
    has been told. attach(connection): what else such a connection is good for. trouble(text): for the log."""

    def __init__(
        self, host: str, servers: Sequence[str], connector: Connector, directory: Directory, reach: str,
        tell: Callable[[Change], None], whole: Callable[[], None], attach: Callable[[Connection], Awaitable[None]],
        trouble: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._host = host
        self._servers = servers
        self._connector = connector
        self._directory = directory
        self._reach = reach
        self._tell = tell
        self._whole = whole
        self._attach = attach
        self._trouble = trouble
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task] = set()
        self._well = False  # all that there is has been told, by the present watch

    async def run(self) -> None:
        pause, said = _BACKOFF_S[0], ""
        try:
            while True:
                self._well = False
                try:
                    await self._session()
                except Exception as error:  # as in writer.py
                    if (text := words(error)) != said or self._well:
                        said = text
                        self._trouble(f"other hosts cannot be heard for now: {text}")
                pause = _BACKOFF_S[0] if self._well else min(2 * pause, _BACKOFF_S[1])
                await asyncio.sleep(random.uniform(0.5, 1.5) * pause)
        finally:
            if self._timer is not None:
                self._timer.cancel()

    async def _session(self) -> None:
        connection = await self._connector.connect(self._servers, self._host)
        watch = None
        try:
            bucket = await connection.open_bucket(self._connector.replicas)
            await self._attach(connection)
            self._directory.begin_snapshot()
            watch = await bucket.watchall()
            taking = asyncio.create_task(self._take_all(connection, watch))
            closing = asyncio.create_task(connection.closed.wait())
            try:
                await asyncio.wait({taking, closing}, return_when=asyncio.FIRST_COMPLETED)
                if taking.done():
                    taking.result()
            finally:
                taking.cancel()
                closing.cancel()
            raise nats.errors.ConnectionClosedError
        finally:
            await connection.close()

    async def _take_all(self, connection: Connection, watch: KeyValue.KeyWatcher) -> None:
        async for update in watch:
            if update is None:
                change = self._directory.end_snapshot()
                self._act(connection, change)
                self._well = True
                self._whole()
            else:
                self._act(connection, self._take(update))

    def _take(self, update: KeyValue.Entry) -> Change:
        """One change of the bucket. After its expiry a key comes with no value (and get() would return an entry with value None)."""
        parts = keys.parse(update.key)
        if parts is None:
            return Change()
        host, epoch, number = parts
        value = update.value if update.operation is None else None
        if epoch:
            return self._directory.entry(host, epoch, number, None if not value else keys.decode_entry(number, value, self._reach))
        if not value:
            return self._directory.lease_gone(host)
        lease = keys.decode_lease(host, value)
        if lease is None:
            return Change()
        return self._directory.lease(host, lease.host, lease.epoch, asyncio.get_running_loop().time())

    def _act(self, connection: Connection, change: Change) -> None:
        if change:
            self._tell(change)
        for host, epoch in change.stale:
            task = asyncio.create_task(self._purge(connection, host, epoch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._set_timer()

    @staticmethod
    async def _purge(connection: Connection, host: str, epoch: str) -> None:
        try:
            await connection.js.purge_stream(connection.stream, subject=connection.subject(keys.epoch_keys(host, epoch)))
        except FAILURES:
            pass  # it only takes memory

    # --- time ---------------------------------------------

    def _set_timer(self) -> None:
        """Leases are renewed over and over: the timer that is set is kept, and asks again when it is due."""
        deadline = self._directory.deadline()
        if deadline is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._due)

    def _due(self) -> None:
        """A bridge that was held up takes in what has come meanwhile, before it judges others."""
        self._timer = asyncio.get_running_loop().call_later(_HEARING_S, self._judge)

    def _judge(self) -> None:
        self._timer = None
        change = self._directory.pass_time(asyncio.get_running_loop().time())
        if change:
            self._tell(change)
        self._set_timer()
