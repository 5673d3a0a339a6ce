"""A client of dbus_service.py by dbus-next: calls, large messages, descriptors, signals, many connections.

Not more at once than the kernel's buffers hold: dbus-next may lose its place where it has to wait with several messages.
"""

import asyncio
import hashlib
import os

from dbus_next import Message, MessageType
from dbus_next.aio import MessageBus

WHERE = {"destination": "org.example.Echo", "path": "/org/example/Echo", "interface": "org.example.Echo"}


async def call(bus: MessageBus, member: str, signature: str = "", body: list | None = None, fds: list | None = None) -> Message:
    return await bus.call(Message(**WHERE, member=member, signature=signature, body=body or [], unix_fds=fds or []))


async def basics(bus: MessageBus) -> None:
    for i in range(200):
        answer = await call(bus, "Say", "s", [f"word {i}"])
        assert answer.body == [f"word {i}"], answer.body
    print("two hundred calls")
    answers = await asyncio.gather(*(call(bus, "Say", "s", [f"word {i}"]) for i in range(100)))
    print("a hundred at once", [a.body for a in answers] == [[f"word {i}"] for i in range(100)])
    answer = await call(bus, "Nothing")
    print("no such method", answer.message_type is MessageType.ERROR, answer.error_name)
    answer = await call(bus, "Say", "u", [1])
    print("wrong arguments", answer.message_type is MessageType.ERROR, answer.error_name)


async def large(bus: MessageBus) -> None:
    for size in (0, 1000, 100_000, 5_000_000):
        data = bytes(i * 7 % 251 for i in range(1000)) * (size // 1000)
        count, digest = (await call(bus, "Digest", "ay", [data])).body[0]
        print("to the service", size, count, digest == hashlib.sha256(data).hexdigest())
        data = bytes((await call(bus, "Bytes", "u", [size])).body[0])
        print("to the client", size, hashlib.sha256(data).hexdigest()[:16])


async def descriptors(bus: MessageBus) -> None:
    for i in range(20):
        fd = os.memfd_create("given")
        os.write(fd, b"in a file %d" % i)
        answer = await call(bus, "Read", "h", [0], [fd])
        os.close(fd)
        assert answer.body == [f"in a file {i}"], (answer.body, answer.error_name)
    print("twenty descriptors given")
    for i in range(20):
        answer = await call(bus, "Open", "s", [f"file {i}"])
        texts = [os.pread(answer.unix_fds[number], 100, 0) for number in answer.body[0]]
        assert texts == [b"file %d %d" % (i, k) for k in range(3)], texts
        for fd in answer.unix_fds:
            os.close(fd)
    print("sixty descriptors taken")


async def signals(buses: list[MessageBus]) -> None:
    seen = {bus: [] for bus in buses}
    done = asyncio.Event()

    def listen(bus: MessageBus):
        def handler(message: Message) -> None:
            if message.member == "Shouted":
                seen[bus].append(message.body[0])
                if all(len(numbers) == 200 for numbers in seen.values()):
                    done.set()
        return handler
    for bus in buses:
        await bus.call(Message(destination="org.freedesktop.DBus", path="/org/freedesktop/DBus", member="AddMatch",
                               interface="org.freedesktop.DBus", signature="s", body=["interface='org.example.Echo'"]))
        bus.add_message_handler(listen(bus))
    await call(buses[0], "Shout", "u", [200])
    await asyncio.wait_for(done.wait(), 60)
    print("two hundred signals for each of", len(buses), all(numbers == list(range(200)) for numbers in seen.values()))


async def main() -> None:
    bus = await MessageBus(negotiate_unix_fd=True).connect()
    await basics(bus)
    await large(bus)
    await descriptors(bus)
    buses = [await MessageBus(negotiate_unix_fd=True).connect() for _ in range(20)]
    await signals(buses)
    answers = [a for i in range(50) for a in await asyncio.gather(*(call(b, "Say", "s", [str(i)]) for b in buses))]
    print("twenty clients", len(answers), {a.message_type for a in answers} == {MessageType.METHOD_RETURN})
    for b in buses:
        b.disconnect()
    print("after them", (await call(bus, "Say", "s", ["end"])).body)
    bus.disconnect()


asyncio.run(main())
