"""Links of direct delivery: how they begin, and begin anew with another bell, another store, another controller."""

import errno
import mmap
import os
import signal
import socket
import threading

import pytest
from kvo_harness import until
from kvoshim._bell import Bell, Sleeper
from kvoshim._store import Writer
from kvoshim._table import Table, TableWriter

import kvoshim
from kvoshim.errors import ClosedError, CorruptStoreError
from kvoshim.kvo.publication import Publication


def goes_on(engine, changes, values):
    for number in values:
        engine["k"] = number
        until(lambda number=number: changes and changes[-1].new == number)


def a_bell():
    sleeper = Sleeper()
    ringing, hearing = socket.socketpair()
    with ringing, hearing:
        return Bell(sleeper.fd, ringing.fileno())


def test_a_link_that_is_given_twice_is_refused():
    """The first one's bell would be let go of while it is in use."""
    bell = a_bell()
    table, writer = TableWriter(bytes(16)), Writer("engine", 4, 1 << 16)
    with pytest.raises(CorruptStoreError, match="no link"):
        writer.link(7, 0, bell)
    writer.attach(Table(table.fd), 0, None)
    writer.link(7, 0, bell)
    with pytest.raises(CorruptStoreError, match="twice"):
        writer.link(7, 1, bell)
    with pytest.raises(CorruptStoreError, match="no link"):
        writer.link(8, table.links_max, bell)
    assert writer.linked == 1
    writer.unlink(7)
    writer.link(7, 1, bell)
    writer.attach(Table(table.fd), 1, None)
    assert writer.linked == 0, "they were of the table before"


def test_a_store_that_was_closed_meanwhile_is_attached_to_nothing():
    """Whoever takes in what the controller answers may be late."""
    table, writer = TableWriter(bytes(16)), Writer("engine", 4, 1 << 16)
    writer.set("k", 1)
    writer.close()
    for late in (lambda: writer.attach(table, 0, None), lambda: writer.raise_floor(9), lambda: writer.begin_above(9)):
        with pytest.raises(ClosedError):
            late()
    writer.detach()
    writer.unlink(7)


def test_who_waits_for_a_name_is_rung_by_whoever_publishes_it(place):
    place.controller()
    with kvoshim.Observer() as observer:
        changes = []
        token = observer.observe("engine", "k", changes.append)
        for turn in range(3):
            with kvoshim.Observable("engine") as engine:
                until(lambda: token.delivery == "direct")
                assert engine._writer.linked == 1
                goes_on(engine, changes, range(10 * turn, 10 * turn + 3))
            until(lambda: token.delivery == "controller")


def test_a_successor_that_has_begun_above_publishes_nothing_again(place):
    """Whoever observed the predecessor asks the next controller for a successor above what it has seen."""
    place.controller()
    with kvoshim.Observable("engine") as engine:
        engine["k"] = 1
        engine["other"] = 2
        seen = engine.revision()
    with kvoshim.Observable("engine") as engine:
        taken_over = engine.revision("k")
        engine._publication.raise_floor(seen + 1)
        assert engine.revision("k") == taken_over <= seen
        engine["new"] = 3
        assert engine.revision("new") > seen + 1
        engine._publication.raise_floor(seen + 100)
        assert engine.revision("k") > seen + 100, "it was not above that"


@pytest.mark.parametrize("thread", [True, False])
def test_a_bell_that_is_handed_in_again_takes_the_first_ones_place(place, thread):
    place.controller()
    with kvoshim.Observable("engine") as engine, kvoshim.Observer(thread=thread) as observer:
        changes, descriptors = [], []
        token = observer.observe("engine", "k", changes.append)
        until(lambda: thread or observer.process(0.01) or token.delivery == "direct")
        for turn in range(5):
            observer._client.direct.begin()
            until(lambda: (thread or observer.process(0.01), token.delivery)[1] == "direct" and engine._writer.linked == 1)
            engine["k"] = turn
            until(lambda turn=turn: (thread or observer.process(0.1), changes)[1] and changes[-1].new == turn)
            descriptors.append(len(os.listdir("/proc/self/fd")))
        assert max(descriptors) - min(descriptors) <= 1
        assert "bell is broken" not in place.log_text()


@pytest.mark.parametrize("asked", ["listen", "publish"])
def test_what_was_asked_when_the_controller_died_is_asked_once_more(place, monkeypatch, asked):
    """The next one is handed in what there is, and then asked what was not answered: which may be the same."""
    controller = place.controller()
    stopped = threading.Event()

    def stopping(call):
        def run(*arguments, **more):
            if not stopped.is_set() and threading.current_thread().name == "asking":
                os.kill(controller.pid, signal.SIGSTOP)
                stopped.set()
            return call(*arguments, **more)
        return run

    if asked == "listen":
        client = "kvoshim.kvo.direct.Direct.begin"
        from kvoshim.kvo.direct import Direct
        monkeypatch.setattr(client, stopping(Direct.begin))
    else:
        monkeypatch.setattr(Publication, "publish", stopping(Publication.publish))
    made, changes = {}, []
    with kvoshim.Observer() as observer:

        def ask():
            if asked == "publish":
                made["engine"] = kvoshim.Observable("engine")
            made["token"] = observer.observe("engine", "k", changes.append)
        if asked == "listen":
            made["engine"] = kvoshim.Observable("engine")
        thread = threading.Thread(target=ask, name="asking")
        thread.start()
        until(stopped.is_set)
        until(lambda: observer._client._calls, "it is asked")
        controller.kill()
        thread.join()
        with made["engine"] as engine:
            until(lambda: made["token"].delivery == "direct")
            goes_on(engine, changes, range(20))
            assert place.log_text().count("is here") <= 4, "nobody connects over and over"


def test_a_bell_page_can_be_read_and_nothing_else():
    """By an owner that was sent its descriptor, and by the client through another mapping."""
    sleeper = Sleeper()
    page = os.open(f"/proc/self/fd/{sleeper.fd}", os.O_RDWR)
    try:
        with mmap.mmap(page, 4096, prot=mmap.PROT_READ) as memory:
            assert memory[:4] == b"KVB1"
        for attempt in (lambda: mmap.mmap(page, 4096), lambda: os.pwrite(page, b"x", 64), lambda: os.truncate(page, 0)):
            with pytest.raises(OSError) as caught:
                attempt()
            assert caught.value.errno in (errno.EPERM, errno.EACCES)
    finally:
        os.close(page)


def test_an_observer_that_never_takes_its_rings_holds_up_nobody(place):
    """It falls asleep before each change and leaves its socket as full as it can be."""
    place.controller()
    with kvoshim.Observable("engine") as engine, kvoshim.Observer(thread=False) as idle, kvoshim.Observer() as observer:
        changes = []
        token, other = idle.observe("engine", None, print), observer.observe("engine", "k", changes.append)
        until(lambda: (idle.process(0.01), token.delivery, other.delivery)[1:] == ("direct", "direct"))
        sleeper = idle._client.direct.sleeper
        with socket.socket(fileno=os.dup(sleeper.bell)) as sock:
            full = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            for number in range(full // 256):  # a byte takes more room than that
                sleeper.arm([])
                engine["k"] = number
            assert len(sock.recv(1 << 20, socket.MSG_PEEK)) < number, "some did not fit"
        until(lambda: changes and changes[-1].new == number)
        idle.process()
        goes_on(engine, changes, range(number + 1, number + 5))
