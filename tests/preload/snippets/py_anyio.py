# accelerated: 24
"""anyio over asyncio, uvloop and trio: Unix listener and streams, large messages, half close, a read with a time limit."""

import hashlib
import os
import random

import anyio

PATH = os.environ["SNIPPET_PATH"]


async def serve(stream):
    async with stream:
        digest = hashlib.sha256()
        async for data in stream:
            digest.update(data)
            await stream.send(data)
        await stream.send(digest.hexdigest().encode())


async def talk(number, results):
    source = random.Random(number)
    body = b"".join(source.randbytes(source.randrange(1, 60_000)) for _ in range(60))
    async with await anyio.connect_unix(PATH) as stream:
        for _ in range(10):
            await stream.send(b"ping")
            got = b""
            while len(got) < 4:
                got += await stream.receive(4 - len(got))
            assert got == b"ping"
        with anyio.move_on_after(0.02) as scope:
            await stream.receive()
        assert scope.cancelled_caught

        async def send():
            await stream.send(body)
            await stream.send_eof()

        received = bytearray()
        async with anyio.create_task_group() as group:
            group.start_soon(send)
            async for data in stream:
                received += data
        assert received[:len(body)] == body
        results[number] = bytes(received[len(body):]) == hashlib.sha256(b"ping" * 10 + body).hexdigest().encode()


async def main():
    results = {}
    async with await anyio.create_unix_listener(PATH) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        async with anyio.create_task_group() as clients:
            for number in range(8):
                clients.start_soon(talk, number, results)
        group.cancel_scope.cancel()
    print(sorted(results.items()))


for backend, options in (("asyncio", {}), ("asyncio", {"use_uvloop": True}), ("trio", {})):
    print(backend, options)
    anyio.run(main, backend=backend, backend_options=options)
    if os.path.exists(PATH):
        os.unlink(PATH)
