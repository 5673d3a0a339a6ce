"""Client and server in processes of their own, in every mix of the three transports: the bytes are the same, and
connections between two shimmed ends are accelerated."""

import hashlib
import os
import signal
import threading
import time

import pytest
from patternlib import pattern
from transportlib import TRANSPORTS, accelerated, parameter

mixed = pytest.mark.parametrize(("mine", "other"), [parameter(mine, other) for mine in TRANSPORTS for other in TRANSPORTS])


def client_of(mine, path):
    module = TRANSPORTS[mine]
    sock = module.socket(module.AF_UNIX, module.SOCK_STREAM)
    sock.connect(path)
    return sock


def started(peer, kind, scenario, *args):
    one = peer(kind, scenario, *args)
    assert one.line() == "ready"
    return one


class Accelerated:
    """Checks that as many of this process's ends have switched as two shimmed ends make."""

    def __init__(self, mine, other, count=1):
        self.expected = count if "kernel" not in (mine, other) else 0

    def __enter__(self):
        self.before = accelerated()

    def __exit__(self, kind, *_):
        assert kind or accelerated() - self.before == self.expected


@mixed
def test_echo(peer, path, mine, other):
    server = started(peer, other, "serve_echo")
    with Accelerated(mine, other), client_of(mine, path) as client:
        for size in (1, 2, 3, 10, 1000, 100_000, 1, 250_000, 1):
            content = pattern(size, size % 200)
            sender = threading.Thread(target=client.sendall, args=(content,))
            sender.start()
            received = b""
            while len(received) < size:
                received += client.recv(size)
            sender.join()
            assert received == content
    server.end()


@mixed
def test_the_server_speaks_first(peer, path, mine, other):
    server = started(peer, other, "serve_speaking_first")
    with client_of(mine, path) as client:
        assert client.recv(7) == b"welcome"
        client.sendall(b"thanks!")
        assert server.line() == "thanks!"
        assert client.recv(1) == b""
    server.end()


@mixed
def test_both_directions_at_once(peer, path, mine, other):
    amount = 32_000_000
    block = pattern(60000, 2)
    whole = (block * (amount // len(block) + 1))[:amount]
    server = started(peer, other, "exchange", "server", amount)
    with Accelerated(mine, other), client_of(mine, path) as client:
        def send():
            client.sendall(whole)
            client.shutdown(1)
        sender = threading.Thread(target=send)
        sender.start()
        count, digest = 0, hashlib.sha256()
        while data := client.recv(1 << 18):
            count += len(data)
            digest.update(data)
        sender.join()
    expected = f"{amount} {hashlib.sha256(whole).hexdigest()}"
    assert f"{count} {digest.hexdigest()}" == expected
    assert server.end() == [expected]


@mixed
def test_many_small_messages(peer, path, mine, other):
    server = started(peer, other, "serve_echo")
    with client_of(mine, path) as client, client.makefile("rwb") as file:
        for number in range(3000):
            file.write(b"%d\n" % number)
            file.flush()
            assert file.readline() == b"%d\n" % number
    server.end()


@mixed
def test_200_connections(peer, path, mine, other):
    server = started(peer, other, "serve_many", 200)
    with Accelerated(mine, other, 200):
        clients = [client_of(mine, path) for _ in range(200)]
        for number, client in enumerate(clients):
            client.sendall(b"line %d\n" % number)
        for number, client in enumerate(clients):
            with client.makefile("rb") as file:
                assert file.readline() == b"echo line %d\n" % number
        for client in clients:
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.recv(1)
            client.close()
    server.end()


@mixed
def test_all_that_was_sent_comes_before_the_end(peer, path, mine, other):
    server = started(peer, other, "send_and_close", 300_000)
    with client_of(mine, path) as client:
        client.sendall(b"x")
        received = b""
        while data := client.recv(10_000):
            received += data
    assert received == pattern(300_000)
    server.end()


@mixed
def test_reset_by_a_peer_that_did_not_read(peer, path, mine, other):
    server = started(peer, other, "close_without_reading")
    with client_of(mine, path) as client:
        assert client.recv(100) == b"before the end"
        client.sendall(b"never read")
        server.tell("close now")
        server.end()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert client.recv(1) == b""
        with pytest.raises(BrokenPipeError):
            client.send(b"x")


@mixed
@pytest.mark.parametrize("how", ["receive", "send", "non-blocking"])
def test_a_killed_peer(peer, path, mine, other, how):
    server = started(peer, other, "hold")
    with client_of(mine, path) as client:
        for _ in range(3):
            client.sendall(b"ping")
            assert client.recv(4) == b"ping"
        assert server.line() == "holding"
        threading.Timer(0.1, os.kill, (server.process.pid, signal.SIGKILL)).start()
        if how == "receive":
            assert client.recv(1) == b""
        elif how == "send":
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                while True:
                    client.sendall(bytes(50_000))
        else:
            client.setblocking(False)
            while True:
                try:
                    assert client.recv(1) == b""
                    break
                except BlockingIOError:
                    time.sleep(0.002)
    server.process.wait()


@mixed
def test_a_forked_child_answers(peer, path, mine, other):
    server = started(peer, other, "child_answers")
    with client_of(mine, path) as client:
        client.sendall(b"parent")
        assert client.recv(100) == b"parent"
        for _ in range(5):
            client.sendall(b"hello")
            assert client.recv(100) == b"child:hello"
    server.end()


@mixed
def test_a_forked_child_of_the_client(peer, path, mine, other):
    """Parent and child use the connection in turn; it ends when both have closed it."""
    server = started(peer, other, "serve_echo")
    with client_of(mine, path) as client:
        client.sendall(b"parent")
        assert client.recv(6) == b"parent"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                client.sendall(b"child")
                code = 0 if client.recv(5) == b"child" else 2
                client.close()
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        client.sendall(b"parent again")
        assert client.recv(12) == b"parent again"
    server.end()
