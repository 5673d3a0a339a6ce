"""How streams end: shutdown, close, and what the other end sees."""

import select
import socket as standard
import time

import pytest

IN, OUT, HUP, RDHUP = select.POLLIN, select.POLLOUT, select.POLLHUP, select.POLLRDHUP


def test_half_close(ends):
    client, server = ends
    client.sendall(b"request")
    client.shutdown(standard.SHUT_WR)
    assert server.recv(100) == b"request"
    assert server.recv(100) == b""
    server.sendall(b"answer after the end of the request")
    server.close()
    assert client.recv(100) == b"answer after the end of the request"
    assert client.recv(100) == b""


def test_half_close_of_the_server(ends):
    client, server = ends
    server.sendall(b"bye")
    server.shutdown(standard.SHUT_WR)
    client.sendall(b"one more")
    assert client.recv(100) == b"bye" and client.recv(1) == b""
    assert server.recv(100) == b"one more"


def test_shutdown_for_writing_ends_own_sends(ends):
    client, _ = ends
    client.shutdown(standard.SHUT_WR)
    for call in (client.send, client.sendall):
        with pytest.raises(BrokenPipeError):
            call(b"x")


def test_shutdown_for_reading(ends):
    client, server = ends
    server.shutdown(standard.SHUT_RD)
    assert server.recv(100) == b""
    with pytest.raises(BrokenPipeError):
        for _ in range(3):
            client.sendall(b"x")
    server.sendall(b"the other direction lives")
    assert client.recv(100) == b"the other direction lives"


def test_shutdown_both(ends):
    client, server = ends
    client.sendall(b"last")
    client.shutdown(standard.SHUT_RDWR)
    assert client.recv(1) == b""
    with pytest.raises(BrokenPipeError):
        client.send(b"x")
    assert server.recv(100) == b"last"
    assert server.recv(100) == b""
    with pytest.raises(BrokenPipeError):
        server.send(b"x")


def test_shutdown_of_nonsense(ends):
    with pytest.raises(OSError) as error:
        ends[0].shutdown(17)
    assert error.value.errno == 22


def test_shutdown_wakes_a_blocked_receive(ends, thread):
    client, server = ends
    for sock, how in ((client, standard.SHUT_WR), (server, standard.SHUT_RDWR)):
        wait = thread(server.recv if sock is client else client.recv, 1)
        time.sleep(0.1)
        sock.shutdown(how)
        assert wait() == b""


def test_own_shutdown_wakes_a_blocked_receive(ends, thread):
    client, _ = ends
    wait = thread(client.recv, 1)
    time.sleep(0.1)
    client.shutdown(standard.SHUT_RDWR)
    assert wait() == b""


def test_own_shutdown_wakes_a_blocked_send(ends, thread):
    client, _ = ends

    def fill():
        with pytest.raises(BrokenPipeError):
            while True:
                client.sendall(bytes(100_000))
    wait = thread(fill)
    time.sleep(0.1)
    client.shutdown(standard.SHUT_WR)
    wait()


def test_close_with_data_in_flight(ends):
    client, server = ends
    server.setblocking(False)
    sent = 0
    try:
        while True:
            sent += server.send(bytes(30_000))
    except BlockingIOError:
        pass
    server.close()
    received = 0
    while data := client.recv(50_000):
        received += len(data)
    assert received == sent
    with pytest.raises(BrokenPipeError):
        client.send(b"x")


def test_peer_closes_without_reading(ends):
    """ECONNRESET once, behind what it had sent; then the end."""
    client, server = ends
    client.sendall(b"never read")
    server.sendall(b"sent before")
    server.close()
    assert client.recv(100) == b"sent before"
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert client.recv(1) == b""
    with pytest.raises(BrokenPipeError):
        client.send(b"x")


def test_reset_is_reported_by_so_error(ends):
    client, server = ends
    client.sendall(b"never read")
    server.close()
    assert client.getsockopt(standard.SOL_SOCKET, standard.SO_ERROR) == 104  # ECONNRESET
    assert client.getsockopt(standard.SOL_SOCKET, standard.SO_ERROR) == 0
    assert client.recv(1) == b""


def test_close_wakes_the_peer(ends, thread):
    client, server = ends
    wait = thread(client.recv, 1)
    time.sleep(0.1)
    server.close()
    assert wait() == b""


def test_close_ends_a_blocked_send_of_the_peer(ends, thread):
    client, server = ends

    def fill():
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                client.sendall(bytes(100_000))
    wait = thread(fill)
    time.sleep(0.1)
    server.close()
    wait()


def test_calls_on_a_closed_socket(ends):
    client, server = ends
    client.close()
    client.close()
    assert client.fileno() == -1
    for call in (lambda: client.send(b"x"), lambda: client.sendall(b"x"), lambda: client.recv(1),
                 lambda: client.recv_into(bytearray(1)), lambda: client.shutdown(standard.SHUT_WR),
                 lambda: client.getpeername(), lambda: client.recvmsg(1), lambda: client.sendmsg([b"x"])):
        with pytest.raises(OSError) as error:
            call()
        assert error.value.errno == 9  # EBADF


def test_close_in_one_thread_while_another_sends(ends, thread):
    """No crash, no hang: an error or a full connection."""
    client, server = ends
    client.settimeout(5)

    def send():
        with pytest.raises(OSError):
            while True:
                client.send(bytes(10_000))

    def read():
        while server.recv(1 << 16):
            pass
    waits = [thread(send), thread(read)]
    time.sleep(0.05)
    client.close()
    for wait in waits:
        wait()
