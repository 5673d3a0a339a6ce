"""What names.py measures: for each way to find programs by name, how one is registered, found, and told of.

server(arguments): a context manager that starts what has to run, and gives pids(). member(arguments): gives register(name), which
returns what ends it. finder(arguments, ask): gives find(name). searcher(arguments, count, take): searches `count` times and gives
run(), which calls take("added" or "removed", name) until standard input ends.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from brokers import standard_input_ended
from waiting import until

Tell = Callable[[str, str], None]
TTL_MS, FRESH_S = 1000, 0.3  # of a key in Redis, and how often its owner says that it is there
KIND = "_bench._tcp.local."


class Way:
    """prepare(): what every process of a measurement does first."""

    def prepare(self, arguments) -> None:
        pass


class Kvoshim(Way):
    def prepare(self, arguments) -> None:
        os.environ.update(XDG_RUNTIME_DIR=arguments.path + ".run", HOME=arguments.path + ".home")

    @contextmanager
    def server(self, arguments) -> Iterator[Callable]:
        for name in ("XDG_RUNTIME_DIR", "HOME"):
            os.makedirs(os.environ[name], mode=0o700)
        daemon = None
        if arguments.mode != "election":  # there, those who want one start it
            command = [sys.executable, "-P", "-m", "kvoshim", "registry", "serve"]
            daemon = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            daemon.stderr.readline()
        try:
            yield lambda: [self.holder()]
        finally:
            from kvoshim.registry.client import pool

            pool.close()
            if daemon is not None:
                daemon.terminate()
                daemon.wait()
                daemon.stderr.close()
            elif pid := self.holder():
                os.kill(pid, signal.SIGTERM)
                until(lambda: self.holder() != pid)
            with contextlib.suppress(ChildProcessError):
                while arguments.mode == "election":
                    os.waitpid(-1, 0)

    @staticmethod
    def holder() -> int:
        from kvoshim.registry.seat import portfile

        record = portfile.read(os.path.join(os.environ["XDG_RUNTIME_DIR"], "kvoshim", "registry"), os.geteuid()).record
        return record.pid if record is not None else 0

    @contextmanager
    def member(self, arguments) -> Iterator[Callable]:
        from kvoshim import registry

        yield lambda name: registry.register(name, address="/bench").close

    @contextmanager
    def finder(self, arguments, ask: bool) -> Iterator[Callable]:
        from kvoshim import registry

        yield registry.lookup if ask else registry.find

    @contextmanager
    def searcher(self, arguments, count: int, take: Tell) -> Iterator[Callable]:
        from kvoshim import registry

        searches = [registry.watch("b*", lambda event: event.entry and take(event.kind, event.entry.name)) for _ in range(count)]
        yield sys.stdin.read
        for one in searches:
            one.close()

    @contextmanager
    def crowd(self, arguments) -> Iterator[tuple[Callable, Callable]]:
        """Many processes that are registered: kill() ends their registry; complete(): all are registered."""
        from kvoshim.errors import KvoshimError
        from kvoshim.process.client import ControlClient

        path = os.path.join(os.environ["XDG_RUNTIME_DIR"], "kvoshim", "registry.ctl")

        def complete() -> bool:
            try:
                with ControlClient(path, 30) as client:
                    status = client.call("status-get")
            except KvoshimError:
                return False
            return status["settled"] and status["entries"] == arguments.size

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: the daemons that are killed are this process's to bury
        crowd = subprocess.Popen([sys.executable, "-P", "-c", _CROWD, str(arguments.size)], stdin=subprocess.PIPE)
        try:
            yield lambda: os.kill(self.holder(), signal.SIGKILL), complete
        finally:
            crowd.communicate()


_CROWD = """
import os, signal, sys
from kvoshim import registry
from kvoshim.registry.client import pool, registration  # loaded once, for all who are forked
children = []
for number in range(int(sys.argv[1])):
    pid = os.fork()
    if not pid:
        try:
            sys.stdin.close()
            registry.register(f"crowd{number}", address="/bench")
            signal.pause()
        finally:
            os._exit(1)
    children.append(pid)
sys.stdin.read()
for pid in children:
    os.kill(pid, signal.SIGKILL)
