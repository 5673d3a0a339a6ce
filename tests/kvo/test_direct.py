"""Direct delivery: the writer rings the observers. What is told, and whatever happens to those who take part, is the business of
test_delivery.py and test_death.py, which go both ways; here it is about who is woken, how often, and what else may go wrong."""

import fcntl
import os
import select
import signal
import socket
import time

import psutil
import pytest
from kvo_harness import until
from kvoshim._bell import BROKEN, STORES, Bell, Sleeper

import kvoshim
from kvoshim.errors import CorruptStoreError, DeliveryError

F_SEAL_FUTURE_WRITE = 0x10


@pytest.fixture
def controller(place):
    return psutil.Process(place.controller().pid)


@pytest.fixture
def engine(controller):
    with kvoshim.Observable("engine", max_keys=4) as observable:
        yield observable


@pytest.fixture
def manual(engine):
    """An observer that does nothing by itself: what it is rung with can be counted."""
    with kvoshim.Observer(thread=False) as observer:
        yield observer


def direct(observer, key="k", **how):
    """The changes of an observation that the observable rings for; they begin with its next one."""
    changes = []
    token = observer.observe("engine", key, changes.append, **how)
    process = observer.process if observer._client.driver.here() else time.sleep
    until(lambda: process(0.01) or token.delivery == "direct")
    changes.clear()
    return changes


