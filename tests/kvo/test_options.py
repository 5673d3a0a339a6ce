"""What an observation can ask for: options, patterns, paths, collections."""

import dataclasses

import numpy
import pytest
from kvo_harness import until

import kvoshim
from kvoshim.errors import CorruptStoreError
from kvoshim.kvo import Key, Options, accept
from kvoshim.kvo.change import VALUED


def watch(observer, key, target="engine", **how):
    """Observes; gives a function that waits until so many changes have come, and returns them."""
    changes = []
    observer.observe(target, key, changes.append, **how)

    def after(count):
        until(lambda: len(changes) >= count, f"{count} changes of {key!r}; {changes}")
        return changes

    return after


def test_new_old_initial_prior(engine, observer):
    engine["k"] = 1
    bare, both = watch(observer, "k", options=[]), watch(observer, "k", options="old|new|initial|prior")
    engine["k"] = 2
    engine["sync"] = 1
    assert [(c.kind, c.new, c.old) for c in both(3)] == [("initial", 1, None), ("prior", None, 1), ("setting", 2, 1)]
    assert [(c.kind, c.new, c.old, c.revision) for c in bare(1)] == [("setting", None, None, 2)]
    engine.delete("k")
    assert [(c.kind, c.new, c.old) for c in both(5)[3:]] == [("prior", None, 2), ("deletion", None, 2)]
    assert both(4)[3].revision == both(5)[4].revision


def test_options_as_text_names_and_flags():
    assert Options.of("new | OLD") == Options.of(["new", Options.OLD]) == Options.NEW | Options.OLD
    assert Options.of(None) == Options.NEW | Options.INITIAL and Options.of([]) == Options(0)
    for bad in ("newer", ["x"], [5], ""):
        with pytest.raises(ValueError, match="known are new, old"):
            Options.of(bad)


def test_arguments_that_make_no_sense_are_refused(engine, observer):
    for how, error in (
        ({"mode": "some"}, ValueError), ({"delivery": "pigeon"}, ValueError), ({"since": -1}, ValueError),
        ({"since": "1"}, ValueError), ({"since": True}, ValueError), ({"options": "old|odd"}, ValueError),
    ):
        with pytest.raises(error):
            observer.observe("engine", "k", print, **how)
    assert observer.observables()[0]["observers"] == []


@pytest.mark.parametrize("mode", ["latest", "every"])
def test_patterns(engine, observer, mode):
    engine["cyl.1.t"] = 10
    one, deep, prefix = (watch(observer, pattern, mode=mode) for pattern in ("cyl.*.t", "cyl.**", "cy*"))
    engine["cyl.2.t"] = 20
    engine["other"] = 1
    engine["cyl.2.p"] = 3
    engine["cyan"] = 4
    assert [(c.key, c.kind, c.new) for c in deep(3)] == [
        ("cyl.1.t", "initial", 10), ("cyl.2.t", "setting", 20), ("cyl.2.p", "setting", 3)]
    assert [(c.key, c.new) for c in one(2)] == [("cyl.1.t", 10), ("cyl.2.t", 20)]
    assert [(c.key, c.new) for c in prefix(1)] == [("cyan", 4)]
    engine["a.*"] = 1
    literal = watch(observer, Key("a.*"), mode=mode)
    engine["a.b"] = 2
    engine["a.*"] = 3
    assert [(c.key, c.new) for c in literal(2)] == [("a.*", 1), ("a.*", 3)]


@accept
@dataclasses.dataclass
class Oil:
    temperature: float
    grade: str = ""


@pytest.mark.parametrize("mode", ["latest", "every"])
def test_paths_into_values(engine, observer, mode):
    engine["oil"] = {"temperature": 80, "grade": "5W30"}
    path = watch(observer, "oil.temperature", options="new|old|initial", mode=mode)
    path(1)
    steps = (
        (lambda: engine.set("oil", {"temperature": 80, "grade": "10W40"}), None),
        (lambda: engine.set("oil", {"temperature": 81}), ("setting", 81)),
        (lambda: engine.set("oil", Oil(82.5)), ("setting", 82.5)),
        (lambda: engine.set("oil", 5), ("deletion", None)),
        (lambda: engine.set("oil.temperature", 90), ("setting", 90)),
        (lambda: engine.set("oil", {"temperature": 1}), None),
        (lambda: engine.delete("oil.temperature"), ("setting", 1)),
        (lambda: engine.delete("oil"), ("deletion", None)),
    )
    expected = [("initial", 80)]
    for step, outcome in steps:
        step()
        expected += [outcome] if outcome else []
        assert [(c.kind, c.new) for c in path(len(expected))] == expected
    revisions = [c.revision for c in path(len(expected))]
    assert revisions == sorted(set(revisions)) and {c.key for c in path(1)} == {"oil.temperature"}


