"""The bridge: between this host's registry, at the other end of a pair of sockets, and all other hosts' servers."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Coroutine
from typing import Any

import msgspec

from kvoshim.errors import HostsError, ProtocolError
from kvoshim.federation import asking, authority, keys
from kvoshim.federation.connecting import FAILURES, Connector, words
from kvoshim.federation.directory import Change, Directory
from kvoshim.federation.server import Server, addresses
from kvoshim.federation.watcher import Watcher
from kvoshim.federation.writer import Local, Writer
from kvoshim.process.framing import frame
from kvoshim.registry.daemon import bridging
from kvoshim.registry.daemon.settings import Cluster

_READ_SIZE = 1 << 16
_ROUTES_S = 5.0  # between looks at this host's addresses
_LEAVE_S = 2.0  # to take back what other hosts were told
_END_S = 6  # for all of the end
_TEXT_MAX = 2000
_CLUSTER = "the cluster"  # what its writer is called


class Ended(Exception):
    """The registry has ended. in_order: and what is registered here with it."""

    def __init__(self, in_order: bool) -> None:
        self.in_order = in_order


class Bridge:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._frames = bridging.of_registry()
        self._begin: bridging.Begin | None = None
        self._local = Local()
        self._writers: dict[str, tuple[Writer, asyncio.Task]] = {}
        self._tasks: set[asyncio.Task] = set()
        self._server: Server | None = None
        self._failed: asyncio.Future | None = None
        self._told_left_out = 0
        self._peers: dict[str, tuple[str, ...]] = {}
        self._directory: Directory | None = None  # from the moment when all is ready

    # --- the registry's side ---------------------------------------------

    async def run(self) -> None:
        """Until the registry ends. HostsError where nothing can be done."""
        reader, self._out = await asyncio.open_connection(sock=self._sock)
        self._failed = asyncio.get_running_loop().create_future()
        reading = asyncio.create_task(self._read(reader))
        in_order = False
        try:
            await asyncio.wait({reading, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
            reading.result()
        except Ended as end:
            in_order = end.in_order
        finally:
            reading.cancel()
            await self._close(in_order)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_READ_SIZE):
            for message in self._frames.feed(data):
                await self._take(message)
        raise Ended(in_order=False)

    async def _take(self, message: Any) -> None:
        match message:
            case bridging.Begin():
                self._begin = message
                self._spawn(self._start())
            case bridging.Peers():
                self._peers = message.hosts
                self._follow()
            case bridging.Local():
                self._local.change(message.put, message.drop)
            case bridging.Ready():
                self._local.ready.set()
            case bridging.Question():
                self._spawn(self._ask(message))
            case bridging.Reply():
                await self._asked.answer(message)
            case bridging.Farewell():
                raise Ended(in_order=True)

    def _say(self, message: Any) -> None:
        if not self._out.is_closing():
            self._out.write(frame(message))

    def _log(self, level: int, text: str) -> None:
        self._say(bridging.Say(level, text[:_TEXT_MAX]))

    def _spawn(self, work: Coroutine) -> asyncio.Task:
        """Whatever goes wrong in it ends the bridge: the registry starts another one."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self._failed.done():
            self._failed.set_exception(task.exception())

    # --- the start ---------------------------------------------

    async def _start(self) -> None:
        begin = self._begin
        own = keys.token(begin.host)
        directory = Directory(own, begin.lease_s, begin.most)
        self._asked = asking.Asked(begin.host, self._say)
        name = f"kvoshim registry of {begin.host}"
        if begin.cluster is not None:
            cluster = msgspec.convert(begin.cluster, Cluster)
            self._connector = Connector(name, None, cluster, begin.lease_s)
            servers = cluster.servers
        else:
            identity = await asyncio.to_thread(authority.prepare, begin.home, begin.host)
            self._connector = Connector(name, identity, None, begin.lease_s)
            self._server = Server(begin.server, begin.run, begin.listen, begin.host, identity)
            await self._server.start()
            self._spawn(self._keep_server())
            servers = (f"127.0.0.1:{self._server.port}",) if begin.listen.startswith(("0.0.0.0", "[::]")) else addresses(
                self._server.port, begin.listen, ()
            )  # fmt: skip
        self._directory = directory
        if begin.cluster is not None:
            self._add_writer(_CLUSTER, servers, own_bucket=False)
        watcher = Watcher(
            begin.host, servers, self._connector, directory, begin.reach, self._tell, self._whole, self._asked.attach,
            lambda text: self._log(logging.WARNING, text),
        )  # fmt: skip
        self._spawn(watcher.run())
        self._follow()

    async def _keep_server(self) -> None:
        """Tells where the server is, and starts it again, at the same port, when it has ended. Others tell it everything anew."""
        begin, told = self._begin, ()
        while True:
            if self._server.ended.done():
                self._log(logging.ERROR, f"this host's nats-server has ended with exit code {self._server.ended.result()}")
                await self._server.start()
                self._tell_state()
            now = addresses(self._server.port, begin.listen, begin.advertise)
            if now != told:
                told = now
                self._say(bridging.Route(now))
                self._log(logging.INFO, f"this host's nats-server, PID {self._server.pid}, is at {', '.join(now) or 'no address yet'}")
            await asyncio.wait({self._server.ended}, timeout=_ROUTES_S)

    # --- other hosts ---------------------------------------------

    def _follow(self) -> None:
        """One writer for each host that has a server."""
        if self._directory is None or self._begin.cluster is not None:
            return
        for name, servers in self._peers.items():
            if servers and name not in self._writers:
                self._add_writer(name, servers)
            elif servers:
                self._writers[name][0].servers = servers
        for name in [name for name in self._writers if not self._peers.get(name)]:
            writer, task = self._writers.pop(name)
            self._local.writers.discard(writer)
            task.cancel()
        self._tell_state()

    def _add_writer(self, name: str, servers: tuple[str, ...], own_bucket: bool = True) -> None:
        begin = self._begin
        writer = Writer(
            name, servers, self._local, begin.host, begin.lease_s, self._connector, lambda: self._link_changed(writer), own_bucket
        )
        self._writers[name] = writer, self._spawn(writer.run())

    def _link_changed(self, writer: Writer) -> None:
        self._log(logging.WARNING if writer.state else logging.INFO, f"to {writer.name}: {writer.state or 'all is told'}")
        self._tell_state()

    def _tell_state(self) -> None:
        links = {name: writer.state for name, (writer, _) in self._writers.items()}
        hosts = self._directory.hosts() if self._directory is not None else {}
        self._say(bridging.State(hosts, links, self._server.pid if self._server is not None else 0))

    def _tell(self, change: Change) -> None:
        for name in change.silent:
            self._log(logging.WARNING, f"host {name} is silent: what is registered there is not shown any more")
        for name in change.awake:
            self._log(logging.INFO, f"host {name} is here")
        put, drop = change.put, [(entry.id, entry.host) for entry in change.drop]
        for at in range(0, max(len(put), len(drop)), bridging.CHUNK):
            self._say(bridging.Shown(put[at : at + bridging.CHUNK], drop[at : at + bridging.CHUNK]))
        if self._directory.left_out > self._told_left_out:
            self._told_left_out = self._directory.left_out
            self._log(logging.ERROR, f"{self._told_left_out} entries of other hosts are left out: {self._begin.most} are allowed")
        if change.silent or change.awake:
            self._tell_state()

    def _whole(self) -> None:
        self._say(bridging.Whole())

    async def _ask(self, question: bridging.Question) -> None:
        host = self._directory.whose(question.id) if self._directory is not None else ""
        writer, _ = self._writers.get(host if self._begin.cluster is None else _CLUSTER, (None, None))
        connection = writer.connection if writer is not None else None
        self._say(await asking.ask(connection, host or question.host, question))

    # --- the end ---------------------------------------------

    async def _close(self, in_order: bool) -> None:
        # Where the registry has gone, nobody else would end this process: a task that takes no notice of being cancelled (the client
        # library has such moments) must not keep it. The signal's default action ends it, and the server ends with its parent.
        signal.alarm(_END_S)
        if in_order:
            writers = [writer.take_back() for writer, _ in self._writers.values()]
            try:
                await asyncio.wait_for(asyncio.gather(*writers), _LEAVE_S)
            except FAILURES:
                pass
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.close()
        self._out.close()


def main(fd: int) -> int:
    """Returns the exit code. What is said goes to the registry's log."""
    for name in ("nats", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # each failure is told by whom it concerns
    with socket.socket(fileno=fd) as sock:
        sock.setblocking(False)
        try:
            asyncio.run(Bridge(sock).run())
        except (HostsError, ProtocolError, *FAILURES) as error:
            print(words(error), flush=True)
            return 1
    return 0