def rings(observer) -> int:
    """How often it was rung and has not taken it yet."""
    sock = socket.socket(fileno=os.dup(observer._client.direct.sleeper.bell))
    with sock:
        try:
            return len(sock.recv(4096, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return 0


def test_one_ring_a_sleep_however_many_observations_and_changes(engine, manual):
    engine["k"] = engine["other"] = 0
    several = [direct(manual, key) for key in ("k", "other", None, "k*") for _ in range(25)]
    manual.process()
    assert rings(manual) == 0
    for number in range(1, 200):
        engine["k"] = number
        engine["other"] = number
    assert rings(manual) == 1
    manual.process()
    assert all(changes[-1].new == 199 for changes in several) and rings(manual) == 0
    assert all(sum(1 + change.merged for change in changes) == 199 for changes in several[:50])
    engine["k"] = -1
    assert rings(manual) == 1, "asleep again"


def test_two_observables_of_a_process_ring_once_too(engine, manual):
    changes = direct(manual)
    with kvoshim.Observable("second") as second:
        token = manual.observe("second", None, changes.append)
        until(lambda: manual.process(0.01) or token.delivery == "direct")
        manual.process()
        engine["k"] = 1
        second["x"] = 2
        assert rings(manual) == 1
        until(lambda: manual.process(0.1) or [change.new for change in changes] == [1, 2])


def test_nobody_is_rung_who_is_awake_or_observes_something_else(engine, manual):
    engine["k"] = engine["other"] = 0
    changes = direct(manual)
    manual.process()
    engine["other"] = 1
    assert rings(manual) == 0
    manual._client.direct.sleeper.disarm()
    engine["k"] = 1
    assert rings(manual) == 0, "awake: it looks by itself"
    manual.process()
    assert [change.new for change in changes] == [1]
    with kvoshim.Observer(thread=False) as other:
        direct(other, "other")
        manual.process()
        engine["other"] = 2
        assert (rings(manual), rings(other)) == (0, 1)


def test_the_controller_sleeps_through_direct_changes(controller, engine):
    with kvoshim.Observer() as observer:
        changes = direct(observer)
        engine["k"] = 0
        until(lambda: changes)
        time.sleep(0.1)  # the key was bound
        before, start = controller.num_ctx_switches().voluntary, time.monotonic()
        for number in range(1, 201):
            engine["k"] = number
            until(lambda number=number: changes[-1].new == number)
        woken = controller.num_ctx_switches().voluntary - before
        assert woken <= 20 + 10 * (time.monotonic() - start), "but for its repair, once a second"


def test_keys_that_come_and_go_and_change_their_slots(engine):
    with kvoshim.Observer() as observer:
        awaited, pattern = direct(observer, "d"), direct(observer, "**")
        for turn in range(50):
            for key in "abcd":
                engine[key] = turn
            until(lambda turn=turn: awaited and awaited[-1].new == turn)
            for key in "abcd"[turn % 4:] + "abcd"[: turn % 4]:
                engine.delete(key)
            for key in "efgh":
                engine[key] = turn
            until(lambda: awaited[-1].kind == "deletion")
            for key in "efgh":
                engine.delete(key)
        until(lambda: pattern[-1].kind == "deletion" and pattern[-1].key == "h")
        assert [change.new for change in awaited if change.kind == "setting"] == list(range(50))
        for changes in (awaited, pattern):
            for key in "abcdefgh":
                revisions = [change.revision for change in changes if change.key == key]
                assert revisions == sorted(set(revisions))


def test_a_key_is_told_of_by_each_in_its_own_way(engine):
    """One observes it directly, the other through the controller, which comes and goes."""
    with kvoshim.Observer() as observer:
        changes = direct(observer)
        for turn in range(20):
            told = []
            token = observer.observe("engine", "k", told.append, delivery="controller")
            assert token.delivery == "controller"
            engine["k"] = turn
            until(lambda turn=turn: told and changes and told[-1].new == changes[-1].new == turn)
            token.close()
        assert [change.new for change in changes] == list(range(20))


def test_an_observable_that_does_not_answer_is_helped_by_the_controller(controller):
    """Its process takes nothing in, so it has no bell; what it writes is told of all the same."""
    with kvoshim.Observable("engine", thread=False) as engine, kvoshim.Observer() as observer:
        changes = []
        token = observer.observe("engine", "k", changes.append)
        for number in range(20):
            engine["k"] = number
            until(lambda number=number: changes and changes[-1].new == number)
        assert token.delivery == "controller" and engine._writer.linked == 0
        driver = engine._publication.client
        until(lambda: driver.process(0.01) or token.delivery == "direct", "as soon as it does")


def test_bells_that_a_process_has_no_room_for(engine, monkeypatch):
    monkeypatch.setattr("kvoshim.kvo.intake._BELLS_MAX", 0)
    with kvoshim.Observer() as observer:
        changes = []
        token = observer.observe("engine", "k", changes.append, delivery="direct")
        for number in range(5):
            engine["k"] = number
            until(lambda number=number: changes and changes[-1].new == number)
        assert token.delivery == "controller"


def test_the_policy_may_want_the_controller(place):
    file = place.directory / "controller.json"
    file.write_text('{"controller": {"delivery": "controller"}}')
    controller = place.controller("--config", str(file))
    with kvoshim.Observable("engine") as engine, kvoshim.Observer() as observer:
        with pytest.raises(DeliveryError, match="auto"):
            observer.observe("engine", "k", print, delivery="direct")
        changes = []
        token = observer.observe("engine", "k", changes.append)
        engine["k"] = 1
        until(lambda: changes and changes[-1].new == 1)
        assert token.delivery == "controller" and engine._writer.linked == 0
        file.write_text('{"controller": {"delivery": "auto"}}')
        os.kill(controller.pid, signal.SIGHUP)
        until(lambda: "reloaded" in place.log_text() or "configuration" in place.log_text())
        second = []
        until(lambda: second.append(observer.observe("engine", "x", changes.append)) or second[-1].delivery == "direct"
              or second.pop().close())
        file.write_text('{"controller": {"delivery": "controller"}}')
        os.kill(controller.pid, signal.SIGHUP)
        until(lambda: second[0].delivery == "controller" and engine._writer.linked == 0)
        for number in range(10):
            engine["x"] = number
            until(lambda number=number: changes[-1].new == number)


@pytest.mark.parametrize("thread", [None, False])
def test_a_bell_that_was_shut_down_is_given_up(engine, thread):
    """What a malicious observable could do with its end of the socket: the controller tells then."""
    with kvoshim.Observer(thread=thread) as observer:
        changes = direct(observer)
        (bell,) = engine._publication.client.bells.values()
        with socket.socket(fileno=os.dup(bell.fd)) as sock:
            sock.shutdown(socket.SHUT_RDWR)
        process = observer.process if thread is False else time.sleep
        until(lambda: process(0.01) or engine._writer.linked == 0)
        for number in range(10):
            engine["k"] = number
            until(lambda number=number: process(0.01) or changes and changes[-1].new == number)
        with observer.observe("engine", "k", changes.append) as token:
            assert token.delivery == "controller"


def test_a_flood_of_rings_is_a_few_looks(engine):
    """An observable that rings without end holds nobody up, and gets no callback to run."""
    with kvoshim.Observer() as observer:
        changes = direct(observer)
        (bell,) = engine._publication.client.bells.values()
        with socket.socket(fileno=os.dup(bell.fd)) as sock:
            sent = 0
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline:
                try:
                    sent += sock.send(bytes(64), socket.MSG_DONTWAIT)
                except BlockingIOError:
                    select.select([], [sock], [], 0.1)
            assert sent > 1000 and not changes
            engine["k"] = 1
            until(lambda: changes)
        assert [change.new for change in changes] == [1]


def test_a_ring_that_was_lost_is_made_good_by_the_controller(engine, manual):
    changes = direct(manual)
    manual.process()
    engine["k"] = 1
    assert rings(manual) == 1
    with socket.socket(fileno=os.dup(manual._client.direct.sleeper.bell)) as thief:
        assert thief.recv(100)
    until(lambda: select.select([manual], [], [], 0)[0], "the monitoring engine rings")
    manual.process()
    assert [change.new for change in changes] == [1]


def test_what_was_not_even_announced_is_found(engine):
    with kvoshim.Observer() as observer:
        changes, other = direct(observer), direct(observer, None)
        engine["k"] = 1
        until(lambda: changes and other)
        engine._writer.detach()
        engine["k"] = 2
        engine["x"] = 3
        until(lambda: changes[-1].new == 2 and other[-1].new == 3)


def test_descriptors_end_with_the_observer_they_were_for(place, controller):
    publisher, observers = place.peer(), [place.peer() for _ in range(3)]
    publisher.do("publish", "engine")
    before, of_controller = publisher.do("descriptors"), controller.num_fds()
    for peer in observers:
        peer.do("observe", "engine", "k")
        until(lambda peer=peer: peer.do("delivery", "engine", "k") == "direct")
    assert publisher.do("descriptors") == before + 3
    observers[0].kill()
    observers[1].do("end")
    until(lambda: publisher.do("descriptors") == before + 1)
    publisher.do("set", "engine", "k", 5)
    until(lambda: observers[2].values() == [5])
    observers[2].do("end")
    until(lambda: publisher.do("descriptors") == before and controller.num_fds() == of_controller)


def test_a_bell_page_that_is_none_is_refused(engine):
    with socket.socket(socket.AF_UNIX) as sock:
        page = os.memfd_create("x", os.MFD_CLOEXEC)
        try:
            with pytest.raises(CorruptStoreError):
                Bell(page, sock.fileno())
            with pytest.raises(CorruptStoreError, match="too large"):
                Bell(engine._writer.fd, sock.fileno())
            seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | F_SEAL_FUTURE_WRITE
            good = Sleeper()
            for size in (4096, 1 << 40):
                large = os.memfd_create("x", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                os.truncate(large, size)
                os.pwrite(large, os.pread(good.fd, 64, 0), 0)
                fcntl.fcntl(large, fcntl.F_ADD_SEALS, seals)
                if size == 4096:
                    assert not Bell(large, sock.fileno()).asleep
                else:
                    with pytest.raises(CorruptStoreError, match="too large"):
                        Bell(large, sock.fileno())
                os.close(large)
        finally:
            os.close(page)


def test_a_sleeper_by_itself(engine):
    """Rung, written to, neither, and when nobody can ring any more."""
    from kvoshim._monitor import Monitor

    ringing, hearing = socket.socketpair()
    sleeper = Sleeper()
    bell = Bell(sleeper.fd, ringing.fileno())
    sleeper.hear(hearing.detach())
    store = Monitor(engine._writer.fd)
    assert not bell.asleep
    bell.ring()
    assert sleeper.wait([store], -1, 0.0, 0) == 0, "nobody rings who is awake"
    assert sleeper.arm([store]) and bell.asleep
    bell.ring()
    bell.ring()
    assert sleeper.wait([store], -1, 10.0, 0) == 0 and not bell.asleep
    engine._writer.attach(engine._publication.client.link.table, 0, None)  # everything counts as written
    assert sleeper.wait([store], -1, 10.0, 50) == STORES and not sleeper.arm([store])
    assert store.drain() is None and sleeper.arm([store])
    ringing.close()
    del bell
    assert sleeper.wait([store], -1, 10.0, 0) == BROKEN
    store.close()
    assert sleeper.wait([store], -1, 0.0, 50) & STORES == 0
