# accelerated: 8
"""asyncio server in one process, blocking clients in others; subprocesses by asyncio beside live connections; cancelling."""

import asyncio
import hashlib
import os
import random
import socket
import sys

PATH = os.environ["SNIPPET_PATH"]


def client(number):
    source, digest = random.Random(number), hashlib.sha256()
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(PATH)
        s.settimeout(30)
        for _ in range(300):
            line = source.randbytes(source.randrange(1, 3000)).hex().encode() + b"\n"
            s.sendall(line)
            got = b""
            while not got.endswith(b"\n"):
                got += s.recv(65536)
            assert got == line.upper(), number
            digest.update(got)
        s.shutdown(socket.SHUT_WR)
        assert s.recv(10) == b"bye"
        assert s.recv(10) == b""
    print(number, digest.hexdigest())


async def serve(reader, writer):
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.write(b"bye")
    writer.close()


async def main():
    server = await asyncio.start_unix_server(serve, PATH, limit=1 << 20)
    async with server:
        async def one(n):
            p = await asyncio.create_subprocess_exec(sys.executable, __file__, str(n), stdout=asyncio.subprocess.PIPE)
            out, _ = await p.communicate()
            return out.decode() + str(p.returncode)

        for text in await asyncio.gather(*(one(n) for n in range(7))):
            print(text)
        # A read that is cancelled leaves the stream whole.
        reader, writer = await asyncio.open_unix_connection(PATH)
        for i in range(60):
            writer.write(b"x%d\n" % i)
            assert await reader.readline() == b"X%d\n" % i
        for _ in range(5):
            try:
                await asyncio.wait_for(reader.readline(), 0.02)
            except TimeoutError:
                print("timed out")
        writer.write(b"after\n")
        print(await reader.readline())
        print(writer.get_extra_info("peername") == PATH, writer.get_extra_info("sockname") == "")
        writer.close()
        await writer.wait_closed()


if len(sys.argv) > 1:
    client(int(sys.argv[1]))
else:
    asyncio.run(main())
