"""Operations on connections: what a program's loop does each time, on the standard socket and on ours."""

import select as standard_select
import selectors as standard_selectors

import pytest

from kvoshim import select, selectors, transport

SIZES = [8, 1024, 65536]


@pytest.mark.parametrize("size", SIZES)
def test_send_recv(benchmark, pair, size):
    here, there = pair
    message = bytes(size)

    def exchange():
        here.send(message)
        return there.recv(size)

    assert benchmark(exchange) == message


@pytest.mark.parametrize("size", SIZES)
def test_sendall_recv_into(benchmark, pair, size):
    here, there = pair
    message, room = bytes(range(256)) * (size // 256) or bytes(range(size)), memoryview(bytearray(size))

    def exchange():
        here.sendall(message)
        return there.recv_into(room)

    assert benchmark(exchange) == size and room == message


def test_sendmsg_gather(benchmark, pair):
    here, there = pair
    parts = [b"head", memoryview(bytes(1000)), b"tail"]

    def exchange():
        here.sendmsg(parts)
        return there.recv(1008)

    assert benchmark(exchange) == b"".join(parts)


def test_recv_of_nothing(benchmark, pair):
    _here, there = pair
    there.setblocking(False)

    def look():
        try:
            there.recv(8)
        except BlockingIOError:
            return True

    assert benchmark(look)


def test_poll_ready(benchmark, pair):
    here, there = pair
    ours = type(here).__module__.startswith("kvoshim")
    poll = (select if ours else standard_select).poll()
    poll.register(there, standard_select.POLLIN)
    here.send(b"x")
    assert benchmark(poll.poll, 0) == [(there.fileno(), standard_select.POLLIN)]


def test_select_ready(benchmark, pair):
    here, there = pair
    ours = type(here).__module__.startswith("kvoshim")
    waits = (select if ours else standard_select).select
    here.send(b"x")
    assert benchmark(waits, [there], [], [], 0) == ([there], [], [])


def test_selector_ready(benchmark, pair):
    here, there = pair
    ours = type(here).__module__.startswith("kvoshim")
    with (selectors if ours else standard_selectors).DefaultSelector() as selector:
        selector.register(there, standard_selectors.EVENT_READ)
        here.send(b"x")
        ((key, events),) = benchmark(selector.select, 0)
    assert key.fileobj is there and events == standard_selectors.EVENT_READ


@pytest.fixture
def handles(tmp_path):
    """Two ends of the native interface, switched."""
    listener = transport.listen(str(tmp_path / "s"))
    here = transport.connect(str(tmp_path / "s"))
    there = transport.accept(listener)
    for one, other in [(here, there), (there, here)] * 20:
        transport.send(one, b"warm up!")
        transport.recv(other, 8)
    yield here, there
    for handle in (here, there, listener):
        transport.close(handle)


def test_transport_send_recv(benchmark, handles):
    here, there = handles

    def exchange():
        transport.send(here, b"12345678")
        return transport.recv(there, 8)

    assert benchmark(exchange) == b"12345678"