@pytest.mark.parametrize("mode", ["latest", "every"])
def test_a_path_whose_keys_change_in_one_transaction(engine, observer, mode):
    engine.update({"oil": {"temperature": 1}, "oil.temperature": 80})
    path = watch(observer, "oil.temperature", mode=mode)
    path(1)
    with engine.batch():
        engine["oil"] = {"temperature": 2}
        del engine["oil.temperature"]
    path(2)
    with engine.batch():
        engine["oil.temperature"] = 3
        del engine["oil"]
    assert [(c.kind, c.new) for c in path(3)] == [("initial", 80), ("setting", 2), ("setting", 3)]


@pytest.mark.parametrize("mode", ["latest", "every"])
def test_what_a_successor_does_not_take_over_is_deleted(place, mode):
    place.controller()
    with kvoshim.Observer() as observer:
        with kvoshim.Observable("box") as box:
            box.update({"a": 1, "p": {"x": 1}, "b": 2})
            watched = [watch(observer, key, mode=mode, target="box") for key in ("a", "p.x", "*", None)]
            for after, count in zip(watched, (1, 1, 3, 3)):
                after(count)
        with kvoshim.Observable("box", inherit=False) as box:
            box["b"] = 3
            for after, expected in zip(watched, ({"a"}, {"p.x"}, {"a", "p"}, {"a", "p"})):
                # Whether 'b' has been missing in between depends on when somebody looks.
                until(lambda: {c.key for c in after(1) if c.kind == "deletion"} - {"b"} == expected)
                revisions = {}
                for change in [c for c in after(1) if c.kind in VALUED]:
                    assert change.revision > revisions.get(change.key, 0)
                    revisions[change.key] = change.revision
                if mode == "every":  # over all keys; what is found missing together is told together
                    order = [c.revision for c in after(1) if c.kind in VALUED]
                    assert order == sorted(order)
            until(lambda: watched[3](1)[-1].new == 3)


def test_collections_tell_where_they_have_changed(engine, observer):
    engine["list"] = [1, 2]
    changes = watch(observer, "list", options="new|old")
    for number, (value, kind, indexes) in enumerate((
        ([1, 5, 2], "insertion", (1,)), ([1, 6, 2], "replacement", (1,)), ([6, 2], "removal", (0,)), ([0], "setting", None),
        ({"a": 1}, "setting", None), ({"a": 1, "b": 2}, "insertion", ("b",)),
        ({1, "x"}, "setting", None), ({1, "x", 2.5}, "insertion", (2.5,)), ({"x", 2.5}, "removal", (1,)), ({"x", 3}, "setting", None),
    ), 1):
        engine["list"] = value
        last = changes(number)[-1]
        assert (last.kind, last.indexes, last.new) == (kind, indexes, value)


def test_a_key_that_cannot_be_read_is_told_once_and_the_others_go_on(engine, observer):
    @dataclasses.dataclass
    class Wrong:
        grade: int = 1

    Wrong.__module__, Wrong.__qualname__ = Oil.__module__, Oil.__qualname__
    one, everything = watch(observer, "bad"), watch(observer, None)
    engine["bad"] = Wrong()
    engine["good"] = 1
    assert [(c.key, c.kind) for c in everything(2)] == [("bad", "error"), ("good", "setting")]
    assert isinstance(one(1)[0].error, CorruptStoreError) and "temperature" in str(one(1)[0].error)
    engine["bad"] = Wrong()
    engine["bad"] = Oil(5.0)
    assert one(2)[-1].new == Oil(5.0)
    with pytest.raises(CorruptStoreError):
        engine["bad"] = Wrong()
        observer.get("engine", "bad")
    assert observer.snapshot("engine") == {"good": 1}


def test_snapshot_and_view(engine, observer):
    engine.update({"a.x": 1, "a.y": 2, "b": [3]})
    assert observer.snapshot("engine") == {"a.x": 1, "a.y": 2, "b": [3]}
    assert observer.snapshot("engine", "a.*") == {"a.x": 1, "a.y": 2}
    assert observer.snapshot("engine", "a.x") == {"a.x": 1} and observer.snapshot("engine", "none") == {}
    assert observer.revision("engine") == observer.revision("engine", "b") == engine.revision()
    engine["frame"] = numpy.arange(1000)
    with observer.view("engine", "frame") as frame:
        assert (frame == numpy.arange(1000)).all()


def test_an_array_is_observed_as_any_value(engine, observer):
    changes = watch(observer, "frame", options="new|old|initial")
    for number in range(3):
        engine["frame"] = numpy.full(100, number)
        assert (changes(number + 1)[-1].new == number).all()
