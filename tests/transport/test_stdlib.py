"""Pieces of the standard library on the drop-in: socketserver and multiprocessing.connection with their module replaced,
asyncio with sockets that are handed to it."""

import asyncio
import hashlib
import multiprocessing.connection
import socketserver
import threading
import warnings

import pytest

from kvoshim import socket as shimmed
from kvoshim import transport


@pytest.fixture
def replaced(monkeypatch):
    """Puts the drop-in where the library pieces look for the socket module."""
    for module in (socketserver, multiprocessing.connection):
        monkeypatch.setattr(module, "socket", shimmed)


class Upper(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = False


def test_socketserver(replaced, path):
    before = transport.accelerated()
    with Server(path, Upper) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            for number in range(20):
                with shimmed.socket(shimmed.AF_UNIX, shimmed.SOCK_STREAM) as client:
                    client.connect(path)
                    with client.makefile("rw") as file:
                        for line in range(20):
                            print(f"line {line} of client {number}", file=file, flush=True)
                            assert file.readline() == f"LINE {line} OF CLIENT {number}\n"
        finally:
            server.shutdown()
            serving.join()
    assert transport.accelerated() - before == 40


def test_multiprocessing_connection(replaced, path):
    """Its Connection reads and writes the detached descriptor itself, so these stay on the kernel, and correct."""
    with multiprocessing.connection.Listener(path, "AF_UNIX", authkey=b"key") as listener:
        def serve():
            with listener.accept() as connection:
                while (item := connection.recv()) is not None:
                    connection.send(item)
        serving = threading.Thread(target=serve)
        serving.start()
        with multiprocessing.connection.Client(path, authkey=b"key") as connection:
            for item in (1, "text", {"key": [1, 2, 3]}, b"x" * 1_000_000):
                connection.send(item)
                assert connection.recv() == item
            connection.send(None)
        serving.join()


def block_of(number, size):
    return (hashlib.sha256(b"%d" % number).digest() * (size // 32 + 1))[:size]


@pytest.fixture
def loop_rules():
    """Debug mode off, and warnings of forgotten transports are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def listening(path):
    listener = shimmed.socket(shimmed.AF_UNIX, shimmed.SOCK_STREAM)
    listener.bind(path)
    return listener


async def open_client(path):
    sock = shimmed.socket(shimmed.AF_UNIX, shimmed.SOCK_STREAM)
    sock.connect(path)
    sock.setblocking(False)
    return await asyncio.open_unix_connection(sock=sock)


def test_asyncio_streams_under_load(loop_rules, path):
    """30 clients at once, each with 40 requests from 1 byte to 200 kB, on an echo server that answers with a digest."""
    async def serve(reader, writer):
        while head := await reader.read(4):
            while len(head) < 4:
                head += await reader.read(4 - len(head))
            data = await reader.readexactly(int.from_bytes(head, "big"))
            writer.write(hashlib.sha256(data).digest() + data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def use(number):
        reader, writer = await open_client(path)
        for turn in range(40):
            size = (1, 37, 5000, 70_000, 200_000)[(turn + number) % 5]
            data = block_of(number * 100 + turn, size)
            writer.write(size.to_bytes(4, "big") + data)
            await writer.drain()
            assert await reader.readexactly(32) == hashlib.sha256(data).digest()
            assert await reader.readexactly(size) == data
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_unix_server(serve, sock=listening(path))
        async with server:
            await asyncio.gather(*(use(number) for number in range(30)))

    before = transport.accelerated()
    asyncio.run(asyncio.wait_for(main(), 60))
    assert transport.accelerated() - before == 60


def test_asyncio_one_message_at_a_time(loop_rules, path):
    """Idle in between: each message must wake the other loop anew."""
    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()
        await writer.wait_closed()

    async def main():
        async with await asyncio.start_unix_server(serve, sock=listening(path)):
            reader, writer = await open_client(path)
            for number in range(300):
                writer.write(b"%d\n" % number)
                assert await reader.readline() == b"%d\n" % number
                if number % 10 == 0:
                    await asyncio.sleep(0.005)
            writer.close()
            await writer.wait_closed()
    asyncio.run(asyncio.wait_for(main(), 60))


def test_asyncio_socket_calls(loop_rules, path):
    async def main():
        loop = asyncio.get_running_loop()
        with listening(path) as listener:
            listener.listen()
            listener.setblocking(False)
            client = shimmed.socket(shimmed.AF_UNIX, shimmed.SOCK_STREAM)
            client.setblocking(False)
            with client:
                await loop.sock_connect(client, path)
                server, _ = await loop.sock_accept(listener)
                with server:
                    for size in (1, 100_000, 3_000_000, 1):
                        data = block_of(size, size)
                        sending = asyncio.create_task(loop.sock_sendall(client, data))
                        received = bytearray()
                        while len(received) < size:
                            received += await loop.sock_recv(server, 1 << 17)
                        await sending
                        assert received == data
                    await loop.sock_sendall(server, b"back")
                    assert await loop.sock_recv(client, 10) == b"back"
    asyncio.run(asyncio.wait_for(main(), 60))