for pid in children:
    os.waitpid(pid, 0)
"""


class DBus(Way):
    """Names on a bus daemon of its own, by dbus-fast."""

    @contextmanager
    def server(self, arguments) -> Iterator[Callable]:
        daemon = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--nosyslog", f"--address=unix:path={arguments.path}.d"])
        try:
            until(lambda: Path(arguments.path + ".d").exists())
            yield lambda: [daemon.pid]
        finally:
            daemon.terminate()
            daemon.wait()

    @staticmethod
    @contextmanager
    def bus(arguments) -> Iterator[tuple[Callable, object, Callable]]:
        """call(member, signature, *values), the connection, run(coroutine)."""
        from dbus_fast import Message
        from dbus_fast.aio import MessageBus

        with asyncio.Runner() as runner:

            async def connect():
                return await MessageBus(bus_address=f"unix:path={arguments.path}.d").connect()

            bus = runner.run(connect())

            def call(member: str, signature: str, *values):
                message = Message("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", member, signature=signature,
                                  body=list(values))
                return runner.run(bus.call(message)).body

            yield call, bus, runner.run
            bus.disconnect()

    @contextmanager
    def member(self, arguments) -> Iterator[Callable]:
        with self.bus(arguments) as (call, _, _run):

            def register(name: str) -> Callable:
                call("RequestName", "su", "bench." + name, 0)
                return lambda: call("ReleaseName", "s", "bench." + name)

            yield register

    @contextmanager
    def finder(self, arguments, ask: bool) -> Iterator[Callable]:
        with self.bus(arguments) as (call, _, _run):
            yield lambda name: call("GetNameOwner", "s", "bench." + name)

    @contextmanager
    def searcher(self, arguments, count: int, take: Tell) -> Iterator[Callable]:
        def heard(message) -> None:
            if message.member == "NameOwnerChanged" and message.body[0].startswith("bench."):
                name, _, new = message.body
                take("added" if new else "removed", name.removeprefix("bench."))

        with contextlib.ExitStack() as stack:
            for _ in range(count):
                call, bus, run = stack.enter_context(self.bus(arguments))
                bus.add_message_handler(heard)
                call("AddMatch", "s", "type='signal',member='NameOwnerChanged',arg0namespace='bench'")
            yield lambda: run(standard_input_ended())


class Redis(Way):
    """A key with a time to live, which its owner renews; keyspace notifications."""

    @contextmanager
    def server(self, arguments) -> Iterator[Callable]:
        command = ["redis-server", "--port", "0", "--unixsocket", arguments.path + ".r", "--save", "", "--appendonly", "no"]
        server = subprocess.Popen([*command, "--notify-keyspace-events", "KA"], stdout=subprocess.DEVNULL)
        try:
            until(lambda: Path(arguments.path + ".r").exists())
            until(lambda: self.answers(arguments))
            yield lambda: [server.pid]
        finally:
            server.terminate()
            server.wait()

    @staticmethod
    def client(arguments):
        import redis

        return redis.Redis(unix_socket_path=arguments.path + ".r")

    def answers(self, arguments) -> bool:
        import redis

        try:
            with self.client(arguments) as client:
                return client.ping()
        except redis.ConnectionError:
            return False

    @contextmanager
    def member(self, arguments) -> Iterator[Callable]:
        own, ended = set(), threading.Event()

        def renew() -> None:
            with self.client(arguments) as client:
                while not ended.wait(FRESH_S):
                    for name in list(own):
                        client.pexpire(name, TTL_MS)

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        with self.client(arguments) as client:

            def register(name: str) -> Callable:
                client.set("bench:" + name, "/bench", px=TTL_MS)
                own.add("bench:" + name)

                def close() -> None:
                    own.discard("bench:" + name)
                    client.delete("bench:" + name)

                return close

            yield register
        ended.set()
        thread.join()

    @contextmanager
    def finder(self, arguments, ask: bool) -> Iterator[Callable]:
        with self.client(arguments) as client:
            yield lambda name: client.get("bench:" + name)

    @contextmanager
    def searcher(self, arguments, count: int, take: Tell) -> Iterator[Callable]:
        kinds = {b"set": "added", b"del": "removed", b"expired": "removed"}
        with self.client(arguments) as client:
            subscribed = [client.pubsub() for _ in range(count)]
            for one in subscribed:
                one.psubscribe("__keyspace@0__:bench:*")
                one.get_message(timeout=20)

            def run() -> None:
                poll, waiting = select.epoll(), {one.connection._sock.fileno(): one for one in subscribed}
                for fd in (0, *waiting):
                    poll.register(fd, select.EPOLLIN)
                while True:
                    for fd, _ in poll.poll():
                        if fd == 0:
                            return
                        while (message := waiting[fd].get_message()) is not None:
                            if kind := kinds.get(message["data"]):
                                take(kind, message["channel"].decode().rpartition(":")[2])

            yield run
            for one in subscribed:
                one.close()


class Zeroconf(Way):
    """Multicast DNS on the loopback interface, by python-zeroconf. A dead process's record stays until its time is over, an hour."""

    @contextmanager
    def server(self, arguments) -> Iterator[Callable]:
        yield lambda: []

    @staticmethod
    @contextmanager
    def zeroconf() -> Iterator:
        import zeroconf

        one = zeroconf.Zeroconf(interfaces=["127.0.0.1"])
        yield one
        one.close()

    @contextmanager
    def member(self, arguments) -> Iterator[Callable]:
        import zeroconf

        with self.zeroconf() as own:

            def register(name: str) -> Callable:
                info = zeroconf.ServiceInfo(KIND, f"{name}.{KIND}", port=1, addresses=[socket.inet_aton("127.0.0.1")])
                own.register_service(info)
                return lambda: own.unregister_service(info)

            yield register

    @contextmanager
    def finder(self, arguments, ask: bool) -> Iterator[Callable]:
        with self.zeroconf() as own:
            yield lambda name: own.get_service_info(KIND, f"{name}.{KIND}")

    @contextmanager
    def searcher(self, arguments, count: int, take: Tell) -> Iterator[Callable]:
        import zeroconf

        class Listener:
            def add_service(self, _, kind: str, name: str) -> None:
                take("added", name.removesuffix("." + kind))

            def remove_service(self, _, kind: str, name: str) -> None:
                take("removed", name.removesuffix("." + kind))

            def update_service(self, *_) -> None:
                pass

        with self.zeroconf() as own:
            browsers = [zeroconf.ServiceBrowser(own, KIND, Listener()) for _ in range(count)]
            yield sys.stdin.read
            for one in browsers:
                one.cancel()


