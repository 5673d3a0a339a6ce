"""Observation in one process and between two: what is delivered, in which order, and when no longer."""

import os
import threading
import time

import pytest
from kvo_harness import until

import kvoshim
from kvoshim.errors import (
    AmbiguousTargetError,
    ClosedError,
    InvalidKeyError,
    InvalidKeyTypeError,
    InvalidNameError,
    NameInUseError,
    UnknownKeyError,
    UnknownNameError,
)


def test_the_initial_value_comes_first_then_changes(engine, observer):
    engine["rpm"] = 1
    changes = []
    with observer.observe("engine", "rpm", changes.append):
        until(lambda: changes)
        engine["rpm"] = 2
        until(lambda: len(changes) == 2)
    first, second = changes
    assert (first.target, first.key, first.kind, first.new, first.revision) == ("engine", "rpm", "initial", 1, 1)
    assert (second.kind, second.new, second.revision, second.old) == ("setting", 2, 2, None)
    assert abs(second.timestamp - time.time()) < 60
    assert 0 < second.monotonic_ns <= time.monotonic_ns()
    assert (second.target, second.key, second.merged, second.missed, second.pid) == ("engine", "rpm", 0, 0, os.getpid())
    assert (second.reason, second.indexes, second.error, second.more) == (None, None, None, False)


def test_without_initial_only_what_is_set_after_observe_is_delivered(engine, observer):
    engine["rpm"] = 1
    changes = []
    observer.observe("engine", "rpm", changes.append, options="new")
    engine["rpm"] = 2
    until(lambda: changes)
    assert [(change.kind, change.new) for change in changes] == [("setting", 2)]


def test_a_key_that_does_not_exist_yet_is_awaited(engine, observer):
    changes = []
    observer.observe("engine", "torque", changes.append)
    engine["other"] = 1
    engine["torque"] = 5
    until(lambda: changes)
    engine["torque"] = 6
    until(lambda: len(changes) == 2)
    assert [(change.key, change.new, change.revision) for change in changes] == [
        ("torque", 5, 2),
        ("torque", 6, 3),
    ]


def test_a_name_that_nobody_has_published_yet_is_awaited_by_default(engine, observer):
    changes = []
    token = observer.observe("later", "x", changes.append)
    assert token.target == "later"
    with kvoshim.Observable("later") as later:
        later["x"] = "here"
        until(lambda: changes)
    until(lambda: len(changes) == 2)
    assert [(change.kind, change.new) for change in changes] == [("setting", "here"), ("gone", "here")]
    with pytest.raises(UnknownNameError, match="nowhere"):
        observer.observe("nowhere", "x", changes.append, wait=False)


def test_all_keys_present_and_to_come(engine, observer):
    engine["a"] = 1
    changes = []
    observer.observe("engine", None, changes.append)
    until(lambda: changes)
    engine["b"] = [2]
    engine["a"] = 3
    until(lambda: len(changes) == 3)
    engine.delete("b")
    until(lambda: len(changes) == 4)
    assert [(change.key, change.kind, change.new) for change in changes] == [
        ("a", "initial", 1),
        ("b", "setting", [2]),
        ("a", "setting", 3),
        ("b", "deletion", None),
    ]


def test_removal_and_setting_again_go_on_in_version(engine, observer):
    changes = []
    observer.observe("engine", "k", changes.append)
    engine["k"] = 1
    until(lambda: len(changes) == 1)
    engine.delete("k")
    until(lambda: len(changes) == 2)
    with pytest.raises(UnknownKeyError):
        observer.get("engine", "k")
    engine["k"] = 2
    until(lambda: len(changes) == 3)
    assert [(change.kind, change.revision) for change in changes] == [
        ("setting", 1),
        ("deletion", 2),
        ("setting", 3),
    ]


def test_an_observed_key_whose_slot_went_to_another_key(place):
    place.controller()
    with kvoshim.Observable("tight", max_keys=1) as tight, kvoshim.Observer() as observer:
        tight["a"] = 1
        one, everything = [], []
        observer.observe("tight", "a", one.append)
        observer.observe("tight", None, everything.append)
        until(lambda: one and everything)
        tight.delete("a")
        tight["b"] = 2  # takes a's only slot
        until(lambda: len(one) == 2 and len(everything) == 3)
        tight.delete("b")
        tight["a"] = 3
        until(lambda: len(one) == 3 and len(everything) == 5)
        assert [(change.kind, change.new) for change in one] == [
            ("initial", 1),
            ("deletion", None),
            ("setting", 3),
        ]
        assert [(change.key, change.kind) for change in everything] == [
            ("a", "initial"),
            ("a", "deletion"),
            ("b", "setting"),
            ("b", "deletion"),
            ("a", "setting"),
        ]
        versions = [change.revision for change in one]
        assert versions == sorted(set(versions))


