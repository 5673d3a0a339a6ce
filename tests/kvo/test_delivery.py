"""The delivery contract of docs/kvo.md, a test for each of its fourteen points."""

import os
import signal
import threading
import time

import pytest
from kvo_harness import until

import kvoshim
from kvoshim.errors import ReadContentionError
from kvoshim.kvo.change import VALUED


@pytest.fixture(params=["direct", "controller"], autouse=True)
def delivery(request, monkeypatch):
    """Each test in both ways."""
    usual = kvoshim.Observer.observe.__kwdefaults__
    monkeypatch.setattr(kvoshim.Observer.observe, "__kwdefaults__", {**usual, "delivery": request.param})
    return request.param


@pytest.fixture
def engine(place):
    place.controller()
    with kvoshim.Observable("engine", history=1 << 16) as observable:
        yield observable


@pytest.fixture
def observer(engine, delivery):
    with kvoshim.Observer() as observer:
        # The first observation of an observable is told of by the controller until the observable has the bell.
        token = observer.observe("engine", "settled", lambda change: None)
        until(lambda: token.delivery == delivery)
        token.close()
        yield observer


class Slow:
    """A callback that is held up until go() is called; collects changes."""

    def __init__(self):
        self.changes, self.running, self._go = [], threading.Event(), threading.Event()

    def __call__(self, change):
        self.changes.append(change)
        self.running.set()
        assert self._go.wait(60)

    def go(self):
        self._go.set()

    def valued(self):
        return [change for change in self.changes if change.kind in VALUED]


def told(changes):
    return [(change.key, change.kind, change.new, change.revision) for change in list(changes)]


@pytest.mark.parametrize("mode", ["latest", "every"])
def test_point_01_the_final_value_is_never_lost(engine, observer, mode):
    seen = {}
    one, many = Slow(), lambda change: seen.__setitem__(change.key, change.new)
    observer.observe("engine", "k7", one, mode=mode)
    observer.observe("engine", None, many, mode=mode)
    engine["k7"] = "begin"
    assert one.running.wait(30)
    for turn in range(300):
        for number in range(20):
            engine[f"k{number}"] = turn * 20 + number  # more than the journal has room for
    one.go()
    until(lambda: seen == {f"k{number}": 299 * 20 + number for number in range(20)})
    until(lambda: one.changes[-1].new == 299 * 20 + 7)


@pytest.mark.parametrize("mode", ["latest", "every"])
def test_point_02_the_revisions_of_a_key_rise_strictly(engine, observer, mode):
    changes = []
    observer.observe("engine", None, changes.append, mode=mode)

    def write(key):
        for number in range(1500):
            engine.set(key, number) if number % 10 else engine.update({key: number, "both": key})

    threads = [threading.Thread(target=write, args=(key,)) for key in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: {key: value for key, _, value, _ in told(changes)}.items() >= {"a": 1499, "b": 1499, "c": 1499}.items())
    for key in ("a", "b", "c", "both"):
        revisions = [change.revision for change in changes if change.key == key]
        assert revisions == sorted(set(revisions))
    if mode == "every":
        revisions = [change.revision for change in changes]
        assert revisions == sorted(revisions), "every: over all keys"


@pytest.mark.parametrize("mode", ["latest", "every"])
def test_point_03_a_transaction_is_one_revision_and_one_batch(engine, observer, mode):
    changes = []
    observer.observe("engine", None, changes.append, mode=mode)
    revision = engine.update(a=1, b=2, c=3)
    until(lambda: len(changes) == 3)
    assert [(change.key, change.new, change.revision, change.more) for change in changes] == [
        ("a", 1, revision, True), ("b", 2, revision, True), ("c", 3, revision, False)]
    with engine.batch() as batch:
        engine["a"] = 10
        engine["d"] = 4
        del engine["b"]
        assert engine["a"] == 10 and "b" not in engine and observer.get("engine", "b") == 2, "only the thread itself sees it"
    until(lambda: len(changes) == 6)
    assert {change.revision for change in changes[3:]} == {batch.revision}
    assert [change.more for change in changes[3:]] == [True, True, False]
    assert observer.snapshot("engine") == {"a": 10, "c": 3, "d": 4}
    engine.update(a=11, c=3, d=4)  # the last ones are no news
    until(lambda: len(changes) == 7)
    assert changes[6].key == "a" and not changes[6].more


