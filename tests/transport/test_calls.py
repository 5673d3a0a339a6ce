"""The send and receive families on one connection, in one process."""

import os
import socket as standard
import time

import pytest


def test_send_and_receive(ends):
    client, server = ends
    assert client.send(b"hello") == 5
    assert server.recv(100) == b"hello"
    assert server.sendall(b"and back") is None
    assert client.recv(3) == b"and"
    assert client.recv(100) == b" back"


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview], ids=lambda kind: kind.__name__)
def test_send_takes_any_buffer(ends, make):
    client, server = ends
    client.sendall(make(b"0123456789"))
    assert client.send(make(b"abc")) == 3
    assert server.recv(13, standard.MSG_WAITALL) == b"0123456789abc"


def test_send_of_nothing(ends):
    client, server = ends
    assert client.send(b"") == 0
    client.sendall(b"")
    client.sendall(b"x")
    assert server.recv(10) == b"x"


def test_text_is_refused(ends):
    client, _ = ends
    for call in (client.send, client.sendall):
        with pytest.raises(TypeError):
            call("text")


def test_recv_into(ends):
    client, server = ends
    client.sendall(b"0123456789")
    buffer = bytearray(b"-" * 8)
    assert server.recv_into(buffer) == 8
    assert buffer == b"01234567"
    assert server.recv_into(memoryview(buffer)[2:], 2) == 2
    assert buffer == b"01894567"
    with pytest.raises(ValueError):
        server.recv_into(buffer, 9)
    with pytest.raises((TypeError, BufferError)):
        server.recv_into(b"read-only")
    with pytest.raises(ValueError):
        server.recv_into(buffer, -1)


def test_recv_rejects_negative_sizes(ends):
    with pytest.raises(ValueError):
        ends[0].recv(-1)


def test_recvfrom(ends):
    client, server = ends
    client.sendall(b"one")
    data, sender = server.recvfrom(100)
    assert data == b"one" and not sender
    client.sendall(b"two")
    buffer = bytearray(3)
    count, sender = server.recvfrom_into(buffer)
    assert (count, buffer) == (3, b"two") and not sender
    server.sendall(b"three")
    data, sender = client.recvfrom(100)
    assert data == b"three"
    assert (sender or "") == client.getpeername()


def test_sendmsg_and_recvmsg(ends):
    client, server = ends
    assert client.sendmsg([b"gat", bytearray(b"her"), memoryview(b"ed")]) == 8
    data, ancillary, flags, _ = server.recvmsg(100)
    assert (data, ancillary, flags) == (b"gathered", [], 0)
    assert client.sendmsg([b"scattered"]) == 9
    parts = bytearray(4), bytearray(100)
    count, ancillary, flags, _ = server.recvmsg_into(parts)
    assert (count, ancillary, flags) == (9, [], 0)
    assert parts[0] + parts[1][:5] == b"scattered"


def test_sendto_a_connected_socket(ends):
    client, server = ends
    with pytest.raises(OSError) as error:
        client.sendto(b"x", "/nowhere")
    assert error.value.errno == 106  # EISCONN


def test_peek(ends):
    client, server = ends
    client.sendall(b"look first")
    assert server.recv(4, standard.MSG_PEEK) == b"look"
    assert server.recv(100, standard.MSG_PEEK) == b"look first"
    assert server.recv(100) == b"look first"


def test_waitall(ends, thread):
    client, server = ends
    wait = thread(server.recv, 9, standard.MSG_WAITALL)
    for part in (b"one", b"two", b"six"):
        client.sendall(part)
    assert wait() == b"onetwosix"


def test_waitall_ends_with_the_stream(ends):
    client, server = ends
    client.sendall(b"short")
    client.shutdown(standard.SHUT_WR)
    assert server.recv(100, standard.MSG_WAITALL) == b"short"
    assert server.recv(100, standard.MSG_WAITALL) == b""


