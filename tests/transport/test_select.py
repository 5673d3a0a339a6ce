"""kvoshim.select and kvoshim.selectors: readiness for writing as well, and the standard module's behaviour elsewhere."""

import asyncio
import os
import select as standard
import threading

import pytest
from transportlib import connected, warm_up

from kvoshim import select, selectors
from kvoshim import socket as shimmed


def fill(sock):
    """Sends until there is no room; how many bytes."""
    sock.setblocking(False)
    sent = 0
    try:
        while True:
            sent += sock.send(bytes(10_000))
    except BlockingIOError:
        return sent


@pytest.fixture
def switched(path):
    client, server = connected(shimmed, path)
    with client, server:
        warm_up(client, server)
        yield client, server


def by_select(sock, seconds):
    readable, writable, _ = select.select([sock], [sock], [], seconds)
    return (standard.POLLIN if readable else 0) | (standard.POLLOUT if writable else 0)


def by_poll(sock, seconds):
    poller = select.poll()
    poller.register(sock, standard.POLLIN | standard.POLLOUT)
    return dict(poller.poll(seconds * 1000)).get(sock.fileno(), 0)


def by_epoll(sock, seconds):
    with select.epoll() as poller:
        poller.register(sock, standard.EPOLLIN | standard.EPOLLOUT)
        return dict(poller.poll(seconds)).get(sock.fileno(), 0)


every_call = pytest.mark.parametrize("look", [by_select, by_poll, by_epoll])


@every_call
def test_not_writable_while_the_ring_is_full(switched, look):
    client, server = switched
    assert look(client, 0) == standard.POLLOUT
    sent = fill(client)
    assert look(client, 0.05) == 0
    while sent:
        sent -= len(server.recv(1 << 20))
    assert look(client, 30) == standard.POLLOUT
    server.sendall(b"x")
    assert look(client, 30) == standard.POLLIN | standard.POLLOUT


@every_call
def test_a_wait_for_room_ends_when_the_peer_reads(switched, look, thread):
    client, server = switched
    sent = fill(client)
    wait = thread(look, client, 60)
    while sent:
        sent -= len(server.recv(1 << 20))
    assert wait() == standard.POLLOUT


@every_call
def test_other_descriptors_are_the_kernels(look):
    read_end, write_end = os.pipe()
    with open(read_end, "rb", 0) as reader, open(write_end, "wb", 0) as writer:
        assert look(reader, 0) == 0 and look(writer, 0) == standard.POLLOUT
        writer.write(b"x")
        assert look(reader, 5) & standard.POLLIN


def test_registered_before_the_switch(path):
    """An epoll object that met the connection while that was on the kernel."""
    client, server = connected(shimmed, path)
    with client, server, select.epoll() as poller:
        poller.register(client, standard.EPOLLOUT)
        poller.register(server, standard.EPOLLIN)
        warm_up(client, server)
        assert dict(poller.poll(5)) == {client.fileno(): standard.EPOLLOUT}
        fill(client)
        assert dict(poller.poll(5)) == {server.fileno(): standard.EPOLLIN}
        poller.modify(server, 0)
        assert poller.poll(0.05) == []
        poller.unregister(client)
        with pytest.raises(FileNotFoundError):
            poller.modify(client, standard.EPOLLOUT)


def test_a_closed_socket_leaves_the_set(switched):
    client, server = switched
    with select.epoll() as poller:
        poller.register(client, standard.EPOLLIN)
        client.close()
        server.close()
        assert poller.poll(0.05) == []


def test_life_of_an_epoll_object():
    poller = select.epoll()
    fd = poller.fileno()
    assert not poller.closed and fd >= 0
    poller.close()
    poller.close()
    assert poller.closed
    with pytest.raises(ValueError):
        poller.poll(0)
    with pytest.raises(ValueError), poller:
        pass
    with standard.epoll() as kernel:
        again = select.epoll.fromfd(os.dup(kernel.fileno()))
        again.close()


def test_errors_are_the_standard_modules(switched):
    client, _ = switched
    for call in (lambda module: module.select(["x"], [], []), lambda module: module.select([-1], [], []),
                 lambda module: module.select([], [], [], -1), lambda module: module.poll().register(-1),
                 lambda module: module.poll().modify(0, 1), lambda module: module.poll().unregister(0),
                 lambda module: module.epoll(-2)):
        errors = []
        for module in (standard, select):
            with pytest.raises(Exception) as error:
                call(module)
            errors.append((error.type, str(error.value)))
        assert errors[0] == errors[1]
    with pytest.raises(ValueError):
        select.select([client], [], [], -1)
    assert set(vars(standard)) <= set(vars(select)) | {"__doc__", "__file__"}


@pytest.mark.parametrize("kind", ["SelectSelector", "PollSelector", "EpollSelector", "DefaultSelector"])
def test_selectors_wait_for_room(switched, kind):
    client, server = switched
    sent = fill(client)
    with getattr(selectors, kind)() as selector:
        selector.register(client, selectors.EVENT_WRITE)
        assert selector.select(0.05) == []
        timer = threading.Timer(0.05, server.recv, (sent, shimmed.MSG_WAITALL))
        timer.start()
        assert [(key.fileobj, events) for key, events in selector.select(60)] == [(client, selectors.EVENT_WRITE)]
        timer.join()


def test_asyncio_does_not_spin_under_backpressure(path):
    """A transport whose peer does not read asks its selector a few times, not all the time."""
    class Counting(selectors.DefaultSelector):
        count = 0

        def select(self, timeout=None):
            self.count += 1
            return super().select(timeout)

    selector = Counting()

    async def main():
        reading = asyncio.Event()
        total = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            count = len(await reader.readexactly(4))
            writer.write(b"pong")
            await reading.wait()
            while data := await reader.read(1 << 16):
                count += len(data)
            writer.close()
            total.set_result(count)

        listener = shimmed.socket(shimmed.AF_UNIX)
        listener.bind(path)
        async with await asyncio.start_unix_server(serve, sock=listener):
            client = shimmed.socket(shimmed.AF_UNIX)
            client.connect(path)
            client.setblocking(False)
            reader, writer = await asyncio.open_unix_connection(sock=client)
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"pong"
            writer.write(bytes(5_000_000))
            await asyncio.sleep(0.2)
            before = selector.count
            await asyncio.sleep(0.5)
            assert selector.count - before < 50
            reading.set()
            await writer.drain()
            writer.write_eof()
            assert await total == 5_000_004
            writer.close()
            await writer.wait_closed()

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(asyncio.wait_for(main(), 60))