@pytest.mark.parametrize("mode", ["latest", "every"])
def test_point_04_the_snapshot_then_its_end_then_what_follows(engine, observer, mode):
    engine.update({f"k{number}": -1 for number in range(50)})
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            engine[f"k{number % 50}"] = number

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            changes = []
            token = observer.observe("engine", "k*", changes.append, options="new|initial|synced", mode=mode)
            until(lambda: len(changes) > 200)
            token.close()
            assert token.synced
            kinds = [change.kind for change in changes]
            end = kinds.index("synced")
            assert kinds[:end] == ["initial"] * 50 and "initial" not in kinds[end:] and kinds.count("synced") == 1
            assert all(change.revision <= changes[end].revision for change in changes[:end])
            assert all(change.revision > changes[end].revision for change in changes[end + 1 :])
    finally:
        stop.set()
        thread.join()
    empty = []
    assert observer.observe("engine", "nothing.*", empty.append, options="new|initial|synced", mode=mode).wait_synced(30)
    until(lambda: [change.kind for change in empty] == ["synced"])
    assert observer.observe("not there yet", "k", empty.append, options="synced|initial").wait_synced(30)


@pytest.mark.parametrize("mode", ["latest", "every"])
def test_point_05_resuming_from_a_revision_or_being_told_that_it_is_gone(engine, observer, mode):
    first = []
    token = observer.observe("engine", None, first.append, mode=mode)
    engine["a"] = 1
    engine["b"] = 1
    until(lambda: len(first) == 2)
    mark = token.revision
    token.close()
    engine["a"] = 2
    engine["a"] = 3
    engine.delete("b")
    resumed = []
    observer.observe("engine", None, resumed.append, options="new|synced", mode=mode, since=mark)
    until(lambda: resumed and resumed[-1].kind == "synced")
    expected = [("a", "setting", 3, 4), ("b", "deletion", None, 5)]
    if mode == "every":
        expected.insert(0, ("a", "setting", 2, 3))
    assert told(resumed)[:-1] == expected
    engine["a"] = 4
    until(lambda: told(resumed)[-1] == ("a", "setting", 4, 6))
    # What is no longer known, or never was.
    for number in range(2000):
        engine["filler"] = number
    for since in ([mark] if mode == "every" else []) + [10**9]:
        again = []
        observer.observe("engine", "a", again.append, options="new|synced", mode=mode, since=since)
        until(lambda: again and again[-1].kind == "synced")
        assert [change.kind for change in again] == ["compacted", "initial", "synced"] and again[1].new == 4
        if mode == "every":
            assert again[0].revision > mark
            from_there = []
            observer.observe("engine", None, from_there.append, options="new|synced", mode=mode, since=again[0].revision)
            until(lambda: from_there and from_there[-1].kind == "synced")
            assert from_there[0].kind == "setting" and not any(change.missed for change in from_there)


def test_point_06_what_every_skips_is_counted_and_what_latest_merges_too(engine, observer):
    slow, merging = Slow(), []
    observer.observe("engine", "k", slow, mode="every")
    engine["k"] = 0
    assert slow.running.wait(30)
    written = 3000
    for number in range(1, written):
        engine["k"] = number
    slow.go()
    until(lambda: slow.valued()[-1].new == written - 1)
    assert any(change.missed for change in slow.changes), "the journal has room for fewer"
    assert sum(1 + change.missed for change in slow.valued()) == written and not any(change.merged for change in slow.changes)
    values = [change.new for change in slow.valued()]
    assert values == sorted(values) and len(values) > 300, "what the journal has is delivered"
    slow, merging = Slow(), []
    observer.observe("engine", "m", slow)
    observer.observe("engine", "m", merging.append)
    engine["m"] = 0
    assert slow.running.wait(30)
    for number in range(1, written):
        engine["m"] = number
    slow.go()
    for changes in (slow.changes, merging):
        until(lambda: changes[-1].new == written - 1)
        assert sum(1 + change.merged for change in changes) == written and not any(change.missed for change in changes)
    assert len(slow.changes) < 20


