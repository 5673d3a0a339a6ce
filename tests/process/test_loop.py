"""The event loop: what it calls, when, and that it means what asyncio's means."""

import asyncio
import os
import threading

import pytest

from kvoshim import selectors, socket
from kvoshim.process import Loop

LOOPS = {"own": Loop, "asyncio": lambda: asyncio.SelectorEventLoop(selectors.DefaultSelector())}


@pytest.fixture(params=LOOPS)
def loop(request):
    loop = LOOPS[request.param]()
    yield loop
    loop.close()


def test_order_of_calls_and_timers(loop):
    seen = []
    loop.call_later(0.02, seen.append, "late")
    loop.call_later(0.02, loop.call_soon, loop.stop)
    loop.call_later(0.001, seen.append, "early")
    cancelled = [loop.call_soon(seen.append, "never"), loop.call_later(0.002, seen.append, "never")]
    loop.call_soon(seen.append, "first")
    loop.call_soon(lambda: (seen.append("second"), loop.call_soon(seen.append, "third")))
    for handle in cancelled:
        handle.cancel()
        assert handle.cancelled()
    loop.run_forever()
    assert seen == ["first", "second", "third", "early", "late"] and not loop.is_running()


def test_what_is_due_when_it_stops_is_kept_for_the_next_run(loop):
    seen = []
    loop.call_soon(lambda: (loop.stop(), loop.call_soon(seen.append, 1)))
    loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [1]


@pytest.mark.parametrize("pair", [os.pipe, socket.socketpair], ids=["pipe", "transport"])
def test_readers_and_writers(loop, pair):
    reader, writer = pair()
    read = (lambda: os.read(reader, 100)) if isinstance(reader, int) else lambda: reader.recv(100)
    write = (lambda data: os.write(writer, data)) if isinstance(writer, int) else lambda data: writer.send(data)
    seen = []

    def on_read():
        seen.append(read())
        if seen[-1] == b"ab":
            assert loop.remove_reader(reader) and not loop.remove_reader(reader)
            loop.call_soon(loop.stop)

    def on_write(data, times=[0]):  # noqa: B006  one count for all calls
        times[0] += 1
        write(data)
        assert loop.remove_writer(writer)
        if times[0] == 1:
            loop.call_later(0.001, loop.add_writer, writer, on_write, b"ab")

    loop.add_reader(reader, pytest.fail)
    loop.add_reader(reader, on_read)  # takes the former's place
    loop.add_writer(writer, on_write, b"x")
    loop.run_forever()
    assert seen == [b"x", b"ab"] and not loop.remove_writer(writer)
    for end in (reader, writer):
        os.close(end) if isinstance(end, int) else end.close()


def test_room_to_write_is_waited_for_on_the_transport(loop):
    """The kernel's socket below a ring is always writable; the loop must know better."""
    a, b = socket.socketpair()
    a.setblocking(False)
    calls, total = [], 0
    try:
        while True:
            total += a.send(b"x" * 65536)
    except BlockingIOError:
        pass

    def on_write():
        calls.append(1)
        loop.remove_writer(a)
        loop.stop()

    loop.add_writer(a, on_write)
    loop.call_later(0.02, lambda: (calls.append("not yet"), b.recv(total)))
    loop.run_forever()
    assert calls == ["not yet", 1]
    a.close()
    b.close()


def test_calls_from_other_threads(loop):
    seen = []

    def call():
        for number in range(200):
            loop.call_soon_threadsafe(seen.append, number)
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=call)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert seen == list(range(200))


def test_what_a_callback_raises_ends_nothing(caplog):
    loop, seen = Loop(), []
    loop.call_soon(lambda: 1 / 0)
    loop.call_later(0.001, lambda: [][0])
    loop.call_later(0.002, lambda: (seen.append(1), loop.stop()))
    loop.run_forever()
    loop.close()
    loop.close()
    assert seen == [1] and [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError, IndexError]


class Sleeper:
    """Notes what it is asked; has work as often as it is told."""

    def __init__(self, loop, works, arms):
        self.loop, self.works, self.arms, self.seen = loop, list(works), list(arms), []

    def work(self):
        self.seen.append("work")
        return self.works.pop(0) if self.works else False

    def arm(self):
        self.seen.append("arm")
        if not self.arms:
            self.loop.call_soon_threadsafe(self.loop.stop)
            return True
        return self.arms.pop(0)

    def disarm(self):
        self.seen.append("disarm")


def test_a_sleeper_is_armed_before_sleep_and_only_then():
    loop = Loop()
    loop.sleeper = sleeper = Sleeper(loop, works=[True, True, False, True, False], arms=[False])
    loop.run_forever()
    loop.close()
    asleep = ["work", "arm", "disarm"]
    assert sleeper.seen[:10] == ["work", "work", *asleep, "work", *asleep, "work"]
