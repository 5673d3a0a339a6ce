"""What the core does between a change and its callbacks: the gate, and groups of observations of one key."""

import signal
import threading
import time

import pytest
from kvo_harness import WAIT_S, until
from kvoshim._delivery import Gate

import kvoshim


def test_a_gate_is_entered_again_by_its_holder_only():
    gate, found, inside, leave = Gate(), [], threading.Event(), threading.Event()

    def other():
        with gate, gate:
            inside.set()
            leave.wait(WAIT_S)
        found.append("left")

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(WAIT_S)
    assert not gate.enter_at_once()
    with pytest.raises(RuntimeError):
        gate.__exit__()
    threading.Timer(0.05, leave.set).start()
    with gate:
        assert found == ["left"] or not thread.is_alive() or leave.is_set()
        assert gate.enter_at_once()
        gate.__exit__()
    thread.join(WAIT_S)
    assert gate.enter_at_once()
    gate.__exit__()
    with pytest.raises(RuntimeError):
        gate.__exit__()


def test_a_gate_is_not_waited_for_after_a_signal_that_raises():
    gate, inside, leave = Gate(), threading.Event(), threading.Event()

    def other():
        with gate:
            inside.set()
            leave.wait(WAIT_S)

    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(WAIT_S)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Alarm), gate:
            pass
    finally:
        signal.signal(signal.SIGALRM, before)
        leave.set()
        thread.join(WAIT_S)
    with gate:
        pass


@pytest.fixture
def observer(engine):
    """One that does nothing by itself."""
    with kvoshim.Observer(thread=False) as observer:
        yield observer


def observe(observer, callback):
    token = observer.observe("engine", "k", callback, delivery="direct")
    until(lambda: (observer.process(0.01), token.delivery)[1] == "direct")
    return token


def test_a_callback_may_wait_for_the_others_of_its_key(engine, observer):
    """Those that were to come after it come while it waits, and once."""
    order, others = [], []

    def first(change):
        order.append(("first", change.new))
        if change.new == 1:
            until(lambda: (observer.process(0.01), len(order) == 3)[1])
            order.append(("waited", change.new))

    engine["k"] = 0
    observe(observer, first)
    others = [observe(observer, lambda change, name=name: order.append((name, change.new))) for name in ("second", "third")]
    observer.process()
    order.clear()
    for number in (1, 2):
        engine["k"] = number
        until(lambda number=number: (observer.process(0.01), ("third", number) in order)[1])
    assert order == [("first", 1), ("second", 1), ("third", 1), ("waited", 1), ("first", 2), ("second", 2), ("third", 2)]
    assert all(token.is_alive() for token in others)


def test_a_callback_may_end_and_begin_others_of_its_key(engine, observer):
    seen, tokens = [], {}

    def first(change):
        seen.append("first")
        if change.new == 1:
            tokens["second"].close()
            tokens["late"] = observer.observe("engine", "k", lambda change: seen.append("late"), options="new")

    def raises(change):
        seen.append("raises")
        raise SystemExit("no callback ends anything but itself")

    engine["k"] = 0
    tokens["first"] = observe(observer, first)
    tokens["second"] = observe(observer, lambda change: seen.append("second"))
    tokens["raises"] = observe(observer, raises)
    tokens["last"] = observe(observer, lambda change: seen.append("last"))
    observer.process()
    seen.clear()
    engine["k"] = 1
    until(lambda: (observer.process(0.01), "last" in seen)[1])
    assert seen == ["first", "raises", "last"]
    seen.clear()
    engine["k"] = 2
    until(lambda: (observer.process(0.01), "late" in seen)[1])
    assert sorted(seen) == ["first", "last", "late", "raises"]


def test_all_who_wait_at_a_gate_get_in_one_at_a_time():
    gate, inside, most, entered = Gate(), [], [0], []

    def run():
        for _ in range(300):
            with gate:
                inside.append(None)
                most[0] = max(most[0], len(inside))
                time.sleep(0)  # the others have the interpreter, and find the gate taken
                inside.pop()
                entered.append(None)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert (len(entered), most[0]) == (8 * 300, 1)
