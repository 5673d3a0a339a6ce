"""The publishing side: batches, transactions, compare-and-set, values that end by themselves, dependent keys."""

import threading

import pytest
from kvo_harness import until

import kvoshim
from kvoshim.errors import ClosedError, ConflictError, InvalidValueError, LimitError, UnknownKeyError


def test_a_batch_is_published_at_its_end_and_merges(engine, observer):
    changes = []
    observer.observe("engine", "k", changes.append, mode="every")
    with engine.batch() as batch:
        for number in range(10):
            engine["k"] = number
            engine["other"] = number
        with engine.batch():  # joins
            engine.update(third=3)
        assert observer.snapshot("engine") == {} and engine.revision() == 0
    assert batch.revision == engine.revision() == 1
    until(lambda: [change.new for change in changes] == [9])
    assert observer.snapshot("engine") == {"k": 9, "other": 9, "third": 3}


def test_a_batch_that_raises_publishes_nothing(engine):
    engine["k"] = 1
    for error in (ZeroDivisionError, InvalidValueError):
        with pytest.raises(error), engine.batch():
            engine["k"] = 2
            del engine["k"]
            if error is ZeroDivisionError:
                raise error
            engine["k"] = object()
        assert engine["k"] == 1 and engine.revision() == 1
    engine["k"] = 3
    assert engine.revision() == 2
    with engine.batch() as batch:
        pass
    assert batch.revision == 0 and engine.revision() == 2


def test_other_threads_go_on_during_a_batch(engine):
    inside, go = threading.Event(), threading.Event()

    def work():
        with engine.batch():
            engine["a"] = 1
            inside.set()
            go.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(30)
    assert engine.set("b", 2) == 1 and "a" not in engine
    go.set()
    thread.join()
    assert engine["a"] == 1 and engine.revision("a") == 2


def test_what_a_batch_does_with_keys_that_come_and_go(engine):
    with engine.batch():
        engine["new"] = 1
        del engine["new"]
        with pytest.raises(UnknownKeyError):
            del engine["new"]
        with pytest.raises(UnknownKeyError):
            engine["new"]
        assert engine.get("new", "default") == "default"
        engine["k"] = 1
    with engine.batch():
        del engine["k"]
        engine["k"] = 2
    assert engine.keys() == ["k"] and engine["k"] == 2


def test_compare_and_set(engine):
    first = engine.create("k", 1)
    with pytest.raises(ConflictError, match=f"'k' of 'engine' has revision {first}, not 0"):
        engine.create("k", 2)
    second = engine.put("k", 2, revision=first)
    with pytest.raises(ConflictError):
        engine.put("k", 3, revision=first)
    with pytest.raises(ConflictError):
        engine.delete("k", revision=first)
    with pytest.raises(ConflictError), engine.batch() as batch:
        engine["other"] = 1
        batch.expecting("k", first)
    assert engine["k"] == 2 and "other" not in engine and engine.revision() == second
    assert engine.delete("k", revision=second) == second + 1
    engine.create("k", 4)


def test_compare_and_set_from_several_threads_loses_nothing(engine):
    engine["n"] = 0

    def count():
        done = 0
        while done < 200:
            revision = engine.revision("n")
            value = engine["n"]
            try:
                engine.put("n", value + 1, revision=revision)
                done += 1
            except ConflictError:
                pass

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine["n"] == 800


def test_a_time_to_live(engine, observer):
    changes = []
    observer.observe("engine", None, changes.append)
    engine["soon"] = 0
    until(lambda: changes, "a key that was never seen is not missed")
    engine.put("late", 1, ttl=60)
    engine.put("soon", 1, ttl=0.05)
    engine.put("kept", 1, ttl=0.05)
    engine["kept"] = 2
    until(lambda: [(change.key, change.reason) for change in changes if change.kind == "deletion"] == [("soon", "expired")])
    assert set(engine.keys()) == {"late", "kept"} and observer.snapshot("engine") == {"late": 1, "kept": 2}
    with pytest.raises(UnknownKeyError):
        observer.get("engine", "soon")
    for ttl in (-1, 5e6):
        with pytest.raises(LimitError, match="time to live"):
            engine.put("k", 1, ttl=ttl)
    engine["soon"] = 2
    until(lambda: changes[-1].new == 2)
    engine.put("soon", 3, ttl=0.01)
    until(lambda: changes[-1].reason == "expired")


def test_an_expired_value_is_not_read_even_if_nobody_deletes_it(place):
    place.controller()
    peer = place.peer()
    peer.do("publish", "engine")
    peer.do("put", "engine", "k", 1, {"ttl": 0.2})
    peer.do("put", "engine", "stays", 1, {"ttl": 60})
    with kvoshim.Observer() as observer:
        assert observer.keys("engine")[-1] == "stays"
        peer.kill()
        until(lambda: observer.get("engine", "k", None) is None)
        assert observer.snapshot("engine") == {"stays": 1}
    with kvoshim.Observable("engine") as successor:
        assert successor.keys() == ["stays"]


def test_the_time_to_live_goes_on_under_a_successor(place):
    place.controller()
    with kvoshim.Observable("box") as box:
        box.put("k", 1, ttl=1.0)
    with kvoshim.Observable("box") as box, kvoshim.Observer() as observer:
        changes = []
        observer.observe("box", "k", changes.append)
        until(lambda: changes and changes[-1].reason == "expired")


def test_dependent_keys(engine, observer):
    engine.update(torque=10, rpm=100)
    engine.compute("power", ["torque", "rpm"], lambda torque, rpm: torque * rpm)
    engine.compute("label", ["power"], lambda power: f"{power} W")
    assert engine["power"] == 1000 and engine["label"] == "1000 W"
    changes = []
    observer.observe("engine", None, changes.append, options="new")
    revision = engine.set("torque", 20)
    until(lambda: len(changes) == 3)
    assert [(change.key, change.new, change.revision) for change in changes] == [
        ("torque", 20, revision), ("power", 2000, revision), ("label", "2000 W", revision)]
    engine["unrelated"] = 1
    until(lambda: len(changes) == 4)
    with engine.batch():
        engine["torque"] = 1
        engine["rpm"] = 1
    until(lambda: len(changes) == 8)
    assert engine["label"] == "1 W"
    del engine["rpm"]
    assert "power" not in engine and "label" not in engine
    engine["rpm"] = 7
    assert engine["label"] == "7 W"
    with pytest.raises(ValueError, match="itself"):
        engine.compute("torque", ["label"], len)
    with pytest.raises(ZeroDivisionError):
        engine.compute("inverse", ["rpm"], lambda rpm: 1 / rpm)
        engine["rpm"] = 0
    assert engine["rpm"] == 7 and engine["label"] == "7 W", "a failing computation leaves all as it was"


def test_closed_observables_refuse_everything(place):
    place.controller()
    engine = kvoshim.Observable("engine")
    engine["k"] = 1
    engine.put("t", 1, ttl=60)
    engine.close()
    for call in (
        lambda: engine.put("k", 1), lambda: engine.update(k=1), lambda: engine.delete("k"), lambda: engine.create("k", 1),
        engine.revision, lambda: engine.batch().__enter__(), lambda: "k" in engine,
    ):
        with pytest.raises(ClosedError):
            call()
    engine.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "kvoshim-expiry"]
