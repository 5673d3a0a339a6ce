"""Who observes a pattern is woken for the keys that it may match, and no others, whoever tells of them."""

import itertools
import random

import pytest
from kvo_harness import WAIT_S, until
from test_direct import controller, direct, engine, manual, rings  # noqa: F401  fixtures
from test_turns import scene, told  # noqa: F401  fixtures

import kvoshim
from kvoshim.errors import InvalidKeyError
from kvoshim.kvo import wire
from kvoshim.kvo.keys import Selector, Sieve
from kvoshim.process import ControlClient


def test_whatever_a_pattern_matches_passes_the_sieve():
    dice = random.Random(8)
    passed = matched = 0
    for _ in range(20_000):
        pattern, key = ("".join(dice.choices("ab.*", [4, 2, 2, 3], k=dice.randrange(1, 9))) for _ in range(2))
        if "*" not in pattern:
            pattern += "*"
        key = key.replace("*", "") or "a"
        passed += Sieve(pattern).lets(key)
        if Selector(pattern).matches(key):
            matched += 1
            assert Sieve(pattern).lets(key), (pattern, key)
    assert 1000 < matched < passed < 15_000


def test_of_a_pattern_with_one_star_nothing_else_passes():
    for pattern, key in (("a.*", "a.b.c"), ("a.*", "ab"), ("*.c", "a.b.c"), ("a*b", "ab.b"), ("aba*aba", "ababa")):
        assert not Sieve(pattern).lets(key)
    assert not Sieve("**") and not Sieve("****") and Sieve("*") and not Sieve("*").lets("a.b")
    with pytest.raises(InvalidKeyError):
        Sieve("x" * 300)


def observe(scene, pattern):  # noqa: F811
    session = scene.session()
    scene.catalog.register(session, wire.Observe(1, next(scene.numbers), "name", None, True, 0, b"", 0, pattern), "name")
    scene.settle()
    session.pending.clear()
    return session


def test_the_controller_tells_of_no_other_keys(scene):  # noqa: F811
    writer, store = scene.publish("name", ["a.x", "b.x", "a.y.z"], max_keys=4)
    ones = {pattern: observe(scene, pattern) for pattern in ("a.*", "*.x", "a.**", "**", None, "b.*")}
    for key in ("a.x", "b.x", "a.y.z"):
        writer.set(key, 1)
    scene.settle()
    everything = {0: 2, 1: 2, 2: 2}
    assert {pattern: told(one) for pattern, one in ones.items()} == {
        "a.*": {0: 2}, "*.x": {0: 2, 1: 2}, "a.**": {0: 2, 2: 2}, "**": everything, None: everything, "b.*": {1: 2}}
    for one in ones.values():
        one.pending.clear()
    writer.set("a.new", 1)
    scene.settle()
    assert {pattern for pattern, one in ones.items() if told(one) == {3: 1}} == {"a.*", "a.**", "**", None}
    for one in ones.values():
        one.pending.clear()
    writer.remove("a.new")
    writer.set("b.new", 1)  # in the slot of the other one, before anybody has looked
    scene.settle()
    assert {pattern for pattern, one in ones.items() if 3 in told(one)} == {"a.*", "a.**", "**", None, "b.*"}
    for one in ones.values():
        scene.catalog.leave(one)
    assert not store.sieves and not store.keys and not store.everything


def test_an_observable_rings_for_no_other_keys(engine, manual):  # noqa: F811
    engine["a.x"] = engine["other"] = 0
    pattern, key = direct(manual, "a.*"), direct(manual, "b")
    manual.process()
    for number in range(1, 100):
        engine["other"] = number
    assert rings(manual) == 0
    engine["a.x"] = 1
    assert rings(manual) == 1
    manual.process()
    assert [change.new for change in pattern] == [1] and not key
    engine["a.y"] = 1  # a key that has just come is the controller's to tell
    until(lambda: manual.process(0.1) or [change.new for change in pattern] == [1, 1])
    numbers = itertools.count(2)
    until(lambda: (manual.process(), engine.set("a.y", next(numbers)), rings(manual))[2] == 1, "it is rung for from then on")
    manual.process()
    assert pattern[-1].new == engine["a.y"]
    told = len(pattern)
    engine.delete("other")
    engine["b"] = 1
    until(lambda: manual.process(0.1) or [change.new for change in key] == [1])
    assert len(pattern) == told


def test_of_a_large_store_an_observer_of_a_pattern_is_rung_for_all_keys_and_told_of_its_own(place):
    place.controller()
    with (kvoshim.Observable("engine", max_keys=5000) as large, kvoshim.Observer(thread=False) as observer,
          ControlClient(place.socket + ".ctl", WAIT_S) as control):

        def unsifted():
            return control.call("statistic-get", {"name": "patterns-unsifted"})["patterns-unsifted"][0][0]

        large["a.x"] = 0
        large.update({f"b{number}": 0 for number in range(4000)})
        early = direct(observer, "a.*")
        observer.process()
        large["b1"] = 1
        assert rings(observer) == 0 and unsifted() == 0
        large.update({f"c{number}": 0 for number in range(900)})
        until(lambda: observer.process(0.01) or unsifted() == 1, "it has become a large one")
        late = direct(observer, "a.*")
        assert unsifted() == 2
        observer.process()
        large["b1"] = 2
        assert rings(observer) == 1
        observer.process()
        assert not early and not late
        large["a.x"] = 1
        until(lambda: observer.process(0.01) or [change.new for change in early] == [change.new for change in late] == [1])
        through = []
        observer.observe("engine", "a.*", through.append, delivery="controller", options="new")
        large.update(b1=3, c1=3)
        large["a.x"] = 2
        until(lambda: observer.process(0.01) or [change.new for change in through] == [2])


def test_the_bits_of_one_pattern_are_not_those_of_another(engine, manual):  # noqa: F811
    engine["a.x"] = engine["a.y"] = 0
    narrow, wide, one = (manual.observe("engine", key, lambda change: None) for key in ("a.x*", "a.*", "a.y"))
    until(lambda: manual.process(0.01) or wide.delivery == "direct")

    def settled():
        """The controller has done what it was asked."""
        assert manual.observables()
        manual.process()

    numbers = itertools.count(1)
    for ended, expected in ((wide, (1, 1)), (one, (1, 0)), (narrow, (0, 0))):
        ended.close()
        settled()
        counts = []
        for key in ("a.x", "a.y"):
            manual.process()
            engine[key] = next(numbers)
            counts.append(rings(manual))
        assert tuple(counts) == expected, ended.key


def test_patterns_follow_keys_that_come_and_go_and_change_their_slots(engine):  # noqa: F811
    with kvoshim.Observer() as observer:
        few, rest = direct(observer, "x*"), direct(observer, "y*")
        for turn in range(50):
            for letter in "xy":
                for number in range(4):
                    engine[f"{letter}{number}"] = turn
                until(lambda letter=letter, turn=turn: {change.key for change in (few if letter == "x" else rest)
                                                        if change.new == turn} == {f"{letter}{n}" for n in range(4)})
                for number in range(4):
                    engine.delete(f"{letter}{number}")
        until(lambda: all({c.key: c.kind for c in seen} == dict.fromkeys({c.key for c in seen}, "deletion") for seen in (few, rest)))
        assert {change.key[0] for change in few} == {"x"} and {change.key[0] for change in rest} == {"y"}
