"""Readiness: select, poll and selectors on the real descriptor, level-triggered.

kvoshim.socket's rule for loops outside of it: a descriptor may be reported readable once with nothing to read; a loop reads
until BlockingIOError, or takes BlockingIOError for "not yet". It is never silent while there is something to read."""

import hashlib
import select
import selectors
import time

import pytest


def readable(sock, seconds):
    return bool(select.select([sock], [], [], seconds)[0])


def drained(sock):
    """Reads until BlockingIOError; what came."""
    sock.setblocking(False)
    found = b""
    try:
        while data := sock.recv(65536):
            found += data
    except BlockingIOError:
        return found
    return found + b"<end>"


def test_select_wakes_for_data(ends, thread):
    client, server = ends
    assert drained(server) == b""
    assert not readable(server, 0)
    wait = thread(readable, server, 30)
    time.sleep(0.1)
    client.sendall(b"x")
    assert wait()
    assert readable(server, 0), "level-triggered: still readable"
    assert drained(server) == b"x"
    assert not readable(server, 0.05)


def test_select_stays_ready_while_bytes_are_left(ends):
    client, server = ends
    client.sendall(b"0123456789" * 100)
    server.setblocking(False)
    found = b""
    while len(found) < 1000:
        assert readable(server, 30)
        try:
            found += server.recv(7)
        except BlockingIOError:
            pass
    assert found == b"0123456789" * 100


def test_one_receive_after_each_wait(ends, thread):
    """A loop that receives once for each wake-up, as asyncio does, misses nothing."""
    client, server = ends
    content = bytes(range(256)) * 4000
    server.setblocking(False)

    def send():
        for at in range(0, len(content), 777):
            client.sendall(content[at:at + 777])
            if at % 31 == 0:
                time.sleep(0.0003)
    wait = thread(send)
    found = bytearray()
    while len(found) < len(content):
        assert readable(server, 30), f"silent after {len(found)} bytes"
        try:
            found += server.recv(1 << 18)
        except BlockingIOError:
            pass
    wait()
    assert found == content


def test_writable(ends):
    client, server = ends
    assert select.select([], [client], [], 5)[1] == [client]
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            client.send(bytes(65536))
    drained(server)
    assert select.select([], [client], [], 5)[1] == [client]
    assert client.send(b"x") == 1


def test_end_is_readable(ends):
    client, server = ends
    client.sendall(b"last words")
    client.close()
    assert readable(server, 5)
    assert drained(server) == b"last words<end>"
    assert readable(server, 5)


def test_poll_reports_the_hang_up(ends):
    client, server = ends
    poller = select.poll()
    poller.register(server, select.POLLIN | select.POLLRDHUP)
    assert drained(server) == b""
    assert poll_until(poller, server, select.POLLIN, 0.02) == 0
    client.close()
    assert poll_until(poller, server, select.POLLHUP, 5) & select.POLLHUP


def poll_until(poller, sock, bit, seconds):
    """Polls, reading in between, until a bit comes or the time is up; the last events."""
    end = time.monotonic() + seconds
    while True:
        events = dict(poller.poll(20)).get(sock.fileno(), 0)
        if events & bit or time.monotonic() > end:
            return events
        drained(sock)


@pytest.mark.parametrize("kind", ["SelectSelector", "PollSelector", "EpollSelector"])
def test_selectors_echo(ends, thread, kind):
    """An echo server in a level-triggered loop; the client checks 8 MB."""
    client, server = ends
    amount = 8_000_000
    server.setblocking(False)

    def serve():
        pending, ended = bytearray(), False
        with getattr(selectors, kind)() as selector:
            selector.register(server, selectors.EVENT_READ)
            while not ended or pending:
                wanted = (0 if ended else selectors.EVENT_READ) | (selectors.EVENT_WRITE if pending else 0)
                selector.modify(server, wanted)
                for _, events in selector.select(30):
                    if events & selectors.EVENT_READ and not ended:
                        try:
                            data = server.recv(100_000)
                            pending += data
                            ended = not data
                        except BlockingIOError:
                            pass
                    if pending and events & selectors.EVENT_WRITE:
                        try:
                            del pending[:server.send(pending[:200_000])]
                        except BlockingIOError:
                            pass
        server.close()
    wait = thread(serve)
    block = hashlib.sha256(b"block").digest() * 1000

    def send():
        for _ in range(0, amount, len(block)):
            client.sendall(block)
        client.shutdown(1)
    sender = thread(send)
    count, digest = 0, hashlib.sha256()
    while data := client.recv(1 << 17):
        count += len(data)
        digest.update(data)
    sender(), wait()
    assert count == amount
    assert digest.hexdigest() == hashlib.sha256(block * (amount // len(block))).hexdigest()
