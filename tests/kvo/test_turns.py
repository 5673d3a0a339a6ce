"""The controller's looks at a store are cut into turns: whatever one observable writes, everybody else is served in between."""

import itertools
import os
import random
import socket as kernel

import pytest
from kvo_harness import until
from kvoshim._monitor import Monitor
from kvoshim._store import Writer
from kvoshim._table import Table, TableWriter

import kvoshim
from kvoshim import identity
from kvoshim.kvo import wire
from kvoshim.kvo.controller import monitoring
from kvoshim.kvo.controller import session as sessions
from kvoshim.kvo.controller.catalog import Catalog
from kvoshim.kvo.controller.quota import Account, Limits
from kvoshim.kvo.controller.session import Session
from kvoshim.process.access import Caller

MOST = 65536  # keys of one observable


class Scene:
    """A controller's catalog, and what its clients would have to do with it. No process, no loop: turns are taken by hand."""

    def __init__(self):
        self.table = TableWriter(bytes(16), 8, 64)
        self.catalog = Catalog(self.table, Limits())
        self.account = Account(os.getuid(), True)
        self.writers = []
        self.sessions = []
        self.numbers = itertools.count(1)

    def session(self):
        ours, theirs = kernel.socketpair()
        caller = Caller(os.getpid(), os.getuid(), frozenset())
        session = Session(ours, next(self.numbers), self.catalog.changed, caller, self.account)
        self.sessions.append((session, theirs))
        return session

    def publish(self, name, keys, **options):
        """The owner's side of a store whose keys have values, and its entry in the catalog."""
        writer = Writer(name, start=identity.start_time(os.getpid()), capacity=1 << 20, history=0, **options)
        self.writers.append(writer)
        for key in keys:
            writer.set(key, 0)
        owner = self.session()
        self.catalog.claim(owner, name, writer.instance)
        store, moving = self.catalog.publish(owner, name, os.dup(writer.fd))
        self.catalog.move_in(store, moving)
        writer.attach(Table(self.table.fd), store.number, lambda: None)
        return writer, store

    def observe(self, name, key=None):
        """A client that observes; what it would be told of piles up in `pending`."""
        session = self.session()
        self.catalog.register(session, wire.Observe(1, next(self.numbers), name, key, True, 0, b"", 0), name)
        self.settle()
        session.pending.clear()
        return session

    def settle(self):
        """Takes turns until there is nothing more to be taken in; returns how many."""
        turns = 0
        while self.catalog.look_all():
            turns += 1
        assert not self.catalog.waiting()
        return turns

    def close(self):
        self.catalog.close()
        for writer in self.writers:
            writer.close()
        for session, other in self.sessions:
            session.close()
            other.close()
        self.writers.clear()
        self.table = self.catalog = None  # the table is freed with its last reference


@pytest.fixture
def scene():
    scene = Scene()
    yield scene
    scene.close()


@pytest.fixture
def roomy(monkeypatch):
    """What a client is to be told piles up to be counted: nobody sends it."""
    monkeypatch.setattr(sessions, "_PENDING_MAX", 1 << 20)


def received(session, client):
    """The messages that a client has been sent when there is nothing more to be sent."""
    client.setsockopt(kernel.SOL_SOCKET, kernel.SO_RCVBUF, 1 << 22)
    session.sock.setsockopt(kernel.SOL_SOCKET, kernel.SO_SNDBUF, 1 << 22)
    session.sock.setblocking(False)
    frames, messages = wire.PROTOCOL.of_daemon(), []
    while True:
        assert session.flush() is False
        client.setblocking(False)
        try:
            messages += frames.feed(client.recv(1 << 22))
        except BlockingIOError:
            return messages


def told(session):
    """slot -> count of writes."""
    return {slot: version for (_, slot), version in session.pending.items()}


def test_an_overrun_of_many_keys_leaves_others_their_turns(scene, roomy):
    keys = [f"k{number}" for number in range(MOST)]
    many, store = scene.publish("many", keys, max_keys=MOST, ring=8)
    few, _ = scene.publish("few", ["n"])
    all_of_many, other = scene.observe("many"), scene.observe("few", "n")
    for key in keys:
        many.set(key, 1)
    turns = 0
    while scene.catalog.waiting():
        turns += 1
        few.set("n", turns)
        assert scene.catalog.look_all()
        assert list(told(other).values()) == [few.read("n").count], "told in the same turn"
        other.pending.clear()
    assert turns > 3, "the look at many keys took several turns"
    assert told(all_of_many) == {slot: 2 for slot in range(MOST)}
    assert not store.behind