def test_no_callback_after_close_has_returned(engine, observer):
    running, release, calls = threading.Event(), threading.Event(), []

    def slow(change):
        calls.append(change.new)
        running.set()
        release.wait(10)

    token = observer.observe("engine", "rpm", slow)
    engine["rpm"] = 1
    assert running.wait(10)
    engine["rpm"] = 2
    closer = threading.Thread(target=token.close)
    closer.start()
    closer.join(0.1)
    assert closer.is_alive(), "close() waits for the running callback"
    release.set()
    closer.join(10)
    assert not closer.is_alive()
    engine["rpm"] = 3
    other = []
    observer.observe("engine", "rpm", other.append)
    until(lambda: other)
    assert calls == [1]
    token.close()
    assert token.closed


def test_a_callback_may_close_its_own_token_and_observe_more(engine, observer):
    seen, inner = [], []

    def once(change):
        seen.append(change.new)
        token.close()
        observer.observe("engine", "other", inner.append)
        engine["other"] = observer.get("engine", "rpm")

    token = observer.observe("engine", "rpm", once)
    engine["rpm"] = 1
    until(lambda: inner)
    engine["rpm"] = 2
    engine["other"] = 9
    until(lambda: inner[-1].new == 9)
    assert seen == [1]


def test_an_exception_in_a_callback_is_logged_and_goes_no_further(engine, observer, caplog):
    def bad(change):
        raise SystemExit(f"not with {change.new}")

    good = []
    observer.observe("engine", "rpm", bad)
    observer.observe("engine", "rpm", good.append)
    for value in (1, 2):
        engine["rpm"] = value
        until(lambda value=value: good and good[-1].new == value)
    assert "not with 1" in caplog.text and "not with 2" in caplog.text


def test_a_slow_observer_gets_the_last_value_and_holds_up_nobody(engine, observer):
    slow, quick = [], []
    observer.observe("engine", "rpm", lambda change: (slow.append(change), time.sleep(0.05)))
    for value in range(1, 20001):
        engine["rpm"] = value
    observer.observe("engine", "rpm", quick.append)
    until(lambda: quick and slow[-1].new == 20000 and quick[-1].new == 20000)
    for changes in (slow, quick):
        versions = [change.revision for change in changes]
        assert versions == sorted(set(versions))
    assert len(slow) < 20000, "what could not be taken was merged"


def test_many_keys_at_once_each_get_their_last_value(engine, observer):
    latest = {}
    observer.observe("engine", None, lambda change: latest.__setitem__(change.key, change.new))
    for turn in range(20):
        for number in range(500):
            engine[f"key{number}"] = turn * 1000 + number
    expected = {f"key{number}": 19 * 1000 + number for number in range(500)}
    until(lambda: latest == expected, "every key's last value arrives")


def test_a_change_that_was_stored_but_never_announced_is_found(engine, observer):
    """As if the writer had been stopped between storing the value and saying so."""
    changes = []
    observer.observe("engine", "rpm", changes.append)
    engine["rpm"] = 1
    until(lambda: changes)
    engine._writer.detach()
    engine["rpm"] = 2
    until(lambda: changes[-1].new == 2, "the repair tick finds it")


def test_get_by_pid(place):
    place.controller()
    peer = place.peer()
    peer.do("publish", "solo")
    peer.do("set", "solo", "x", 7)
    with kvoshim.Observer() as observer:
        assert observer.get(peer.pid, "x") == 7
        changes = []
        token = observer.observe(peer.pid, "x", changes.append)
        assert token.target == "solo"
        peer.do("set", "solo", "x", 8)
        until(lambda: [change.new for change in changes] == [7, 8])
        peer.do("publish", "second")
        with pytest.raises(AmbiguousTargetError, match="'second', 'solo'"):
            observer.observe(peer.pid, "x", changes.append)
        with pytest.raises(UnknownNameError, match="PID 1"):
            observer.get(1, "x")


@pytest.mark.parametrize(
    "key, error",
    [
        ("", InvalidKeyError),
        ("k" * 256, InvalidKeyError),
        ("é" * 128, InvalidKeyError),
        (5, InvalidKeyTypeError),
        (b"bytes", InvalidKeyTypeError),
        ("\udc80", InvalidKeyError),
        (["list"], InvalidKeyTypeError),
    ],
)
def test_bad_keys(engine, observer, key, error):
    engine["good"] = 1
    builtin = TypeError if error is InvalidKeyTypeError else ValueError
    with pytest.raises(error, match="255|surrogate") as caught:
        engine.set(key, 1)
    assert isinstance(caught.value, builtin)
    with pytest.raises(error):
        observer.get("engine", key)
    with pytest.raises(error):
        observer.observe("engine", key, print)
    assert observer.keys("engine") == ["good"]


@pytest.mark.parametrize("key", ["k", "k" * 255, "é" * 127, "with space", "a.b", "null\0byte"])
def test_good_keys(engine, observer, key):
    engine[key] = 1
    assert observer.get("engine", key) == 1


