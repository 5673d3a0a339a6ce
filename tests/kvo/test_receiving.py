"""Ways to receive: callback, iterator, coroutine, descriptor; with a thread of ours and without; strongly and weakly."""

import asyncio
import gc
import os
import select
import subprocess
import sys
import threading
import weakref

import pytest
import uvloop
from kvo_harness import WAIT_S, until

import kvoshim
from kvoshim.errors import ClosedError

uvloop.new_event_loop().close()  # from the first one on, the process keeps a pipe


def ours():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("kvoshim")]


# --- one by one, with the thread ---------------------------------------------


@pytest.mark.parametrize("mode", ["latest", "every"])
def test_an_iterator(engine, observer, mode):
    engine["k"] = 0
    with observer.changes("engine", "k", mode=mode) as changes:
        assert next(changes).kind == "initial"
        for number in range(1, 5):
            engine["k"] = number
            assert changes.get(WAIT_S).new == number
        with pytest.raises(TimeoutError):
            changes.get(0.01)
        engine["k"] = 5
        until(lambda: len(changes) == 1)
    assert [change.new for change in changes] == [5], "what waits can still be taken"
    with pytest.raises(ClosedError):
        changes.get()


def test_closing_wakes_whoever_waits(engine, observer):
    changes = observer.changes("engine")
    ended = threading.Event()
    thread = threading.Thread(target=lambda: (list(changes), ended.set()))
    thread.start()
    changes.close()
    assert ended.wait(WAIT_S)
    thread.join()


def test_what_waits_to_be_taken_is_merged_or_bounded(engine, observer):
    with observer.changes("engine", "k*") as latest, observer.changes("engine", "k*", mode="every", limit=10) as every:
        seen = []
        observer.observe("engine", "end", seen.append)
        for number in range(100):
            engine["k1" if number % 4 else "k2"] = number
        engine["end"] = 1
        until(lambda: len(every) == 10 and len(latest) == 2 and seen)
        taken = [latest.get(0), latest.get(0)]
        assert [(change.key, change.new, change.merged) for change in taken] == [("k2", 96, 24), ("k1", 99, 74)]
        taken = [every.get(0) for _ in range(10)]
        assert [change.new for change in taken] == list(range(90, 100))
        assert sum(change.missed + 1 for change in taken) == 100


def test_a_descriptor_that_can_be_selected(engine, observer):
    with observer.changes("engine", "k") as changes:
        fd = changes.fileno()
        assert select.select([fd], [], [], 0)[0] == []
        for number in range(3):
            engine["k"] = number
            assert select.select([fd], [], [], WAIT_S)[0] == [fd]
            assert changes.get(0).new == number
            assert select.select([fd], [], [], 0)[0] == []
        engine["k"] = 9
        until(lambda: len(changes))
        assert select.select([fd], [], [], WAIT_S)[0] and select.select([fd], [], [], 0)[0], "level, not edge"
    with pytest.raises(ClosedError):
        changes.fileno()


def test_wait_for(engine, observer):
    with pytest.raises(TimeoutError, match="'k' of 'engine'"):
        observer.wait_for("engine", "k", timeout=0.01)
    engine["k"] = 1
    assert observer.wait_for("engine", "k") == 1
    thread = threading.Thread(target=lambda: [engine.set("k", number) for number in range(100)])
    thread.start()
    assert observer.wait_for("engine", "k", lambda value: value >= 99, timeout=WAIT_S) == 99
    thread.join()
    with pytest.raises(ZeroDivisionError):
        observer.wait_for("engine", "k", lambda value: 1 / 0, timeout=WAIT_S)
    assert observer.observables()[0]["observers"] == []


# --- weakly ---------------------------------------------


def test_a_weak_observer_ends_with_its_object(engine, observer):
    class Gauge:
        def __init__(self):
            self.values = []

        def changed(self, change):
            self.values.append(change.new)

    gauges = [Gauge(), Gauge()]
    alive = [weakref.ref(gauge) for gauge in gauges]
    observer.observe("engine", "k", gauges[0].changed, weak=True)
    token = observer.observe("engine", "k", gauges[1].changed)
    engine["k"] = 1
    until(lambda: [gauge.values for gauge in gauges] == [[1], [1]])
    gauges.clear()
    gc.collect()
    assert alive[0]() is None and alive[1]() is not None
    engine["k"] = 2
    until(lambda: alive[1]().values == [1, 2])
    until(lambda: len(observer.observables()[0]["observers"]) == 1, "the registration has gone with it")
    token.close()
    gc.collect()
    assert alive[1]() is None, "a closed observation keeps nothing alive"


def test_observing_oneself_leaks_nothing(place):
    place.controller()

    class Owner:
        def __init__(self, number):
            self.own = kvoshim.Observable(f"own{number}")
            self.observer = kvoshim.Observer()
            self.seen = []
            self.token = self.observer.observe(f"own{number}", None, self.changed, weak=True)

        def changed(self, change):
            self.seen.append(change.new)

    gone = []
    for number in range(5):
        owners = [Owner(number)]
        owners[0].own["k"] = number
        until(lambda: owners[0].seen == [number])
        gone.append(weakref.ref(owners.pop()))
    gc.collect()
    until(lambda: not any(ref() for ref in gone))


