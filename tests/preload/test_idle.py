"""An accelerated connection on which nothing happens costs nothing: no CPU, not one wake-up, in five seconds."""

import time

import pytest
import shimlib
import snippetlib


@pytest.mark.parametrize("way", ["recv", "poll", "select", "epoll", "epoll-edge", "python-asyncio"])
def test_idle_connection_uses_no_cpu(place, way):
    shim = place.shim()
    path = place / "idle.sock"
    if way == "python-asyncio":
        cmd = [*snippetlib.command("py_asyncio_streams")[:1], "-c", _ASYNCIO]
    else:
        cmd = [str(snippetlib.compiled("idle", "programs")), way]
    with shimlib.Server(cmd, shim, place / "out", SNIPPET_PATH=str(path), IDLE=str(place / "idle")) as server:
        server.wait_until(lambda: server.output.read_bytes().count(b"\n") == 2)
        assert shim.log.accelerated("client") == shim.log.accelerated("server") == 1
        pids = [int(line.split()[1]) for line in server.output.read_text().splitlines() if line.startswith("idle")]
        time.sleep(0.3)
        before = [shimlib.cpu_and_switches(pid) for pid in pids]
        time.sleep(5)
        after = [shimlib.cpu_and_switches(pid) for pid in pids]
        assert after == before, f"(CPU seconds, voluntary switches) of server and client: {before} became {after}"


_ASYNCIO = """
import asyncio, os, sys
async def serve(r, w):
    for _ in range(60):
        w.write(await r.readexactly(8))
    os.write(1, b"idle %d\\n" % os.getpid())  # one write: two processes share the file
    await r.read()
async def client():
    r, w = await asyncio.open_unix_connection(os.environ["SNIPPET_PATH"])
    for _ in range(60):
        w.write(b"8 bytes!")
        await r.readexactly(8)
    os.write(1, b"idle %d\\n" % os.getpid())  # one write: two processes share the file
    await r.read()
async def main():
    if pid:
        await asyncio.start_unix_server(serve, os.environ["SNIPPET_PATH"])
        open(os.environ["IDLE"], "w").close()
        await asyncio.sleep(3600)
    else:
        while not os.path.exists(os.environ["IDLE"]):
            await asyncio.sleep(0.01)
        await client()
pid = os.fork()
asyncio.run(main())
"""
