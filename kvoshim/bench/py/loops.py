"""Round trips between two programs with event loops: prints one line of JSON, as stream.py does.

    loops.py server|client --path PATH [--loop asyncio|uvloop] [--style streams|protocol] [--module socket|kvoshim]
    loops.py client … [--size BYTES] [--seconds S] [--warm N] [--cpu N]

streams is the interface of readers and writers, protocol the one below it. --module kvoshim patches the program first
(kvoshim.patch()). It speaks the protocol of c/wire.h.
"""

import argparse
import asyncio
import json
import os
import sys
from time import perf_counter_ns

from figures import account, used, used_since
from phases import ACCOUNT, ECHO, END, MOST_TRIPS, NUMBER, PHASE


class Trips:
    """What the client does, whatever carries its bytes: `count` requests, each answer checked."""

    def __init__(self, size: int, count: int) -> None:
        self.size, self.count, self.done = size, count, 0
        self.rest = bytes(size - NUMBER.size)
        self.times = [0.0] * count
        self.start, self.begin = used(), perf_counter_ns()
        self.before = self.begin

    def request(self) -> bytes:
        """The next one."""
        return NUMBER.pack(self.done) + self.rest

    def answered(self, answer: bytes) -> None:
        """Notes the answer to the last request."""
        if answer != self.request():
            sys.exit(f"wrong answer to request {self.done}")
        now = perf_counter_ns()
        self.times[self.done] = now - self.before
        self.before = now
        self.done += 1

    def figures(self, message: bytes) -> dict[str, object]:
        """The end: the server's account has come."""
        near = used_since(self.start)
        done, _size, *far = ACCOUNT.unpack(message)
        if done != self.count:
            sys.exit(f"the server counts {done} requests, not {self.count}")
        return account(self.size, self.count, self.begin, near, far, self.times)


async def plan(trips, size: int, seconds: float, warm: int) -> dict[str, object]:
    """Warm-up, whose second half tells the pace, and the measured stretch, by trips(size, count)."""
    await trips(size, warm)
    rate = (await trips(size, warm))["messages_per_s"]
    return {"what": "rtt", **await trips(size, min(max(int(seconds * rate), 100), MOST_TRIPS))}


async def stream_server(path: str) -> None:
    """Serves one connection by reader and writer."""
    done = asyncio.get_running_loop().create_future()

    async def serve(reader, writer) -> None:
        while True:
            what, _take, count, size = PHASE.unpack(await reader.readexactly(PHASE.size))
            if what == END:
                break
            start = used()
            for _ in range(count):
                writer.write(await reader.readexactly(size))
                await writer.drain()
            writer.write(ACCOUNT.pack(count, count * size, *used_since(start)))
        writer.close()
        await writer.wait_closed()
        done.set_result(None)

    server = await asyncio.start_unix_server(serve, path)
    await done
    server.close()
    await server.wait_closed()


async def stream_client(path: str, size: int, seconds: float, warm: int) -> dict[str, object]:
    """Leads by reader and writer."""
    reader, writer = await asyncio.open_unix_connection(path, limit=2 * max(size, 65536))

    async def trips(size: int, count: int) -> dict[str, object]:
        writer.write(PHASE.pack(ECHO, 0, count, size))
        stretch = Trips(size, count)
        while stretch.done < count:
            writer.write(stretch.request())
            await writer.drain()
            stretch.answered(await reader.readexactly(size))
        return stretch.figures(await reader.readexactly(ACCOUNT.size))

    figures = await plan(trips, size, seconds, warm)
    writer.write(PHASE.pack(END, 0, 0, 0))
    writer.close()
    await writer.wait_closed()
    return figures


class EchoServer(asyncio.Protocol):
    """Answers each phase's bytes as they come."""

    def __init__(self, done: asyncio.Future) -> None:
        self.done, self.head, self.left = done, b"", 0

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        while data:
            if not self.left:
                room = PHASE.size - len(self.head)
                self.head, data = self.head + data[:room], data[room:]
                if len(self.head) == PHASE.size:
                    self.begin_phase()
                continue
            part, data = data[: self.left], data[self.left :]
            self.transport.write(part)
            self.left -= len(part)
            if not self.left:
                self.transport.write(ACCOUNT.pack(self.count, self.count * self.size, *used_since(self.start)))

    def begin_phase(self) -> None:
        what, _take, self.count, self.size = PHASE.unpack(self.head)
        self.head, self.left, self.start = b"", self.count * self.size, used()
        if what == END:
            self.transport.close()

    def connection_lost(self, error) -> None:
        self.done.set_result(None)


class EchoClient(asyncio.Protocol):
    """Sends a request as soon as the answer to the last one is complete."""

    def connection_made(self, transport) -> None:
        self.transport = transport

    async def trips(self, size: int, count: int) -> dict[str, object]:
        """One phase."""
        self.buffer, self.account = bytearray(), asyncio.get_running_loop().create_future()
        self.transport.write(PHASE.pack(ECHO, 0, count, size))
        self.stretch = Trips(size, count)
        self.transport.write(self.stretch.request())
        return self.stretch.figures(await self.account)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.stretch.done < self.stretch.count and len(self.buffer) >= self.stretch.size:
            self.stretch.answered(bytes(self.buffer[: self.stretch.size]))
            del self.buffer[: self.stretch.size]
            if self.stretch.done < self.stretch.count:
                self.transport.write(self.stretch.request())
        if self.stretch.done == self.stretch.count and len(self.buffer) == ACCOUNT.size:
            self.account.set_result(bytes(self.buffer))


async def protocol_server(path: str) -> None:
    """Serves one connection by a protocol."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    server = await loop.create_unix_server(lambda: EchoServer(done), path)
    await done
    server.close()
    await server.wait_closed()


async def protocol_client(path: str, size: int, seconds: float, warm: int) -> dict[str, object]:
    """Leads by a protocol."""
    transport, client = await asyncio.get_running_loop().create_unix_connection(EchoClient, path)
    figures = await plan(client.trips, size, seconds, warm)
    transport.write(PHASE.pack(END, 0, 0, 0))
    transport.close()
    return figures


STYLES = {"streams": (stream_server, stream_client), "protocol": (protocol_server, protocol_client)}


def main() -> None:
    """Runs the role that the command line names."""
    parser = argparse.ArgumentParser(description="Round trips over event loops.")
    parser.add_argument("role", choices=("server", "client"))
    parser.add_argument("--path", required=True)
    parser.add_argument("--loop", default="asyncio", choices=("asyncio", "uvloop"))
    parser.add_argument("--style", default="streams", choices=STYLES)
    parser.add_argument("--module", default="socket", choices=("socket", "kvoshim"))
    parser.add_argument("--mode", default="rtt", choices=("rtt",))
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--warm", type=int, default=500)
    parser.add_argument("--cpu", type=int, default=-1)
    arguments = parser.parse_args()
    if arguments.size < NUMBER.size:
        parser.error("--size must be at least 8")
    if arguments.cpu >= 0:
        os.sched_setaffinity(0, {arguments.cpu})
    if arguments.module == "kvoshim":
        import kvoshim

        kvoshim.patch()
    factory = None
    if arguments.loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    serve, lead = STYLES[arguments.style]
    with asyncio.Runner(loop_factory=factory) as runner:
        if arguments.role == "server":
            runner.run(serve(arguments.path))
        else:
            figures = runner.run(lead(arguments.path, arguments.size, arguments.seconds, arguments.warm))
            print(json.dumps(figures))


if __name__ == "__main__":
    main()
