"""kvoshim.patch(): programs that know nothing of kvoshim but this one call. Each runs in a process of its own, and counts
the ends of connections that have switched."""

import subprocess
import sys

import pytest
import shimlib

from kvoshim import launcher

BEGIN = """
import kvoshim
assert kvoshim.patch() == kvoshim.patch() == "active"
import asyncio, os, socket, sys, threading
from kvoshim import transport
PATH = sys.argv[1]
"""

ECHO_BY_THREAD = """
import select
listener = socket.socket(socket.AF_UNIX)
listener.bind(PATH)
listener.listen()
def serve():
    with listener.accept()[0] as server:
        while data := server.recv(1 << 16):
            server.sendall(data)
thread = threading.Thread(target=serve)
thread.start()
with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
    client.connect(PATH)
    for number in range(10):
        client.sendall(b"message")
        assert select.select([client], [], [], 30)[0] == [client]
        assert client.recv(7, socket.MSG_WAITALL) == b"message"
    assert client.connection_id <= -100
thread.join()
listener.close()
print(transport.accelerated())
"""

SOCKETSERVER = """
import http.client, http.server, socketserver
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "300000")
        self.end_headers()
        self.wfile.write(b"x" * 300000)
    def address_string(self):
        return "unix"
    def log_message(self, *_):
        pass
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    pass
class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(PATH)
with Server(PATH, Handler) as server:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    for _ in range(5):
        connection = Connection("unix")
        for _ in range(4):
            connection.request("GET", "/")
            assert len(connection.getresponse().read()) == 300000
        connection.close()
    server.shutdown()
    thread.join()
print(transport.accelerated())
"""

ASYNCIO = """
import hashlib
CONTENT = os.urandom(3_000_000)
async def serve(reader, writer):
    while line := await reader.readline():
        data = await reader.readexactly(int(line))
        writer.write(data)
        await writer.drain()
    writer.close()
async def use(ssl=None):
    reader, writer = await asyncio.open_unix_connection(PATH, ssl=ssl, server_hostname="localhost" if ssl else None)
    for size in (1, 100, 70_000, 3_000_000, 1):
        writer.write(b"%d\\n" % size + CONTENT[:size])
        await writer.drain()
        assert await reader.readexactly(size) == CONTENT[:size]
    writer.close()
    await writer.wait_closed()
async def main():
    async with await asyncio.start_unix_server(serve, PATH):
        await asyncio.gather(*(use() for _ in range(10)))
    child = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    assert (await child.communicate(b"piped"))[0] == b"piped"
asyncio.run(main())
print(transport.accelerated())
"""

SENDFILE = """
import tempfile
CONTENT = os.urandom(2_000_000)
async def main(file):
    received = asyncio.get_running_loop().create_future()
    async def serve(reader, writer):
        assert await reader.readexactly(4) == b"ping"
        writer.write(b"pong")
        received.set_result(await reader.read())
        writer.close()
    loop = asyncio.get_running_loop()
    async with await asyncio.start_unix_server(serve, PATH, limit=1 << 22):
        reader, writer = await asyncio.open_unix_connection(PATH)
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"pong"
        assert await loop.sendfile(writer.transport, file, 1000) == len(CONTENT) - 1000
        writer.write_eof()
        assert await received == CONTENT[1000:]
        writer.close()
        await writer.wait_closed()
with tempfile.TemporaryFile() as file:
    file.write(CONTENT)
    file.flush()
    asyncio.run(main(file))
print(transport.accelerated())
"""

# Its Connection reads and writes descriptors itself: on the kernel, and right.
MULTIPROCESSING = """
import multiprocessing, multiprocessing.connection
def child(one):
    one.send(one.recv() * 2)
    one.close()
if __name__ == "__main__":
    mine, its = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=child, args=(its,))
    process.start()
    its.close()
    mine.send([1, 2])
    assert mine.recv() == [1, 2, 1, 2]
    process.join()
    with multiprocessing.connection.Listener(PATH, "AF_UNIX", authkey=b"key") as listener:
        def serve():
            with listener.accept() as connection:
                while (item := connection.recv()) is not None:
                    connection.send(item)
        thread = threading.Thread(target=serve)
        thread.start()
        with multiprocessing.connection.Client(PATH, authkey=b"key") as connection:
            for item in (1, {"key": [1, 2, 3]}, b"x" * 1_000_000):
                connection.send(item)
                assert multiprocessing.connection.wait([connection], 30) == [connection]
                assert connection.recv() == item
            connection.send(None)
        thread.join()
    print(transport.accelerated())
"""

