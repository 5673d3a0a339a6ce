# accelerated: 41
"""asyncio streams: echo of messages of random sizes up to 4 MB, half close, forty connections at once."""

import asyncio
import hashlib
import os
import random

PATH = os.environ["SNIPPET_PATH"]


async def serve(reader, writer):
    """Echo frames (4 bytes of length, then that many) until the end, then say how many bytes that were."""
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


async def talk(number, sizes):
    reader, writer = await asyncio.open_unix_connection(PATH)
    source, digest = random.Random(number), hashlib.sha256()
    for size in sizes:
        body = source.randbytes(size)
        writer.write(size.to_bytes(4) + body)
        # Nothing can hold a large message: writing and reading go on side by side.
        _, answer = await asyncio.gather(writer.drain(), reader.readexactly(size + 4))
        assert answer[4:] == body, (number, size)
        digest.update(answer)
    writer.write_eof()
    rest = await reader.read()
    writer.close()
    await writer.wait_closed()
    return number, rest, digest.hexdigest()


async def main():
    server = await asyncio.start_unix_server(serve, PATH)
    draw = random.Random(1)
    async with server:
        big = [1, 10, 100, 65536, 65537, 1_000_000, 4_000_000, 0, 7] + [draw.randrange(20000) for _ in range(100)]
        print(await talk(0, big))
        crowd = [talk(n, [draw.randrange(2000) for _ in range(60)]) for n in range(1, 41)]
        for line in await asyncio.gather(*crowd):
            print(line)


asyncio.run(main(), debug=False)
