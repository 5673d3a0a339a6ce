"""kvoshim.transport: handles are IDs or descriptors, told apart by their sign."""

import os
import socket as standard
import threading

import pytest

from kvoshim import transport


@pytest.fixture
def handles(path):
    """A client's and a server's handle, both of an accelerated connection."""
    listener = transport.listen(path)
    assert listener >= 0
    client = transport.connect(path)
    server = transport.accept(listener)
    transport.close(listener)
    yield client, server
    for handle in (client, server):
        try:
            transport.close(handle)
        except ValueError:
            pass


def test_handles_are_ids(handles):
    client, server = handles
    assert client <= -100 and server <= -100 and client != server
    for handle in handles:
        fd = transport.fileno(handle)
        assert transport.fileno(fd) == fd
        assert transport.connection_id(fd) == handle
        assert os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
        assert not os.get_inheritable(fd)


def test_send_and_receive_by_id_and_by_descriptor(handles):
    before = transport.accelerated()
    client, server = handles
    for one, other in (handles, (transport.fileno(client), transport.fileno(server)), handles):
        transport.send(one, b"there")
        assert transport.recv(other, 100) == b"there"
        transport.send(other, bytearray(b"back"))
        assert transport.recv(one, 2) == b"ba"
        assert transport.recv(one, 100) == b"ck"
    assert transport.accelerated() - before == 2


def test_plain_connections_have_descriptors(path):
    """A standard server: the same calls, the kernel's sockets, a handle that goes on working."""
    with standard.socket(standard.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        client = transport.connect(path)
        server, _ = listener.accept()
        with server:
            for number in range(20):
                transport.send(client, b"%d" % number)
                server.sendall(server.recv(10))
                assert transport.recv(client, 10) == b"%d" % number
            fd = transport.fileno(client)
            assert transport.connection_id(fd) is None
        transport.close(fd)


def test_timeouts(handles):
    client, server = handles
    with pytest.raises(TimeoutError):
        transport.recv(client, 1, timeout=0.05)
    with pytest.raises(BlockingIOError):
        transport.recv(client, 1, timeout=0)
    transport.send(server, b"x")
    assert transport.recv(client, 1, timeout=5) == b"x"
    with pytest.raises(TimeoutError):
        transport.send(client, bytes(30_000_000), timeout=0.05)


def test_wait(handles):
    client, server = handles
    fd = transport.fileno(server)
    assert transport.wait([client, server], 0.05) == []
    transport.send(client, b"x")
    assert transport.wait([client, server], 5) == [server]
    assert transport.wait([client, fd], 5) == [fd]
    read_end, write_end = os.pipe()
    os.write(write_end, b"x")
    assert transport.wait([read_end, client, server], 5) == [read_end, server]
    os.close(read_end), os.close(write_end)
    assert transport.recv(server, 10) == b"x"
    timer = threading.Timer(0.1, transport.close, (client,))
    timer.start()
    assert transport.wait([server]) == [server]
    timer.join()
    assert transport.recv(server, 10) == b""


def test_unknown_handles(handles):
    client, _ = handles
    for handle in (-1, -99, -100_000):
        for call in (transport.fileno, transport.close, lambda h: transport.send(h, b"x"),
                     lambda h: transport.recv(h, 1)):
            with pytest.raises(ValueError, match=str(handle)):
                call(handle)
    with pytest.raises(ValueError, match="not made by"):
        transport.send(2, b"x")
    fd = transport.fileno(client)
    transport.close(client)
    for call in (transport.close, transport.fileno):
        with pytest.raises(ValueError, match="closed"):
            call(client)
    with pytest.raises(ValueError):
        transport.send(fd, b"x")


def test_errors_are_the_kernels(path):
    with pytest.raises(FileNotFoundError):
        transport.connect(path)
    listener = transport.listen(path)
    with pytest.raises(OSError) as error:
        transport.listen(path)
    assert error.value.errno == 98  # EADDRINUSE
    transport.close(listener)
    with pytest.raises(ConnectionRefusedError):
        transport.connect(path)
    with pytest.raises(TypeError):
        transport.connect(17)


def test_refusals_count_by_reason():
    assert all(isinstance(name, str) and count > 0 for name, count in transport.refusals().items())