# TCP, and socket pairs, which a child program may inherit.
OTHERS_STAY = """
import subprocess
with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
    with listener.accept()[0] as server:
        client.sendall(b"tcp")
        assert server.recv(3) == b"tcp"
a, b = socket.socketpair()
with a, b:
    a.sendall(b"there\\n")
    subprocess.run(["sh", "-c", "read line; echo $line back"], stdin=b, stdout=b, check=True)
    assert a.recv(100) == b"there back\\n"
print(transport.accelerated())
"""


def run(program, path, **env):
    done = subprocess.run([sys.executable, "-P", "-W", "default", "-c", program, path], env=shimlib.plain_env(**env),
                          capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(("program", "switched"), [
    pytest.param(ECHO_BY_THREAD, 2, id="sockets"), pytest.param(SOCKETSERVER, 10, id="socketserver-and-http"),
    pytest.param(ASYNCIO, 20, id="asyncio"), pytest.param(SENDFILE, 2, id="asyncio-sendfile"),
    pytest.param(MULTIPROCESSING, 0, id="multiprocessing"), pytest.param(OTHERS_STAY, 0, id="others")])
def test_program(path, program, switched):
    assert run(BEGIN + program, path) == [str(switched)]


def test_modules_that_were_imported_before(path):
    """asyncio, selectors and socketserver look the names up when they use them."""
    assert run("import asyncio, select, selectors, socketserver\n" + BEGIN + ASYNCIO, path) == ["20"]


TLS = """
import ssl, trustme
authority = trustme.CA()
server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
authority.issue_cert("localhost").configure_cert(server_side)
client_side = ssl.create_default_context()
authority.configure_trust(client_side)
"""


def test_tls_by_asyncio(path):
    """asyncio encrypts in memory: the bytes go through the ring."""
    program = ASYNCIO.replace("asyncio.start_unix_server(serve, PATH)", "asyncio.start_unix_server(serve, PATH, ssl=server_side)")
    program = program.replace("use() for", "use(client_side) for")
    assert run(BEGIN + TLS + program, path) == ["20"]


def test_tls_by_wrapping(path):
    """An SSLSocket hands its descriptor to OpenSSL: wrapped before the first byte, the connection stays on the kernel."""
    program = """
listener = socket.socket(socket.AF_UNIX)
listener.bind(PATH)
listener.listen()
def serve():
    with server_side.wrap_socket(listener.accept()[0], server_side=True) as server:
        while data := server.recv(1000):
            server.sendall(data)
thread = threading.Thread(target=serve)
thread.start()
client = socket.socket(socket.AF_UNIX)
client.connect(PATH)
with client_side.wrap_socket(client, server_hostname="localhost") as client:
    for _ in range(10):
        client.sendall(b"secret")
        assert client.recv(100) == b"secret"
thread.join()
listener.close()
print(transport.accelerated())
"""
    assert run(BEGIN + TLS + program, path) == ["0"]


def test_unpatch(path):
    program = """
import select, selectors, socket, os
names = [(socket, "socket"), (socket, "fromfd"), (socket, "socketpair"), (select, "select"), (select, "poll"),
         (select, "epoll"), (os, "sendfile"), (selectors.SelectSelector, "_select"), (selectors.EpollSelector, "_selector_cls")]
before = [vars(where)[name] for where, name in names]
import kvoshim
kvoshim.patch()
assert [vars(where)[name] is one for (where, name), one in zip(names, before)].count(True) == 1
kvoshim.unpatch()
kvoshim.unpatch()
assert [vars(where)[name] for where, name in names] == before
kvoshim.patch()
assert issubclass(socket.socket, before[0]) and socket.socket is not before[0]
"""
    assert run(program, path) == []


@pytest.mark.parametrize("taken", ["from socket import socket", "import socket\nclass Mine(socket.socket): pass"])
def test_too_late(path, tmp_path, taken):
    (tmp_path / "early_bird.py").write_text(taken)
    program = """
import early_bird, socket
before = socket.socket
import kvoshim
try:
    kvoshim.patch()
except kvoshim.errors.TooLateError as error:
    print("early_bird" in str(error), isinstance(error, RuntimeError), socket.socket is before)
"""
    assert run(program, path, PYTHONPATH=str(tmp_path)) == ["True", "True", "True"]


@pytest.mark.parametrize("mode", ["preloaded", "off"])
def test_nothing_to_do(path, mode):
    """Under the preload library, and where no path is selected."""
    env = launcher.variables("*", warmup=0) if mode == "preloaded" else {"KVOSHIM_PATHS": ""}
    program = "import socket, kvoshim\nbefore = socket.socket\nprint(kvoshim.patch(), socket.socket is before)"
    assert run(program, path, **env) == [mode, "True"]
