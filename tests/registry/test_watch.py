"""Continuous searches: what is there, an end marker, then what changes."""

import asyncio
import os
import select
import threading

import pytest
from registry_harness import until

from kvoshim import registry
from kvoshim.errors import InvalidEntryError
from kvoshim.registry import aio
from kvoshim.registry.client import pool


def kinds(events):
    return [(event.kind, event.entry.name if event.entry else None) for event in events]


def test_a_search_begins_with_the_present_set_and_an_end_marker(stage):
    with registry.register("engine"), registry.register("engines"), registry.register("other"):
        with registry.watch("engine*") as search:
            events = [search.get(30) for _ in range(3)]
        assert kinds(events) == [("present", "engine"), ("present", "engines"), ("end", None)]


def test_an_empty_present_set_has_an_end_marker_too(stage):
    with registry.watch("engine") as search:
        assert search.get(30).kind == "end"
        with pytest.raises(TimeoutError):
            search.get(0)


def test_what_comes_changes_and_goes_is_told_in_order(stage):
    peer = stage.peer()
    with registry.watch("engine") as search:
        assert search.get(30).kind == "end"
        peer.do("register", "other", {})
        peer.do("register", "engine", {"address": "/a"})
        added = search.get(30)
        assert (added.kind, added.entry.address, added.entry.pid) == ("added", "/a", peer.pid)
        peer.do("update", "engine", {"address": "/b"})
        changed = search.get(30)
        assert (changed.kind, changed.entry.address, changed.before) == ("changed", "/b", added.entry)
        peer.do("close", "engine")
        removed = search.get(30)
        assert (removed.kind, removed.entry) == ("removed", changed.entry)


def test_a_new_owner_is_a_change(stage):
    peer = stage.peer()
    with registry.register("engine", allow_replacement=True), registry.watch("engine") as search:
        assert kinds([search.get(30), search.get(30)]) == [("present", "engine"), ("end", None)]
        theirs = peer.do("register", "engine", {"replace": True})
        events = [search.get(30), search.get(30)]
        assert {(event.kind, event.entry.pid, event.entry.owner) for event in events} == {
            ("changed", os.getpid(), False), ("added", peer.pid, True)}  # fmt: skip
        assert max(event.entry.token for event in events) == theirs["token"]


def test_a_callback_gets_every_event_on_the_clients_thread(stage):
    events, threads = [], set()

    def told(event):
        events.append(event)
        threads.add(threading.current_thread().name)
        if event.kind == "added":  # a callback may use the registry
            assert registry.find(event.entry.name) == [event.entry]

    with registry.watch("engine", told):
        until(lambda: kinds(events) == [("end", None)])
        with registry.register("engine"):
            until(lambda: len(events) == 2)
        until(lambda: len(events) == 3)
    assert kinds(events) == [("end", None), ("added", "engine"), ("removed", "engine")]
    assert threads == {"kvoshim-registry"}


def test_a_callback_that_fails_does_no_harm(stage):
    events = []

    def told(event):
        events.append(event)
        raise ValueError("a bug")

    with registry.watch("*", told), registry.register("engine"):
        until(lambda: len(events) == 2)


def test_a_loop_over_a_search_ends_when_it_is_closed(stage):
    search = registry.watch("engine")
    events = []
    thread = threading.Thread(target=lambda: events.extend(search))
    thread.start()
    until(lambda: events)
    search.close()
    thread.join(30)
    assert not thread.is_alive() and kinds(events) == [("end", None)]
    assert list(search) == []


def test_a_descriptor_says_when_there_is_something(stage):
    peer = stage.peer()
    with registry.watch("engine") as search:
        poll = select.poll()
        poll.register(search.fileno(), select.POLLIN)
        assert poll.poll(30000)
        assert search.get(0).kind == "end"
        with pytest.raises(TimeoutError):
            search.get(0)
        assert not poll.poll(0)
        peer.do("register", "engine", {})
        assert poll.poll(30000)
        assert search.get(0).kind == "added"


def test_coroutines_iterate_and_nobody_needs_a_thread(stage):
    peer = stage.peer()

    async def program():
        seen = []
        async with asyncio.timeout(60):
            mine = await aio.register("mine", address="/m")
            assert await aio.find("mine") == [mine.entry] and await aio.owner("mine") == mine.entry
            async with asyncio.TaskGroup() as group:
                with await aio.watch("*") as search:

                    async def follow():
                        async for event in search:
                            seen.append((event.kind, event.entry.name if event.entry else None))

                    group.create_task(follow())
                    while len(seen) < 2:
                        await asyncio.sleep(0.001)
                    assert [thread.name for thread in threading.enumerate() if "kvoshim" in thread.name] == []
                    peer.tell("register", "engine", {})
                    while len(seen) < 3:
                        await asyncio.sleep(0.001)
            assert await aio.ping(mine.entry) > 0
            mine.close()
            assert await aio.find("mine") == []
        pool.close()
        return seen

    assert asyncio.run(program()) == [("present", "mine"), ("end", None), ("added", "engine")]
    peer.answer()


def test_what_is_not_taken_does_not_pile_up(stage):
    """Of one entry at most one event waits, and it tells the whole."""
    peer = stage.peer()
    peer.do("register", "steady", {})
    with registry.watch("*") as search:
        for number in range(200):
            peer.do("register", "brief", {})
            peer.do("update", "steady", {"address": f"/{number}"})
            peer.do("close", "brief")
        peer.do("register", "last", {})
        until(lambda: registry.find("last"))
        events = []
        while not events or events[-1].entry is None or events[-1].entry.name != "last":
            events.append(search.get(30))
        assert kinds(events) == [("present", "steady"), ("end", None), ("added", "last")]
        assert events[0].entry.address == "/199"


def test_many_searches_of_one_process(stage):
    searches = [registry.watch(f"n{number}*") for number in range(200)]
    with registry.register("n17"):
        for number, search in enumerate(searches):
            assert search.get(30).kind == "end"
            if "n17".startswith(f"n{number}"):
                assert search.get(30).kind == "added"
    for search in searches:
        search.close()


def test_patterns_that_cannot_be(stage):
    for bad in ("", "a\nb", "x" * 256, 7):
        with pytest.raises(InvalidEntryError):
            registry.watch(bad)