def test_dontwait(ends):
    client, server = ends
    with pytest.raises(BlockingIOError):
        server.recv(1, standard.MSG_DONTWAIT)
    client.sendall(b"there")
    assert server.recv(10, standard.MSG_DONTWAIT) == b"there"
    with pytest.raises(BlockingIOError):
        for _ in range(10_000):
            client.send(bytes(10_000), standard.MSG_DONTWAIT)


def test_makefile(ends):
    client, server = ends
    with client.makefile("w", encoding="utf-8", newline="\n") as out, server.makefile("r", encoding="utf-8") as into:
        out.write("first line\nзweiте\n")
        out.flush()
        assert into.readline() == "first line\n"
        assert into.readline() == "зweiте\n"
    with client.makefile("rwb") as one, server.makefile("rwb", buffering=0) as other:
        one.write(b"x" * 50_000 + b"\n")
        one.flush()
        assert len(other.read(20_000)) > 0
        rest = b""
        while not rest.endswith(b"\n"):
            rest += other.read(65536)
        other.write(b"done\n")
        assert one.readline() == b"done\n"


def test_makefile_keeps_the_connection_open(ends):
    client, server = ends
    file = client.makefile("rb")
    client.close()
    server.sendall(b"still here")
    assert file.read(10) == b"still here"
    file.close()
    assert server.recv(1) == b""


def test_sendfile(ends, thread, tmp_path):
    client, server = ends
    content = os.urandom(300_000)
    (tmp_path / "file").write_bytes(content)
    with open(tmp_path / "file", "rb") as file:
        wait = thread(client.sendfile, file, 1000)
        received = server.recv(299_000, standard.MSG_WAITALL)
        assert wait() == 299_000
    assert received == content[1000:]


def test_descriptors_travel(ends):
    client, server = ends
    read_end, write_end = os.pipe()
    with open(read_end, "rb", 0) as reader, open(write_end, "wb", 0) as writer:
        standard.send_fds(client, [b"take this"], [writer.fileno()])
        data, fds, _, _ = standard.recv_fds(server, 100, 4)
        assert data == b"take this" and len(fds) == 1
        with open(fds[0], "wb", 0) as received:
            received.write(b"through")
        assert reader.read(7) == b"through"
    client.sendall(b"bytes as before")
    assert server.recv(100) == b"bytes as before"


def test_small_messages_of_several_writers_stay_whole(ends, thread):
    """The kernel never mixes the bytes of two small sends."""
    client, server = ends
    size, count = 1000, 300
    waits = [thread(lambda mark=mark: [client.sendall(mark * size) for _ in range(count)]) for mark in (b"a", b"b", b"c")]
    for _ in range(3 * count):
        message = server.recv(size, standard.MSG_WAITALL)
        assert message == message[:1] * size
    for wait in waits:
        wait()


def test_more_readers_than_there_are_waiting_slots(ends, thread):
    """20 threads wait on one connection; each message wakes one of them, none is left asleep."""
    client, server = ends
    waits = [thread(server.recv, 1) for _ in range(20)]
    time.sleep(0.1)
    for number in range(20):
        client.sendall(b"x")
        if number % 4 == 0:
            time.sleep(0.02)
    assert [wait() for wait in waits] == [b"x"] * 20


def test_readers_and_writers_on_both_ends_at_once(ends, thread):
    """Four threads an end: two write, two read; the sums agree."""
    amount, size = 2_000_000, 8000

    def write(sock):
        for _ in range(amount // size):
            sock.sendall(bytes(size))

    def read(sock):
        count = 0
        while data := sock.recv(30_000):
            count += len(data)
        return count
    readers = {sock: [thread(read, sock) for _ in range(2)] for sock in ends}
    writers = {sock: [thread(write, sock) for _ in range(2)] for sock in ends}
    for sock in ends:
        for wait in writers[sock]:
            wait()
        sock.shutdown(standard.SHUT_WR)
    for sock in ends:
        assert sum(wait() for wait in readers[sock]) == 2 * amount