class Nats(Way):
    """NATS services (micro) over TCP on the loopback interface, by nats-py: found by asking all of that name. Nobody is told when one
    comes or goes."""

    @contextmanager
    def server(self, arguments) -> Iterator[Callable]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        program = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"
        server = subprocess.Popen([program, "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
        try:
            until(lambda: self.listens(port))
            Path(arguments.path + ".port").write_text(str(port))
            yield lambda: [server.pid]
        finally:
            server.terminate()
            server.wait()

    @staticmethod
    def listens(port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    @staticmethod
    async def connect(arguments):
        import nats

        return await nats.connect("nats://127.0.0.1:" + Path(arguments.path + ".port").read_text())

    @contextmanager
    def member(self, arguments) -> Iterator[Callable]:
        """A thread of its own: the service has to answer while this process asks."""
        from nats.micro import ServiceConfig, add_service

        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()

        def run(coroutine):
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result(20)

        client = run(self.connect(arguments))

        def register(name: str) -> Callable:
            service = run(add_service(client, ServiceConfig(name=name, version="1.0.0")))
            return lambda: run(service.stop())

        yield register
        run(client.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    @contextmanager
    def finder(self, arguments, ask: bool) -> Iterator[Callable]:
        with asyncio.Runner() as runner:
            client = runner.run(self.connect(arguments))

            async def find(name: str):
                return json.loads((await client.request(f"$SRV.INFO.{name}", b"", timeout=5)).data)

            def found(name: str):
                import nats.errors

                with contextlib.suppress(nats.errors.Error):
                    return runner.run(find(name))
                return None

            yield found
            runner.run(client.close())


WAYS = {"kvoshim": Kvoshim(), "dbus": DBus(), "redis": Redis(), "zeroconf": Zeroconf(), "nats": Nats()}