def test_a_ring_that_runs_over_for_ever_holds_up_nobody_and_loses_nothing(scene):
    keys = [f"k{number}" for number in range(5000)]
    wild, _ = scene.publish("wild", keys, max_keys=5000, ring=8)
    few, _ = scene.publish("few", ["n"])
    all_of_wild, one_of_wild, other = scene.observe("wild"), scene.observe("wild", "k4999"), scene.observe("few", "n")
    dice = random.Random(5)
    for turn in range(1000):
        for key in dice.sample(keys, 20):
            wild.set(key, turn)
        few.set("n", turn)
        scene.catalog.look_all()
        assert list(told(other).values()) == [few.read("n").count]
        other.pending.clear()
    wild.set("k4999", "last")
    scene.settle()
    written = {slot: wild.read(key).count for slot, key in enumerate(keys) if wild.read(key).count > 1}
    assert told(all_of_wild) == written
    assert told(one_of_wild) == {4999: written[4999]}


def test_a_turn_that_had_no_time_tells_of_a_change_all_the_same(scene, monkeypatch):
    """As if others had the CPU just then."""
    writer, store = scene.publish("name", ["n"])
    session = scene.observe("name", "n")
    monkeypatch.setattr(monitoring, "_TURN_S", 0)
    writer.set("n", 1)
    assert scene.catalog.look_all() and told(session) == {0: 2} and not store.behind


def test_stores_that_are_behind_go_on_in_turn(scene, roomy):
    keys = [f"k{number}" for number in range(30_000)]
    stores = [scene.publish(name, keys, max_keys=30_000, ring=8) for name in ("a", "b", "c")]
    observers = [scene.observe(name) for name in ("a", "b", "c")]
    for writer, _ in stores:
        for key in keys:
            writer.set(key, 1)
    scene.catalog.look_all()
    assert all(store.behind for _, store in stores)
    before = [len(observer.pending) for observer in observers]
    for _ in stores:
        scene.catalog.look_all()
    assert all(len(observer.pending) > count for observer, count in zip(observers, before, strict=True)), "each had its turn"
    scene.settle()
    assert [len(observer.pending) for observer in observers] == [30_000] * 3


def test_who_comes_later_takes_no_news_from_those_who_are_here(scene):
    """An observer of all keys, or of one, begins while changes for another one lie in the ring."""
    writer, _ = scene.publish("name", ["a", "b"])
    first = scene.observe("name", "a")
    writer.set("a", 1)
    scene.catalog.register(scene.session(), wire.Observe(1, 1, "name", None, True, 0, b"", 0), "name")
    scene.settle()
    assert told(first) == {0: 2}
    everything = scene.observe("name")
    writer.set("b", 1)
    scene.catalog.register(scene.session(), wire.Observe(1, 1, "name", "b", True, 0, b"", 0), "name")
    scene.settle()
    assert told(everything) == {1: 2}


def test_a_key_that_is_awaited_is_found_among_many(scene):
    writer, _ = scene.publish("name", [f"k{number}" for number in range(100)], ring=8)
    session = scene.observe("name", "later")
    for number in range(100):
        writer.set(f"k{number}", 1)
    assert not scene.catalog.waiting(), "nobody observes these"
    writer.set("later", 1)
    scene.settle()
    assert told(session) == {100: 1}
    writer.set("later", 2)
    scene.settle()
    assert told(session) == {100: 2}


def test_a_key_that_has_moved_to_another_slot_is_found_there(scene):
    writer, store = scene.publish("name", ["a", "b"], max_keys=2)
    session = scene.observe("name", "a")
    writer.remove("a")
    writer.set("c", 1)  # takes its slot
    writer.remove("b")
    writer.set("a", 1)
    scene.settle()
    session.pending.clear()
    writer.set("a", 2)
    writer.set("c", 2)
    scene.settle()
    assert told(session) == {1: store.monitor.slot_version(1)}


