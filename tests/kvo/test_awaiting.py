"""Observing from a coroutine: while the controller does not answer, the event loop goes on."""

import asyncio
import signal

import pytest
import uvloop
from kvo_harness import WAIT_S, until

import kvoshim
from kvoshim.errors import ClosedError, UnknownNameError

uvloop.new_event_loop().close()  # the first one makes a pipe that stays as long as the process
RUNS = [pytest.param(asyncio.run, id="asyncio"), pytest.param(uvloop.run, id="uvloop")]


@pytest.fixture(params=RUNS)
def run(request):
    return request.param


@pytest.fixture
def stopped(place):
    """The controller, which answers nothing until it is told to go on."""
    controller = place.controller()
    yield controller
    if controller.poll() is None:
        controller.send_signal(signal.SIGCONT)


async def true(condition):
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.001)


async def turns():
    """The loop has time for others."""
    for _ in range(20):
        await asyncio.sleep(0.001)


def observers(observer, name):
    return [row["observers"] for row in observer.observables() if row["name"] == name]


@pytest.mark.parametrize("delivery", ["auto", "controller"])
@pytest.mark.parametrize("key", ["k", "k.part", None])
def test_the_loop_goes_on_while_the_controller_does_not_answer(place, stopped, run, delivery, key):
    async def work():
        with kvoshim.Observable("engine") as engine, kvoshim.Observer() as observer:
            engine["k"] = {"part": 1}
            seen = []
            stopped.send_signal(signal.SIGSTOP)
            task = asyncio.create_task(observer.observe_async("engine", key, seen.append, delivery=delivery))
            await turns()
            assert not task.done() and not seen
            engine["k"] = {"part": 2}
            stopped.send_signal(signal.SIGCONT)
            token = await task
            await true(lambda: seen)
            assert seen[-1].new == (2 if key == "k.part" else {"part": 2}) and token.is_alive()
            engine["k"] = {"part": 3}
            await true(lambda: seen[-1].new in (3, {"part": 3}))
            token.close()
            await true(lambda: observers(observer, "engine") == [[]])

    run(work())


def test_an_iteration_waits_for_its_observation_without_holding_up_the_loop(place, stopped, run):
    async def work():
        with kvoshim.Observable("engine") as engine, kvoshim.Observer() as observer:
            engine["k"] = 1
            stopped.send_signal(signal.SIGSTOP)
            changes = observer.changes("engine", "k")
            assert changes.token.state == "initialising"
            task = asyncio.create_task(anext(changes))
            await turns()
            assert not task.done()
            stopped.send_signal(signal.SIGCONT)
            assert (await task).new == 1
            engine["k"] = 2
            assert (await anext(changes)).new == 2
            changes.close()
            stopped.send_signal(signal.SIGSTOP)
            waiting = asyncio.create_task(observer.wait_for_async("engine", "k", lambda value: value == 2))
            await turns()
            assert not waiting.done()
            stopped.send_signal(signal.SIGCONT)
            assert await waiting == 2

    run(work())


def test_refusals_reach_whoever_waits(place, run):
    place.controller()

    async def work():
        with kvoshim.Observer() as observer:
            with pytest.raises(UnknownNameError):
                await observer.observe_async("nobody", "k", print, wait=False)
            with pytest.raises(UnknownNameError):
                async for _ in observer.changes("nobody", "k", wait=False):
                    raise AssertionError
            changes = observer.changes("nobody", None, wait=False)
            with pytest.raises(UnknownNameError):
                async with changes:
                    raise AssertionError
            assert changes.token.closed and await anext(changes, "the end") == "the end"
            with pytest.raises(UnknownNameError):
                observer.changes("nobody", "a.b.c", wait=False).get(WAIT_S)
            with pytest.raises(ValueError):
                await observer.observe_async("nobody", "k", print, mode="no such")
            assert not observer._client.observations and not observer._client._calls and not observer._observations

    run(work())


def test_who_gives_up_leaves_no_registration(place, stopped, run):
    async def work():
        with kvoshim.Observable("engine"), kvoshim.Observer() as observer:
            token = await observer.observe_async("engine", "other", print)
            stopped.send_signal(signal.SIGSTOP)
            task = asyncio.create_task(observer.observe_async("engine", "a.b.c", print))
            changes = observer.changes("engine", "k")
            taking = asyncio.create_task(anext(changes, "the end"))
            await turns()
            task.cancel()
            changes.close()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await taking == "the end"
            stopped.send_signal(signal.SIGCONT)
            await true(lambda: [[one["key"] for one in row] for row in observers(observer, "engine")] == [["other"]])
            assert token.is_alive() and len(observer._client.observations) == 1 and not observer._client._calls

    run(work())


def test_a_controller_that_dies_over_it_is_replaced(place, stopped, run):
    async def work():
        with kvoshim.Observable("engine") as engine, kvoshim.Observer() as observer:
            seen = []
            stopped.send_signal(signal.SIGSTOP)
            task = asyncio.create_task(observer.observe_async("engine", "k", seen.append))
            changes = observer.changes("engine", "k")
            await turns()
            stopped.kill()
            await task
            engine["k"] = 1
            await true(lambda: seen and seen[-1].new == 1)
            assert (await anext(changes)).new == 1
            changes.close()

    run(work())
    stopped.wait()


def test_an_observer_that_is_closed_meanwhile_ends_the_wait(place, stopped, run):
    async def work():
        observer = kvoshim.Observer()
        stopped.send_signal(signal.SIGSTOP)
        task = asyncio.create_task(observer.observe_async("engine", "k", print))
        taking = asyncio.create_task(anext(observer.changes("engine", "k"), "the end"))
        await turns()
        observer.close()
        assert await taking == "the end"
        with pytest.raises(ClosedError):
            await task
        with pytest.raises(ClosedError):
            await observer.observe_async("engine", "k", print)

    run(work())


def test_an_observer_with_a_thread_of_its_own(place, stopped, run):
    """Made outside of the loop, used in it."""
    with kvoshim.Observable("engine") as engine, kvoshim.Observer(thread=True) as observer:
        seen = []

        async def work():
            stopped.send_signal(signal.SIGSTOP)
            task = asyncio.create_task(observer.observe_async("engine", "k", seen.append))
            changes = observer.changes("engine", "k")
            await turns()
            assert not task.done()
            stopped.send_signal(signal.SIGCONT)
            token = await task
            engine["k"] = 1
            assert (await anext(changes)).new == 1
            await true(lambda: seen)
            changes.close()
            token.close()

        run(work())


def test_an_observer_that_nobody_attends_to_asks_by_itself(place, run):
    """Made for a program that selects: nothing is taken in while its coroutine waits, so it does not."""
    place.controller()
    with kvoshim.Observable("engine") as engine, kvoshim.Observer(thread=False) as observer:
        engine["k"] = 1
        seen = []

        async def work():
            token = await observer.observe_async("engine", "k", seen.append)
            changes = observer.changes("engine", "k")
            until(lambda: (observer.process(0.1), seen)[1])
            assert (await anext(changes)).new == 1
            changes.close()
            token.close()

        run(work())
