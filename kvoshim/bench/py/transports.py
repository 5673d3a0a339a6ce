"""What notify.py measures: for each transport, how a value is published, and how a process is told of it.

publisher(arguments): a context manager that gives publish(value); publish.call() is what a mode without observers measures.
observer(arguments, count, take): one that subscribes `count` times and gives run(), which calls take(value) until standard input
ends.
"""

import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from brokers import Blackboard, DBus, Nats
from waiting import READY_S, Take, ended, until


class Kvoshim:
    """kvoshim's observables. delivery: which way changes take. crowd: how many other keys there are, of which another process
    observes the first ones of each store."""

    def __init__(self, delivery: str, crowd: int = 0) -> None:
        self.delivery = delivery
        self.crowd = crowd

    @contextmanager
    def publisher(self, arguments) -> Iterator[Callable]:
        import kvoshim

        path = arguments.path + ".c"
        controller = subprocess.Popen(
            [sys.executable, "-P", "-m", "kvoshim", "controller", "--socket", path], stderr=subprocess.DEVNULL)
        try:
            until(lambda: Path(path).exists() and Path(path + ".fds").exists())
            more = {"autostart": False, "controller": path, "history": 1 << 26, "max_keys": 65536 if self.crowd else None}
            with kvoshim.Observable("bench", **more) as observable, self.called(arguments, path, observable) as call:

                def publish(value: bytes, put=observable.set) -> None:
                    put("k", value)

                publish.call = call
                if not self.crowd:
                    yield publish
                    return
                with kvoshim.Observable("bench2", **more) as second:
                    for number in range(self.crowd // 2):
                        observable.set(f"key{number}", number)
                        second.set(f"key{number}", number)
                    observers = subprocess.Popen(
                        [sys.executable, "-P", "-c", _CROWD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                    try:
                        observers.stdout.readline()
                        before = private(controller.pid)
                        observers.stdin.write(b"more\n")
                        observers.stdin.flush()
                        observers.stdout.readline()
                        publish.figures = {"bytes_per_observation": (private(controller.pid) - before) / CROWD_MORE}
                        yield publish
                    finally:
                        observers.communicate()
        finally:
            controller.terminate()
            controller.wait()

    @contextmanager
    def called(self, arguments, path: str, observable) -> Iterator[Callable | None]:
        """What a mode without observers measures."""
        import kvoshim

        if arguments.mode in ("get", "among-get"):
            with kvoshim.Observer(autostart=False, controller=path) as observer:
                yield lambda: observer.get("bench", "k")
        elif arguments.mode == "attribute":
            thing = kvoshim.observable(type("Thing", (), {"value": 0}))()
            thing.value = 1
            with kvoshim.publish(thing, "thing", autostart=False, controller=path):

                def assign() -> None:
                    thing.value = 2

                yield assign
        else:
            value = bytes(arguments.size)
            yield lambda: observable.set("k", value)

    @contextmanager
    def observer(self, arguments, count: int, take: Take) -> Iterator[Callable]:
        import kvoshim

        mode = "every" if arguments.mode == "every" else "latest"
        with kvoshim.Observer(autostart=False, controller=arguments.path + ".c") as observer:
            tokens = [
                observer.observe("bench", "k", lambda change: take(change.new), options="new", mode=mode, delivery=self.delivery)
                for _ in range(count)
            ]
            until(lambda: all(token.delivery == self.delivery for token in tokens))
            yield lambda: sys.stdin.read()


def private(pid: int) -> int:
    """Bytes that a process has for itself, when what its last answers took is given back."""
    time.sleep(0.2)
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))


# The first tenth makes the controller find out which keys there are; what it keeps of an observation is told by the others.
CROWD_FIRST, CROWD_MORE = 100, 900
_CROWD = f"""
import sys, kvoshim
def observe(numbers):
    for number in numbers:
        observer.observe(("bench", "bench2")[number % 2], f"key{{number // 2}}", lambda change: None)
    print("ready", flush=True)
with kvoshim.Observer(autostart=False, controller=sys.argv[1]) as observer:
    observe(range({CROWD_FIRST}))
    sys.stdin.readline()
    observe(range({CROWD_FIRST}, {CROWD_FIRST + CROWD_MORE}))
    sys.stdin.read()
"""


class Redis:
    """PUBLISH and SUBSCRIBE over a Unix socket, GET for reading, by redis-py."""

    @contextmanager
    def publisher(self, arguments) -> Iterator[Callable]:
        server = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", arguments.path + ".r", "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL)
        try:
            until(lambda: Path(arguments.path + ".r").exists())
            with self.client(arguments) as client:
                until(lambda: self.answers(client))

                def publish(value: bytes) -> None:
                    (client.set if arguments.mode == "get" else client.publish)("k", value)

                publish.call = lambda: client.get("k")
                yield publish
        finally:
            server.terminate()
            server.wait()

    @staticmethod
    def client(arguments):
        import redis

        return redis.Redis(unix_socket_path=arguments.path + ".r")

    @staticmethod
    def answers(client) -> bool:
        import redis

        try:
            return client.ping()
        except redis.ConnectionError:
            return False

    @contextmanager
    def observer(self, arguments, count: int, take: Take) -> Iterator[Callable]:
        """`count` subscriptions, each of its own, as `count` observers have them."""
        clients = [self.client(arguments) for _ in range(count)]
        subscribed = [client.pubsub() for client in clients]
        for one in subscribed:
            one.subscribe("k")
            one.get_message(timeout=READY_S)

        def run() -> None:
            poll, waiting = select.epoll(), {one.connection._sock.fileno(): one for one in subscribed}
            for fd in (0, *waiting):
                poll.register(fd, select.EPOLLIN)
            while True:
                for fd, _ in poll.poll():
                    if fd == 0:
                        return
                    while (message := waiting[fd].get_message()) is not None:
                        take(message["data"])

        yield run
        for one in (*subscribed, *clients):
            one.close()


