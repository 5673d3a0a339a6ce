"""A D-Bus service by dbus-next, on the bus that DBUS_SESSION_BUS_ADDRESS names: echoes, descriptors, signals, an end."""

import asyncio
import hashlib
import os

from dbus_next.aio import MessageBus
from dbus_next.service import ServiceInterface, method, signal

# ruff: noqa: F821  # the annotations are signatures of D-Bus


class Echo(ServiceInterface):
    def __init__(self):
        super().__init__("org.example.Echo")
        self.over = asyncio.Event()

    @method()
    def Say(self, text: "s") -> "s":
        return text

    @method()
    def Digest(self, data: "ay") -> "(us)":
        return [len(data), hashlib.sha256(data).hexdigest()]

    @method()
    def Bytes(self, count: "u") -> "ay":
        return bytes(i % 251 for i in range(1000)) * (count // 1000)

    @method()
    def Read(self, descriptor: "h") -> "s":
        try:
            return os.pread(descriptor, 100, 0).decode()
        finally:
            os.close(descriptor)

    @method()
    def Open(self, text: "s") -> "ah":
        descriptors = []
        for i in range(3):
            descriptors.append(os.memfd_create("carried"))
            os.write(descriptors[-1], f"{text} {i}".encode())
        asyncio.get_running_loop().call_later(1, lambda: [os.close(d) for d in descriptors])
        return descriptors

    @method()
    def Shout(self, count: "u"):
        for i in range(count):
            self.Shouted(i)

    @signal()
    def Shouted(self, number) -> "u":
        return number

    @method()
    def End(self):
        asyncio.get_running_loop().call_later(0.2, self.over.set)


async def main() -> None:
    bus = await MessageBus(negotiate_unix_fd=True).connect()
    echo = Echo()
    bus.export("/org/example/Echo", echo)
    await bus.request_name("org.example.Echo")
    await echo.over.wait()
    bus.disconnect()


asyncio.run(main())
