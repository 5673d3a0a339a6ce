# accelerated: 17
"""uvloop: echo of up to 3 MB on many connections, half close, descriptor numbers that are used again, backpressure."""

import asyncio
import hashlib
import os
import random
import time

import uvloop

PATH = os.environ["SNIPPET_PATH"]
SIZES = [1, 100, 65537, 1_000_000, 3_000_000, 0, 7]


async def serve(reader, writer):
    total = 0
    while header := await reader.read(4):
        while len(header) < 4:
            header += await reader.readexactly(4 - len(header))
        body = await reader.readexactly(int.from_bytes(header))
        total += len(body)
        writer.write(header + body)
        await writer.drain()
    writer.write(b"total %d\n" % total)
    writer.close()
    await writer.wait_closed()


async def talk(number):
    reader, writer = await asyncio.open_unix_connection(PATH)
    source, digest = random.Random(number), hashlib.sha256()
    for size in SIZES:
        body = source.randbytes(size)
        writer.write(size.to_bytes(4) + body)
        _, answer = await asyncio.gather(writer.drain(), reader.readexactly(size + 4))
        assert answer[4:] == body, (number, size)
        digest.update(answer)
    writer.write_eof()
    rest = await reader.read()
    writer.close()
    await writer.wait_closed()
    return number, rest, digest.hexdigest()


async def backpressure():
    """The peer does not read for a while; the waiting writer must neither be lost nor take the CPU."""
    reading, total = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def late(reader, writer):
        for _ in range(20):
            writer.write(await reader.readexactly(4))
        await reading.wait()
        count = 0
        while data := await reader.read(65536):
            count += len(data)
        writer.close()
        total.set_result(count)

    async with await asyncio.start_unix_server(late, PATH):
        reader, writer = await asyncio.open_unix_connection(PATH)
        for _ in range(20):
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"ping"
        writer.write(bytes(5_000_000))
        await asyncio.sleep(0.2)
        used = time.process_time()
        await asyncio.sleep(1)
        print("sleeps while it waits", time.process_time() - used < 0.5)
        reading.set()
        await writer.drain()
        writer.write_eof()
        print(await total)
        writer.close()
        await writer.wait_closed()


async def main():
    async with await asyncio.start_unix_server(serve, PATH):
        for turn in range(2):  # the second turn meets the descriptor numbers of the first
            for line in await asyncio.gather(*(talk(turn * 8 + n) for n in range(8))):
                print(line)
    await backpressure()


with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