class Zmq:
    """PUB and SUB sockets over ipc."""

    @contextmanager
    def publisher(self, arguments) -> Iterator[Callable]:
        import zmq

        with zmq.Context() as context, context.socket(zmq.XPUB) as sock:
            sock.set(zmq.SNDHWM, 0)
            sock.set(zmq.XPUB_VERBOSE, 1)
            sock.set(zmq.LINGER, 0)
            sock.bind(f"ipc://{arguments.path}.z")

            def publish(value: bytes) -> None:
                sock.send(value)

            def settle(arguments) -> None:
                for _ in range(arguments.observers):
                    sock.recv()  # a subscription

            publish.settle = settle
            yield publish

    @contextmanager
    def observer(self, arguments, count: int, take: Take) -> Iterator[Callable]:
        import zmq

        with zmq.Context() as context:
            socks, poller = [], zmq.Poller()
            for _ in range(count):
                sock = context.socket(zmq.SUB)
                sock.set(zmq.RCVHWM, 0)
                sock.connect(f"ipc://{arguments.path}.z")
                sock.subscribe(b"")
                poller.register(sock, zmq.POLLIN)
                socks.append(sock)
            poller.register(0, zmq.POLLIN)

            def run() -> None:
                while True:
                    for sock, _ in poller.poll():
                        if sock == 0:
                            return
                        try:
                            while True:
                                take(sock.recv(zmq.NOBLOCK))
                        except zmq.Again:
                            pass

            yield run
            for sock in socks:
                sock.close(0)


class Manager:
    """A queue of multiprocessing.Manager for each observation; a dict for reading."""

    @contextmanager
    def publisher(self, arguments) -> Iterator[Callable]:
        from multiprocessing.managers import SyncManager

        manager = SyncManager(address=arguments.path + ".m", authkey=b"bench")
        with manager:
            shared, queues = manager.dict(), []
            Registry.hand_out(arguments.path, manager, arguments.observers, queues)

            def publish(value: bytes) -> None:
                if arguments.mode == "get":
                    shared["k"] = value
                for queue in queues:
                    queue.put(value)

            publish.call = lambda: shared["k"]
            yield publish

    @contextmanager
    def observer(self, arguments, count: int, take: Take) -> Iterator[Callable]:
        own = Registry.fetch(arguments.path, arguments.number * count, count)

        def run() -> None:
            def serve(queue) -> None:
                while True:
                    take(queue.get())

            for queue in own:
                threading.Thread(target=serve, args=(queue,), daemon=True).start()
            sys.stdin.read()

        yield run


class Registry:
    """How queues of a manager reach other processes."""

    @staticmethod
    def hand_out(path: str, manager, count: int, queues: list) -> None:
        import pickle
        from multiprocessing import current_process

        current_process().authkey = b"bench"
        queues += [manager.Queue() for _ in range(count)]
        Path(path + ".q").write_bytes(pickle.dumps(queues))

    @staticmethod
    def fetch(path: str, first: int, count: int) -> list:
        import pickle
        from multiprocessing import current_process

        current_process().authkey = b"bench"
        return pickle.loads(Path(path + ".q").read_bytes())[first:first + count]


