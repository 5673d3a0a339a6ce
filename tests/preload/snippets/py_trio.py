# accelerated: 10
"""trio: its own socket streams on a Unix path, both directions at once, half close, cancelled reads."""

import hashlib
import os
import random
import socket

import trio

PATH = os.environ["SNIPPET_PATH"]


async def serve(stream):
    async with stream:
        digest = hashlib.sha256()
        async for data in stream:
            digest.update(data)
            await stream.send_all(data)
        await stream.send_all(digest.hexdigest().encode())


async def talk(number, results):
    source = random.Random(number)
    body = b"".join(source.randbytes(source.randrange(1, 60_000)) for _ in range(60))
    stream = await trio.open_unix_socket(PATH)
    async with stream:
        for _ in range(10):
            await stream.send_all(b"ping")
            got = b""
            while len(got) < 4:
                got += await stream.receive_some(4 - len(got))
            assert got == b"ping"
        with trio.move_on_after(0.02) as scope:
            await stream.receive_some()
        assert scope.cancelled_caught

        async def send():
            await stream.send_all(body)
            await stream.send_eof()

        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            async for data in stream:
                received += data
        assert received[:len(body)] == body
        results[number] = bytes(received[len(body):]) == hashlib.sha256(b"ping" * 10 + body).hexdigest().encode()


async def main():
    listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await listener.bind(PATH)
    listener.listen()
    results = {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(listener)])
        async with trio.open_nursery() as clients:
            for number in range(10):
                clients.start_soon(talk, number, results)
        nursery.cancel_scope.cancel()
    print(sorted(results.items()))


trio.run(main)