def test_point_06_everything_is_delivered_as_long_as_there_is_room(engine, observer):
    changes = []
    observer.observe("engine", None, changes.append, mode="every")
    for number in range(100):
        engine["k"] = number
    until(lambda: len(changes) == 100)
    assert [(change.new, change.missed) for change in changes] == [(number, 0) for number in range(100)]


def test_point_07_the_links_state(place):
    controller = place.controller()
    with kvoshim.Observer(autostart=False) as observer:
        token = observer.observe("engine", "rpm", lambda change: None)
        assert token.state == "initialising" and token.is_alive()
        engine = kvoshim.Observable("engine", autostart=False)
        engine["rpm"] = 1
        until(lambda: token.state == "valid" and token.is_alive())
        controller.kill()
        controller.wait()
        until(lambda: token.state == "suspect" and not token.is_alive())
        place.controller()
        until(lambda: token.state == "valid" and token.is_alive(), "registered again by itself")
        engine.close()
        until(lambda: token.state == "gone")
        token.close()
        assert token.state == "closed" and not token.is_alive()


def test_point_08_a_deletion_says_why(place):
    place.controller()
    peer = place.peer()
    peer.do("publish", "engine")
    with kvoshim.Observer() as observer:
        changes = []
        observer.observe("engine", None, changes.append)
        for key in ("deleted", "purged", "expired", "owner-died", "stays"):
            peer.do("put", "engine", key, key, {"ephemeral": key == "owner-died"})
        until(lambda: len(changes) == 5, "a key that was never seen is not missed")
        peer.do("put", "engine", "expired", "soon", {"ttl": 0.05})
        peer.do("delete", "engine", "deleted")
        peer.do("delete", "engine", "purged", {"purge": True})
        until(lambda: "expired" in [change.reason for change in changes])
        peer.kill()
        until(lambda: changes[-1].kind == "gone")
        gone = {change.key: change.reason for change in changes if change.kind == "deletion"}
        assert gone == {"deleted": "deleted", "purged": "purged", "expired": "expired", "owner-died": "owner-died"}
        assert observer.snapshot("engine") == {"stays": "stays"}
        assert [observer.get("engine", key, None) for key in gone] == [None] * 4
        with kvoshim.Observable("engine") as successor:
            assert successor.keys() == ["stays"]
        revisions = [change.revision for change in changes if change.key == "owner-died"]
        assert revisions == sorted(set(revisions)) and len(revisions) == 2


def test_point_09_progress_is_visible_while_nothing_happens(engine, observer):
    changes = []
    for mode in ("latest", "every"):
        token = observer.observe("engine", "rare.*", changes.append, mode=mode)
        assert token.wait_synced(30)
        for number in range(100):
            engine["frequent"] = number
        until(lambda: token.revision == engine.revision())
        engine["rare.one"] = 1
        until(lambda: changes)
        until(lambda: token.revision == engine.revision())
        assert token.idle >= 0
        token.close()
        changes.clear()


@pytest.mark.parametrize("mode", ["latest", "every"])
def test_point_10_a_write_that_changes_nothing_is_told_of_only_if_asked(engine, observer, mode):
    ordinary, asked = [], []
    observer.observe("engine", "k", ordinary.append, mode=mode)
    observer.observe("engine", "k", asked.append, options="new|unchanged", mode=mode)
    for value in ("x" * 500, "x" * 500, 2, 2, 2, 2.0, True, True):
        before = len(asked)
        engine["k"] = value
        until(lambda: len(asked) == before + 1)
    until(lambda: ordinary[-1].new is True)
    assert [change.new for change in ordinary] == ["x" * 500, 2, 2.0, True]
    assert engine.revision("k") == 8, "they count as revisions"


@pytest.mark.parametrize("mode", ["latest", "every"])
def test_point_11_ones_own_writes_are_left_out_if_asked(place, engine, observer, mode):
    peer = place.peer()
    peer.do("publish", "other")
    mine, others, both = [], [], []
    observer.observe("engine", "k", mine.append, own=False, mode=mode)
    observer.observe("engine", "k", both.append, mode=mode)
    observer.observe("other", "k", others.append, own=False, mode=mode)
    engine["k"] = 1
    until(lambda: both)
    engine.delete("k")
    peer.do("set", "other", "k", 2)
    until(lambda: both and both[-1].kind == "deletion" and others)
    assert told(others) == [("k", "setting", 2, 1)] and not mine


