"""The short way of the usual change (Looks.at_once in pyx/kvoshim/_look.pyx): it is taken from the second change of a key on, if
those who observe it want its new value and nothing else. What is not usual, right behind it, takes the general way."""

import threading

import pytest
from kvo_harness import until

import kvoshim


class Told(list):
    """Changes, and what to do with one as it comes."""

    def __init__(self, then=lambda change: None):
        self.then = then

    def __call__(self, change):
        self.append(change)
        self.then(change)

    def values(self):
        return [change.new for change in self]


def warm(engine, key, *told):
    """Some changes, each awaited: the next one goes the short way."""
    for number in range(3):
        engine[key] = number
        until(lambda number=number: all(one and one[-1].new == number for one in told))


@pytest.fixture
def told(engine, observer):
    told = Told()
    token = observer.observe("engine", "k", told)
    until(lambda: token.delivery == "direct")
    warm(engine, "k", told)
    return told


def test_what_was_merged_is_counted(engine, told):
    started, go_on = threading.Event(), threading.Event()

    def wait(change):
        if change.new == "first":
            started.set()
            go_on.wait(10)

    told.then = wait
    engine["k"] = "first"
    assert started.wait(10)
    for number in range(5000):  # more than the dirty ring has room for
        engine["k"] = number
    go_on.set()
    until(lambda: told[-1].new == 4999)
    assert sum(change.merged + 1 for change in told) == engine.revision("k")


def test_a_key_that_is_deleted_and_comes_back_in_another_slot(place, observer):
    with kvoshim.Observable("two", max_keys=2) as two:
        told = Told()
        observer.observe("two", "a", told)
        warm(two, "a", told)
        two["b"] = 1
        del two["a"]
        until(lambda: told[-1].kind == "deletion")
        two["c"] = 1  # in the slot of a
        del two["b"]
        two["a"] = "back"
        until(lambda: told[-1].new == "back")
        warm(two, "a", told)


def test_a_successor_has_the_name(place, observer):
    told = Told()
    with kvoshim.Observable("motor") as motor:
        observer.observe("motor", "k", told)
        warm(motor, "k", told)
    until(lambda: told[-1].kind == "gone")
    with kvoshim.Observable("motor") as motor:
        motor["k"] = "of the next one"
        until(lambda: told[-1].new == "of the next one")
        warm(motor, "k", told)


def test_who_observes_more_meanwhile_and_who_no_longer_does(engine, observer, told):
    second, tokens = Told(), []

    def more(change):
        if change.new == "more":
            tokens.append(observer.observe("engine", "k", second))
        if change.new == "less":
            tokens[0].close()

    told.then = more
    engine["k"] = "more"
    until(lambda: second.values() == ["more"])
    warm(engine, "k", told, second)
    engine["k"] = "less"
    until(lambda: told[-1].new == "less")
    revision = told[-1].revision
    warm(engine, "k", told)
    assert all(change.revision <= revision for change in second)


def test_two_who_observe_a_list_have_one_each(engine, observer, told):
    second = Told()
    observer.observe("engine", "k", second)
    until(lambda: second)
    warm(engine, "k", told, second)
    engine["k"] = [1, 2]
    until(lambda: told[-1].new == second[-1].new == [1, 2])
    assert told[-1].new is not second[-1].new
    engine["k"] = 3
    until(lambda: told[-1].new == second[-1].new == 3)


def test_a_value_that_expires_and_one_that_changes_nothing(engine, told):
    engine.put("k", "short", ttl=0.1)
    until(lambda: told[-1].kind == "deletion" and told[-1].reason == "expired")
    warm(engine, "k", told)
    count = len(told)
    engine["k"] = 2  # as it is already
    engine["other"] = 1
    engine["k"] = 3
    until(lambda: told[-1].new == 3)
    assert len(told) == count + 1


def test_a_callback_that_raises_and_one_that_is_no_more(engine, observer, told, caplog):
    class Owner:
        def __init__(self):
            self.told = Told()

        def take(self, change):
            self.told(change)

    def refuse(change):
        raise RuntimeError("a callback's own trouble")

    owners = [Owner()]
    weakly = owners[0].told
    token = observer.observe("engine", "k", owners[0].take, weak=True)
    until(lambda: weakly)
    warm(engine, "k", told, weakly)
    told.then = refuse
    engine["k"] = "raises"
    until(lambda: weakly[-1].new == "raises" and "a callback's own trouble" in caplog.text)
    told.then = lambda change: None
    owners.clear()
    engine["k"] = "collected"
    until(lambda: told[-1].new == "collected" and token.closed)
    warm(engine, "k", told)