def test_an_owner_whose_keys_keep_moving_has_turns_like_all_others(scene, roomy):
    keys = [f"k{number}" for number in range(MOST)]
    moving, store = scene.publish("moving", keys, max_keys=MOST)
    few, _ = scene.publish("few", ["n"])
    other, late, pattern = scene.observe("few", "n"), scene.session(), scene.session()
    scene.catalog.register(late, wire.Observe(1, 1, "moving", "k1.late", True, 0, b"", 0), "moving")
    scene.catalog.register(pattern, wire.Observe(1, 1, "moving", None, True, 0, b"", 0, "*.late"), "moving")
    for turn in range(50):
        assert store.behind, "its keys are not all looked for in one turn"
        for number in range(1000 * turn, 1000 * turn + 1000):
            moving.remove(f"k{number}")
            moving.set(f"k{number}.{'late' if number == 1 else 'moved'}", 1)
        few.set("n", turn)
        assert scene.catalog.look_all()
        assert list(told(other).values()) == [few.read("n").count], "told in the same turn"
        other.pending.clear()
    scene.settle()
    slot = store.monitor.slot_of("k1.late")
    assert slot in told(late) and slot in told(pattern)
    late.pending.clear()
    pattern.pending.clear()
    moving.set("k1.late", 2)
    moving.set("k2.moved", 2)
    scene.settle()
    assert told(late) == told(pattern) == {slot: store.monitor.slot_version(slot)}


def test_a_monitor_finds_out_which_keys_there_are_as_far_as_it_is_asked():
    writer = Writer("store", capacity=1 << 16, history=0, max_keys=100)
    monitor = Monitor(writer.fd)
    try:
        for number in range(100):
            writer.set(f"k{number}", 0)
        assert monitor.key_of(3) == "k3" and monitor.slot_of("k3") == 3 and monitor.slot_of("k5") == -1
        assert monitor.key_of(100) is None and monitor.discovering()
        parts = [monitor.discover(30) for _ in range(4)]
        assert max(map(len, parts)) <= 30 and sum(map(len, parts)) == 99
        assert {slot for part in parts for slot in part} == set(range(100)) - {3} and not monitor.discovering()
        assert monitor.discover(30) == [] and monitor.slot_of("k5") == 5
        for number in range(100):
            writer.remove(f"k{number}")
            writer.set(f"j{number}", 0)
        slot = 7
        key = monitor.key_of(slot)
        assert key.startswith("j") and monitor.slot_of(key) == slot
        assert sum(monitor.slot_of(f"j{number}") >= 0 for number in range(100)) == 1, "no other slot was looked at"
        assert all(monitor.slot_of(f"k{number}") == -1 for number in range(100))
        found = []
        while monitor.discovering():
            part = monitor.discover(9)
            assert len(part) <= 9
            found += part
        assert sorted(found) == [number for number in range(100) if number != slot]
        found = []
        for number in range(100):  # it keeps changing: in one round each is found all the same
            writer.remove(f"j{number}")
            writer.set(f"i{number}", 0)
            found += monitor.discover(1)
        assert monitor.discovering() and set(found) | set(monitor.discover(100)) == set(range(100))
        monitor.rediscover()
        assert sorted(monitor.discover(100)) == list(range(100)) and not monitor.discovering()
    finally:
        writer.close()
        monitor.close()


def test_many_changes_are_sent_in_parts(scene):
    """So one client's thousands of changes do not come before the answers that others wait for."""
    session, client = scene.session(), scene.sessions[-1][1]
    session.pending = {(1, slot): slot + 1 for slot in range(10_000)}
    messages = received(session, client)
    assert [len(message.items) for message in messages] == [4096, 4096, 10_000 - 2 * 4096]
    assert [item for message in messages for item in message.items] == [(1, slot, slot + 1) for slot in range(10_000)]


def test_what_waits_for_a_client_is_bounded_however_often_it_observes_all_keys(scene):
    keys = [f"k{number}" for number in range(2000)]
    many, _ = scene.publish("many", keys, max_keys=2000, ring=8)
    few, _ = scene.publish("few", ["n"])
    session = scene.observe("many")
    _, client = scene.sessions[-1]
    for number in range(100, 140):
        scene.catalog.register(session, wire.Observe(1, number, "many", None, True, 0, b"", 0), "many")
    scene.catalog.register(session, wire.Observe(1, 140, "few", "n", True, 0, b"", 0), "few")
    received(session, client)
    for turn in range(2):
        few.set("n", turn)
        for key in keys:
            many.set(key, turn)
        while scene.catalog.look_all():
            assert len(session.pending) <= sessions._PENDING_MAX
    few.set("n", "last")
    scene.settle()
    messages = received(session, client)
    looked = [message.name for message in messages if isinstance(message, wire.Look)]
    assert looked.count("many") == 1, "it is to compare all of it, once"
    last = any((140, 0, few.read("n").count) in message.items for message in messages if isinstance(message, wire.Notify))
    assert last or "few" in looked
    many.set("k7", "later")
    scene.settle()
    (message,) = received(session, client)
    assert len(message.items) == 41 and {(slot, version) for _, slot, version in message.items} == {(7, many.read("k7").count)}


