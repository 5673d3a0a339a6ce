"""Timeouts and non-blocking calls."""

import socket as standard
import time

import pytest


def test_receive_times_out(ends):
    client, server = ends
    server.settimeout(0.2)
    began = time.monotonic()
    for call in (lambda: server.recv(1), lambda: server.recv_into(bytearray(1)), lambda: server.recvmsg(1)):
        with pytest.raises(TimeoutError, match="timed out"):
            call()
    assert time.monotonic() - began >= 0.59
    client.sendall(b"x")
    assert server.recv(1) == b"x"


def test_send_times_out(ends):
    client, server = ends
    client.settimeout(0.2)
    with pytest.raises(TimeoutError, match="timed out"):
        client.sendall(bytes(20_000_000))
    with pytest.raises(TimeoutError):
        while True:
            client.send(bytes(100_000))
    received = 0
    server.settimeout(1)
    with pytest.raises(TimeoutError):
        while True:
            received += len(server.recv(1 << 20))
    assert received > 0
    client.sendall(b"usable again")
    assert server.recv(100) == b"usable again"


def test_non_blocking(ends):
    client, server = ends
    server.settimeout(0)
    assert server.gettimeout() == 0 and not server.getblocking()
    for call in (lambda: server.recv(1), lambda: server.recv_into(bytearray(1)), lambda: server.recvfrom(1)):
        with pytest.raises(BlockingIOError):
            call()
    client.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += client.send(bytes(50_000))
    assert sent >= 4096
    received = 0
    with pytest.raises(BlockingIOError):
        while True:
            received += len(server.recv(1 << 20))
    assert received == sent


def test_back_to_blocking(ends, thread):
    client, server = ends
    server.settimeout(0)
    with pytest.raises(BlockingIOError):
        server.recv(1)
    server.settimeout(None)
    assert server.gettimeout() is None
    wait = thread(server.recv, 10)
    time.sleep(0.05)
    client.sendall(b"late")
    assert wait() == b"late"


def test_timeout_is_long_enough(ends, thread):
    client, server = ends
    server.settimeout(30)
    wait = thread(server.recv, 10)
    time.sleep(0.1)
    client.sendall(b"in time")
    assert wait() == b"in time"
    client.settimeout(30)
    wait = thread(client.sendall, bytes(3_000_000))
    assert len(server.recv(3_000_000, standard.MSG_WAITALL)) >= 0
    while True:
        server.settimeout(0.3)
        try:
            server.recv(1 << 20)
        except TimeoutError:
            break
    wait()


def test_settings_apply_to_one_end_alone(ends):
    client, server = ends
    client.settimeout(1.5)
    assert (client.gettimeout(), server.gettimeout()) == (1.5, None)
    with pytest.raises(ValueError):
        client.settimeout(-1)


def test_accept_and_connect_time_out(module, path):
    with module.socket(module.AF_UNIX, module.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(0)
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
        clients = [module.socket(module.AF_UNIX, module.SOCK_STREAM) for _ in range(3)]
        try:
            with pytest.raises((BlockingIOError, TimeoutError)):  # the backlog is full
                for client in clients:
                    client.settimeout(0.1)
                    client.connect(path)
        finally:
            for client in clients:
                client.close()


def test_accepted_sockets_block(module, path):
    """Even when the listener has a timeout."""
    with module.socket(module.AF_UNIX, module.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(5)
        with module.socket(module.AF_UNIX, module.SOCK_STREAM) as client:
            client.connect(path)
            server, _ = listener.accept()
            with server:
                assert server.gettimeout() is None


def test_default_timeout(module, path):
    standard.setdefaulttimeout(7.5)
    try:
        with module.socket(module.AF_UNIX, module.SOCK_STREAM) as sock:
            assert sock.gettimeout() == 7.5
    finally:
        standard.setdefaulttimeout(None)