# --- without a thread ---------------------------------------------


def test_a_program_that_selects_needs_no_thread(place):
    place.controller()
    peer = place.peer()
    peer.do("publish", "engine")
    with kvoshim.Observer(thread=False) as observer:
        assert not ours()
        seen = []
        observer.observe("engine", "k", seen.append)
        poller = select.poll()
        poller.register(observer.fileno(), select.POLLIN)
        for number in range(20):
            peer.do("set", "engine", "k", number)
            while not seen or seen[-1].new != number:
                assert poller.poll(WAIT_S * 1000)
                observer.process()
        while poller.poll(0):
            observer.process()  # nothing is left: no busy loop
        assert [change.new for change in seen] == list(range(20))
        assert observer.wait_for("engine", "k") == 19
        changes = observer.changes("engine", "k")
        assert changes.get(WAIT_S).new == 19
        peer.do("set", "engine", "k", "next")
        assert changes.get(WAIT_S).new == "next"
        assert not ours()


def test_a_program_that_selects_survives_its_controllers_death(place):
    controller = place.controller()
    peer = place.peer()
    peer.do("publish", "engine")
    with kvoshim.Observer(thread=False) as observer:
        seen = []
        observer.observe("engine", "k", seen.append)
        fd = observer.fileno()
        controller.kill()
        controller.wait()
        peer.do("set", "engine", "k", 1)
        until(lambda: (select.select([fd], [], [], 1), observer.process(), seen)[2])
        assert observer.fileno() == fd and observer.connected
        peer.do("set", "engine", "k", 2)
        until(lambda: (observer.process(0.1), seen[-1].new == 2)[1])
        peer.kill()
        until(lambda: (observer.process(0.1), seen[-1].kind == "gone")[1])


_PROGRAM = """
import asyncio, os, sys, threading, time
import kvoshim

async def main():
    def threads():
        return len(os.listdir("/proc/self/task"))

    began = threads()
    with kvoshim.Observer() as observer:
        seen = []
        observer.observe("engine", "k", seen.append)
        async with observer.changes("engine", "k") as changes:
            print("ready", flush=True)
            got = []
            async for change in changes:
                got.append(change.new)
                print(change.new, flush=True)
                if change.new == "last":
                    break
        assert seen[-1].new == "last", seen
        assert threading.active_count() == 1 and threads() == began, (threading.enumerate(), began, threads())
        assert await observer.wait_for_async("engine", "k", lambda value: value == "last") == "last"
        try:
            await observer.wait_for_async("engine", "never", timeout=0.01)
        except TimeoutError:
            print("timeout", flush=True)
        mine = kvoshim.Observable("answer")
        mine["x"] = 1
        assert threads() == began
        mine.close()
    assert threads() == began

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_program_with_an_event_loop_observes_without_a_thread(place, loop):
    controller = place.controller()
    with kvoshim.Observable("engine") as engine:
        command = [sys.executable, "-P", "-c", _PROGRAM, loop]
        program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=place.environment)
        try:
            assert program.stdout.readline() == "ready\n"
            for number in range(5):
                engine["k"] = number
                assert program.stdout.readline() == f"{number}\n"
            controller.kill()
            controller.wait()
            engine["k"] = "without a controller"
            assert program.stdout.readline() == "without a controller\n"
            engine["k"] = "last"
            assert program.stdout.readline() == "last\n" and program.stdout.readline() == "timeout\n"
            assert program.wait(WAIT_S) == 0
        finally:
            program.kill()
            program.wait()
            program.stdout.close()


def test_a_flood_of_changes_leaves_the_loop_time_for_others(place):
    place.controller()
    peer = place.peer()
    peer.do("publish", "engine")

    async def work():
        with kvoshim.Observer() as observer:
            seen = []
            observer.observe("engine", None, seen.append)
            peer.tell("flood", "engine")
            while not seen:
                await asyncio.sleep(0)
            for _ in range(20):
                before = len(seen)
                while len(seen) == before:
                    await asyncio.sleep(0.001)
            peer.process.kill()  # it was at it to the end

    asyncio.run(work())
    peer.process.wait(WAIT_S)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_coroutine_takes_what_the_thread_brings(engine, observer, run):
    """An observer that has a thread, used from a loop."""

    async def work():
        changes = observer.changes("engine", "k", mode="every")
        task = asyncio.create_task(anext(changes))
        await asyncio.sleep(0)
        engine["k"] = 1
        assert (await task).new == 1
        closing = asyncio.create_task(anext(changes, "end"))
        await asyncio.sleep(0)
        changes.close()
        assert await closing == "end"

    run(work())


def test_loops_one_after_the_other_have_clients_of_their_own(place):
    place.controller()

    async def work(number):
        with kvoshim.Observable(f"o{number}") as observable, kvoshim.Observer() as observer:
            observable["k"] = number
            async with observer.changes(f"o{number}", "k") as changes:
                return (await anext(changes)).new

    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        assert asyncio.run(work(number)) == number
    assert len(os.listdir("/proc/self/fd")) == before