@pytest.mark.parametrize("name", ["", "n" * 256, 3.5, None, True, -1, b"x"])
def test_bad_names(engine, observer, name):
    with pytest.raises(InvalidNameError):
        observer.get(name, "k")
    if not isinstance(name, int):
        with pytest.raises(InvalidNameError):
            kvoshim.Observable(name)


def test_unknown_names_and_keys(engine, observer):
    with pytest.raises(UnknownNameError, match="'nobody'") as caught:
        observer.get("nobody", "k")
    assert isinstance(caught.value, LookupError)
    with pytest.raises(UnknownKeyError, match="'engine' has no key 'k'") as caught:
        observer.get("engine", "k")
    assert isinstance(caught.value, KeyError)
    assert observer.get("engine", "k", None) is None
    with pytest.raises(TypeError, match="callback"):
        observer.observe("engine", "k", "not callable")


def test_a_name_belongs_to_one_observable(place, engine):
    with pytest.raises(NameInUseError, match="'engine'"):
        kvoshim.Observable("engine")
    peer = place.peer()
    with pytest.raises(AssertionError, match="NameInUseError"):
        peer.do("publish", "engine")
    engine.close()
    peer.do("publish", "engine")


def test_values_and_versions_go_on_under_a_successor(place):
    place.controller()
    with kvoshim.Observer() as observer:
        with kvoshim.Observable("box") as box:
            box["a"] = 1
            box["a"] = 2
            box["b"] = "kept" * 100
        changes = []
        observer.observe("box", "a", changes.append)
        until(lambda: len(changes) == 2)
        with kvoshim.Observable("box") as box:
            assert box["a"] == 2 and box["b"] == "kept" * 100 and box.revision("a") == 2
            box["a"] = 3
            until(lambda: changes[-1].new == 3)
        until(lambda: changes[-1].kind == "gone")
        with kvoshim.Observable("box", inherit=False) as box:
            assert box.keys() == []
            box["a"] = 4
            until(lambda: changes[-1].new == 4)
        until(lambda: changes[-1].kind == "gone")
        kinds = [change.kind for change in changes if change.kind != "deletion"]
        assert kinds == ["initial", "gone", "back", "setting", "gone", "back", "setting", "gone"]
        versions = [change.revision for change in changes if change.kind not in ("gone", "back")]
        assert versions == sorted(set(versions)) and versions[0] == 2


def test_discarded_values_are_unknown(place):
    place.controller()
    with kvoshim.Observer() as observer:
        box = kvoshim.Observable("box")
        box["a"] = 1
        changes = []
        observer.observe("box", "a", changes.append)
        until(lambda: changes)
        box.close(discard=True)
        until(lambda: changes[-1].kind == "gone")

        def forgotten():
            try:
                observer.get("box", "a")
            except UnknownNameError:
                return True

        until(forgotten)
        with kvoshim.Observable("box") as box:
            assert box.keys() == []
            box["a"] = 2
            until(lambda: changes[-1].new == 2)
        assert changes[-1].revision > 1


def test_what_was_collected_is_closed(place):
    place.controller()
    changes = []
    with kvoshim.Observer() as observer:
        observable = kvoshim.Observable("lost")
        observable["a"] = 1
        observer.observe("lost", "a", changes.append)
        until(lambda: changes)
        del observable
        until(lambda: changes[-1].kind == "gone")
        seen = []
        second = kvoshim.Observer()
        second.observe("lost", "a", seen.append)
        until(lambda: seen)
        until(lambda: len(observer.observables()[0]["observers"]) == 2)
        del second
        until(lambda: len(observer.observables()[0]["observers"]) == 1)


def test_closed_objects_say_so(place):
    place.controller()
    observable, observer = kvoshim.Observable("x"), kvoshim.Observer()
    observable["a"] = 1
    assert observer.get("x", "a") == 1
    for _ in range(2):
        observable.close()
        observer.close()
    assert observable.closed and observer.closed
    for call in (
        lambda: observable.set("a", 1),
        lambda: observable["a"],
        observable.keys,
        lambda: observer.get("x", "a"),
        lambda: observer.observe("x", "a", print),
        observer.observables,
    ):
        with pytest.raises(ClosedError):
            call()


def test_the_list_names_observables_and_observers(place, engine, observer):
    peer = place.peer()
    peer.do("observe", "engine", "rpm")
    peer.do("observe", "later", None)
    rows = {row["name"]: row for row in observer.observables()}
    assert rows["engine"]["live"] and rows["later"]["pid"] == 0
    assert [(one["pid"], one["key"]) for one in rows["engine"]["observers"]] == [(peer.pid, "rpm")]
    table = observer._client.link.table
    shared = {(row["observer_pid"], row["observable_pid"], row["name"], row["key"]) for row in table.rows()}
    assert shared == {(peer.pid, rows["engine"]["pid"], "engine", "rpm"), (peer.pid, 0, "later", None)}
    peer.do("unobserve", "engine", "rpm")
    until(lambda: len(table.rows()) == 1, "the registration table follows")