def test_a_client_that_did_not_read_finds_all_final_values(place):
    place.controller()
    keys = [f"k{number}" for number in range(2000)]
    with kvoshim.Observable("many", max_keys=2000) as many, kvoshim.Observer(thread=False) as observer:
        many.update(dict.fromkeys(keys, 0))
        found = [{} for _ in range(40)]
        for seen in found:
            observer.observe("many", None, lambda change, seen=seen: seen.update({change.key: change.new}), options="new",
                             delivery="controller")
        looks, client = [], observer._client
        refresh = client._refresh_later
        client._refresh_later = lambda name: (looks.append(name), refresh(name))
        for turn in (1, 2):
            for key in keys:
                many[key] = turn
        until(lambda: observer.process(0.1) or all(len(seen) == 2000 and set(seen.values()) == {2} for seen in found))
        assert looks, "so many changes were not kept"


def test_a_whole_store_is_observed_through_the_controller(place):
    place.controller()
    with kvoshim.Observable("many", max_keys=20_000) as many, kvoshim.Observer() as observer:
        many.update({f"k{number}": 0 for number in range(20_000)})
        seen = {}
        observer.observe("many", None, lambda change: seen.update({change.key: change.new}), options="new", delivery="controller")
        for turn in (1, 2):
            for number in range(20_000):
                many[f"k{number}"] = turn
        until(lambda: len(seen) == 20_000 and set(seen.values()) == {2})


def test_what_was_written_and_not_announced_is_known_for_that():
    writer = Writer("store", ring=64, capacity=1 << 16, history=0)
    monitor, table = Monitor(writer.fd), TableWriter(bytes(16), 1, 1)
    try:
        writer.attach(Table(table.fd), 0, lambda: None)
        for number in range(20):
            writer.set(f"k{number}", 0)
        monitor.name_all(True)
        monitor.changes(100)
        writer.set("k3", 1)  # nobody observes anything, says the table
        monitor.compare()
        assert monitor.changes(100) == [(3, 2)] and monitor.unannounced() and not monitor.unannounced()
        table.set_flags(0, False, True, False)
        writer.set("k4", 1)
        monitor.compare()
        assert monitor.changes(100) == [(4, 2)] and not monitor.unannounced()
        monitor.compare()
        table.set_flags(0, False, False, False)
        writer.set("k5", 1)
        table.set_flags(0, False, True, False)
        assert monitor.changes(100) == [(5, 2)]
        writer.set("k5", 2)  # announced after it was found
        assert not monitor.unannounced()
        assert monitor.changes(100) == [(5, 3)] and not monitor.unannounced()
    finally:
        del table
        writer.close()
        monitor.close()


def test_the_monitor_tells_of_each_write_once_and_no_more_than_it_is_asked_for():
    writer = Writer("store", ring=64, capacity=1 << 16, history=0)
    monitor, table = Monitor(writer.fd), TableWriter(bytes(16), 1, 1)
    try:
        writer.attach(Table(table.fd), 0, lambda: None)
        table.set_flags(0, False, True, False)
        for number in range(20):
            writer.set(f"k{number}", 0)
        assert monitor.changes(100) == [] and not monitor.waiting(), "nobody observes anything"
        monitor.name_slot(3, True)
        for number in range(20):
            writer.set(f"k{number}", 1)
        assert monitor.changes(100) == [(3, 2)]
        monitor.name_all(True)
        for number in range(20):
            writer.set(f"k{number}", 2)
        assert monitor.changes(8) == [(number, 3) for number in range(8)] and monitor.waiting()
        writer.set("k0", 3)
        assert monitor.changes(100) == [*((number, 3) for number in range(8, 20)), (0, 4)]
        assert monitor.changes(100) == [] and not monitor.waiting()
        monitor.compare()
        assert monitor.waiting() and monitor.comparing()
        assert monitor.changes(100) == [] and not monitor.comparing()
        for _ in range(4):
            for number in range(20):
                writer.set(f"k{number}", 4)
        assert sorted(monitor.changes(15) + monitor.changes(15)) == [(0, 8), *((number, 7) for number in range(1, 20))]
        assert monitor.changes(15) == [] and not monitor.waiting()
        assert monitor.ran_over() and not monitor.ran_over()
        monitor.name_all(False)
        writer.set("k1", 5)
        writer.set("k3", 5)
        assert monitor.changes(15) == [(3, 8)]
    finally:
        del table
        writer.close()
        monitor.close()