def test_point_12_no_callback_after_close(engine, observer):
    for _ in range(20):
        running, changes, tokens = threading.Event(), [], []

        def callback(change):
            changes.append(change)
            running.set()
            time.sleep(0.002)

        tokens = [observer.observe("engine", None, callback, mode=mode) for mode in ("latest", "every")]
        writer = threading.Thread(target=lambda: [engine.set(f"k{number % 7}", number) for number in range(500)])
        writer.start()
        assert running.wait(30)
        for token in tokens:
            token.close()
        delivered = len(changes)
        writer.join()
        engine["last"] = 1
        assert observer.observables(), "the controller has answered: what it said before has arrived"
        assert len(changes) == delivered


def test_point_13_a_callbacks_exception_is_contained(engine, observer, caplog):
    good = []

    def bad(change):
        raise SystemExit("out of here")

    for mode in ("latest", "every"):
        observer.observe("engine", "k", bad, mode=mode)
    observer.observe("engine", "k", good.append)
    for value in (1, 2):
        engine["k"] = value
        until(lambda: good and good[-1].new == value)
    until(lambda: caplog.text.count("out of here") >= 4)


def test_point_14_every_observation_says_whether_it_is_alive(place):
    place.controller()
    observer = kvoshim.Observer(autostart=False)
    tokens = [
        observer.observe("engine", key, lambda change: None, mode=mode)
        for key in (None, "k", "a.b") for mode in ("latest", "every")
    ]
    assert all(token.is_alive() for token in tokens)
    with kvoshim.Observable("engine") as engine:
        for turn in range(2):
            engine.update({"k": turn, "a.b": turn})
            until(lambda: min(token.idle for token in tokens) > 0.05, "nothing is looked at while nothing happens")
            before = [time.monotonic() - token.idle for token in tokens]
            engine.update({"k": -turn - 1, "a.b": -turn - 1})
            until(lambda before=before: all(time.monotonic() - token.idle > then + 0.01
                                            for token, then in zip(tokens, before, strict=True)), "each has looked since")
    observer.close()
    assert not any(token.is_alive() for token in tokens)


def test_a_hung_controller_is_visible_and_nothing_is_lost_when_it_goes_on(place):
    controller = place.controller()
    with kvoshim.Observable("engine") as engine, kvoshim.Observer() as observer:
        changes = []
        observer.observe("engine", "k", changes.append, mode="every")
        os.kill(controller.pid, signal.SIGSTOP)
        for number in range(50):
            engine["k"] = number
        os.kill(controller.pid, signal.SIGCONT)
        until(lambda: [change.new for change in changes] == list(range(50)))


def test_a_snapshot_that_could_not_be_read_comes_with_the_next_attempt(engine, observer):
    """As if the writer had been too quick for each attempt to read all keys as of one moment."""

    class Hasty:
        def __init__(self, reader):
            self._reader, self.refused, self.hasty = reader, 0, True

        def __getattr__(self, name):
            return getattr(self._reader, name)

        def newer(self, *arguments):
            if self.hasty:
                self.refused += 1
                raise ReadContentionError("too quick")
            return self._reader.newer(*arguments)

    engine.update(a=1, b=2)
    assert observer.get("engine", "a") == 1
    handle = observer._client.handles["engine"]
    handle.reader = Hasty(handle.reader)
    changes = []
    token = observer.observe("engine", None, changes.append, options="new|initial|synced")
    until(lambda: handle.reader.refused)
    assert not token.synced
    handle.reader.hasty = False
    for number in range(10):
        engine["c"] = number
        if token.wait_synced(0.2):
            break
    until(lambda: changes[-1].new == number or token.revision >= engine.revision())
    kinds = [change.kind for change in changes]
    assert kinds[: kinds.index("synced")] == ["initial"] * 3 and "error" not in kinds