class Wake:
    """The floor: the value in an mmap, and one datagram to each process that observes. hops: through a third process."""

    def __init__(self, third: bool) -> None:
        self.third = third

    @contextmanager
    def publisher(self, arguments) -> Iterator[Callable]:
        memory = self.memory(arguments)
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        names = [f"{arguments.path}.w{number}" for number in range(arguments.processes)]
        between = None
        if self.third:
            between = subprocess.Popen([sys.executable, "-P", "-c", _BETWEEN, arguments.path + ".t", *names])
            until(lambda: Path(arguments.path + ".t").exists())
            names = [arguments.path + ".t"]

        def publish(value: bytes) -> None:
            memory[0:len(value)] = value
            for name in names if arguments.mode != "get" else ():
                sender.sendto(b"x", name)

        publish.call = lambda: memory[:arguments.size]
        yield publish
        sender.close()
        if between is not None:
            between.kill()
            between.wait()

    @staticmethod
    def memory(arguments):
        import mmap

        with open(arguments.path + ".v", "a+b") as file:
            file.truncate(max(4096, arguments.size))
            return mmap.mmap(file.fileno(), max(4096, arguments.size))

    @contextmanager
    def observer(self, arguments, count: int, take: Take) -> Iterator[Callable]:
        memory = self.memory(arguments)
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(f"{arguments.path}.w{arguments.number}")

        def run() -> None:
            poll = select.poll()
            poll.register(0, select.POLLIN)
            poll.register(receiver, select.POLLIN)
            while True:
                for fd, _ in poll.poll():
                    if fd == 0:
                        return
                    receiver.recv(16)
                    value = memory[:arguments.size]
                    for _ in range(count):
                        take(value)

        yield run
        receiver.close()


_BETWEEN = """
import socket, sys
receiver, sender = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
receiver.bind(sys.argv[1])
while True:
    receiver.recv(16)
    for name in sys.argv[2:]:
        sender.sendto(b"x", name)
"""


class Iceoryx2:
    """Publish-subscribe for the value, an event for the wake."""

    def services(self, arguments):
        import ctypes

        import iceoryx2 as iox2

        iox2.set_log_level(iox2.LogLevel.Error)
        node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
        name = "kvoshim-bench" + arguments.path.replace("/", "-")
        values = (node.service_builder(iox2.ServiceName.new(name)).publish_subscribe(iox2.Slice[ctypes.c_uint8])
                  .max_subscribers(128).enable_safe_overflow(True).open_or_create())
        wakes = node.service_builder(iox2.ServiceName.new(name + "-event")).event().max_listeners(128).open_or_create()
        return iox2, node, values, wakes

    @contextmanager
    def publisher(self, arguments) -> Iterator[Callable]:
        import ctypes

        _iox2, node, values, wakes = self.services(arguments)
        publisher = values.publisher_builder().initial_max_slice_len(arguments.size).create()
        notifier = wakes.notifier_builder().create()

        def publish(value: bytes) -> None:
            sample = publisher.loan_slice_uninit(len(value))
            ctypes.memmove(sample.payload_ptr, value, len(value))
            sample.assume_init().send()
            notifier.notify()

        yield publish
        for one in (publisher, notifier):
            one.delete()

    @contextmanager
    def observer(self, arguments, count: int, take: Take) -> Iterator[Callable]:
        import ctypes

        iox2, node, values, wakes = self.services(arguments)
        subscribers = [values.subscriber_builder().create() for _ in range(count)]
        listener = wakes.listener_builder().create()

        def run() -> None:
            while not ended():
                listener.timed_wait(iox2.Duration.from_millis(100))
                for subscriber in subscribers:
                    while (sample := subscriber.receive()) is not None:
                        payload = sample.payload()
                        take(ctypes.string_at(payload.data_ptr, payload.number_of_elements))
                        sample.delete()

        yield run
        for one in (*subscribers, listener):
            one.delete()


TRANSPORTS = {
    "kvoshim": Kvoshim("direct"),
    "controller": Kvoshim("controller"),
    "many": Kvoshim("direct", 100_000),
    "redis": Redis(),
    "zmq": Zmq(),
    "manager": Manager(),
    "iceoryx2": Iceoryx2(),
    "wake": Wake(False),
    "third": Wake(True),
    "dbus": DBus(),
    "nats": Nats(),
    "blackboard": Blackboard(),
}
