"""More of what notify.py measures (see transports.py): D-Bus signals, NATS JetStream's key-value watch, iceoryx2's blackboard."""

import asyncio
import ctypes
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from waiting import Take, ended, until

SUBJECT = "org.kvoshim.Bench"


async def standard_input_ended() -> None:
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(0, ended.set)
    await ended.wait()
    loop.remove_reader(0)


class DBus:
    """A signal over a bus daemon of its own, by dbus-fast."""

    @contextmanager
    def publisher(self, arguments) -> Iterator[Callable]:
        from dbus_fast import Message

        daemon = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--nosyslog", f"--address=unix:path={arguments.path}.d"])
        try:
            until(lambda: Path(arguments.path + ".d").exists())
            with asyncio.Runner() as runner:
                bus = runner.run(self.connect(arguments))

                async def emit(value: bytes) -> None:
                    await bus.send(Message.new_signal("/bench", SUBJECT, "Changed", "ay", [value]))

                def publish(value: bytes) -> None:
                    runner.run(emit(value))

                yield publish
                bus.disconnect()
        finally:
            daemon.terminate()
            daemon.wait()

    @staticmethod
    async def connect(arguments):
        from dbus_fast.aio import MessageBus

        return await MessageBus(bus_address=f"unix:path={arguments.path}.d").connect()

    @contextmanager
    def observer(self, arguments, count: int, take: Take) -> Iterator[Callable]:
        with asyncio.Runner() as runner:
            buses = runner.run(self.subscribe(arguments, count, take))
            yield lambda: runner.run(standard_input_ended())
            for bus in buses:
                bus.disconnect()

    async def subscribe(self, arguments, count: int, take: Take) -> list:
        from dbus_fast import Message

        def heard(message) -> None:
            if message.member == "Changed":
                take(message.body[0])

        buses = [await self.connect(arguments) for _ in range(count)]
        for bus in buses:
            bus.add_message_handler(heard)
            await bus.call(Message("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "AddMatch",
                                   signature="s", body=[f"type='signal',interface='{SUBJECT}'"]))
        return buses


class Nats:
    """put() and watch() of a JetStream bucket in memory, over TCP on the loopback interface, by nats-py."""

    @contextmanager
    def publisher(self, arguments) -> Iterator[Callable]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        program = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server"
        server = subprocess.Popen(
            [program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", arguments.path + ".n"], stderr=subprocess.DEVNULL)
        try:
            until(lambda: self.listens(port))
            with asyncio.Runner() as runner:
                client, bucket = runner.run(self.connect(port, True))
                Path(arguments.path + ".port").write_text(str(port))

                def publish(value: bytes) -> None:
                    runner.run(bucket.put("k", value))

                publish.call = lambda: runner.run(bucket.get("k")).value
                yield publish
                runner.run(client.close())
        finally:
            server.terminate()
            server.wait()

    @staticmethod
    def listens(port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    @staticmethod
    async def connect(port: int, create: bool) -> tuple:
        import nats
        from nats.js.api import KeyValueConfig, StorageType

        client = await nats.connect(f"nats://127.0.0.1:{port}")
        stream = client.jetstream()
        if create:
            return client, await stream.create_key_value(KeyValueConfig("bench", history=1, storage=StorageType.MEMORY))
        return client, await stream.key_value("bench")

    @contextmanager
    def observer(self, arguments, count: int, take: Take) -> Iterator[Callable]:
        with asyncio.Runner() as runner:
            port = int(Path(arguments.path + ".port").read_text())
            clients = [runner.run(self.connect(port, False)) for _ in range(count)]
            watchers = [runner.run(bucket.watch("k")) for _, bucket in clients]

            async def serve(watcher) -> None:
                async for update in watcher:
                    if update is not None:
                        take(update.value)

            async def run() -> None:
                tasks = [asyncio.create_task(serve(watcher)) for watcher in watchers]
                await standard_input_ended()
                for task in tasks:
                    task.cancel()
                for client, _ in clients:
                    await client.close()

            yield lambda: runner.run(run())


class Blackboard:
    """A value in iceoryx2's blackboard, and an event for the wake."""

    def services(self, arguments, create: bool) -> tuple:
        import iceoryx2 as iox2

        class Value(ctypes.Structure):
            _fields_ = [("bytes", ctypes.c_uint8 * arguments.size)]

            @staticmethod
            def type_name() -> str:
                return "Value"

        iox2.set_log_level(iox2.LogLevel.Error)
        node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
        name = "kvoshim-bench-board" + arguments.path.replace("/", "-")
        builder, key = node.service_builder(iox2.ServiceName.new(name)), ctypes.c_uint64(0)
        if create:
            board = builder.blackboard_creator(ctypes.c_uint64).max_readers(128).add(key, Value()).create()
        else:
            board = builder.blackboard_opener(ctypes.c_uint64).open()
        wakes = node.service_builder(iox2.ServiceName.new(name + "-event")).event().max_listeners(128).open_or_create()
        return iox2, Value, board, key, wakes, node

    @contextmanager
    def publisher(self, arguments) -> Iterator[Callable]:
        _iox2, Value, board, key, wakes, _node = self.services(arguments, True)
        entry, notifier = board.writer_builder().create().entry(key, Value), wakes.notifier_builder().create()
        handle = board.reader_builder().create().entry(key, Value)

        def publish(value: bytes) -> None:
            entry.update_with_copy(Value.from_buffer_copy(value))
            if arguments.mode != "get":
                notifier.notify()

        publish.call = lambda: handle.get().data
        yield publish

    @contextmanager
    def observer(self, arguments, count: int, take: Take) -> Iterator[Callable]:
        iox2, Value, board, key, wakes, _node = self.services(arguments, False)
        entry, listener = board.reader_builder().create().entry(key, Value), wakes.listener_builder().create()

        def run() -> None:
            while not ended():
                if listener.timed_wait(iox2.Duration.from_millis(100)):
                    value = entry.get().data
                    for _ in range(count):
                        take(value)

        yield run
