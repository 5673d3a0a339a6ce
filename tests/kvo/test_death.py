"""kill -9 of observer, observable and controller: the others go on, and nobody misses a final value."""

import os
import signal
import subprocess
import sys

import pytest
from kvo_harness import until

import kvoshim
from kvoshim import identity
from kvoshim.errors import ControllerUnavailableError


@pytest.fixture
def pair(place):
    """A publisher with engine.rpm = 1 and a process that observes it; the controller was started by one of
    them."""
    publisher, observer = place.peer(), place.peer()
    publisher.do("publish", "engine")
    publisher.do("set", "engine", "rpm", 1)
    observer.do("observe", "engine", "rpm")
    until(lambda: observer.values() == [1])
    return publisher, observer


def test_a_killed_observers_registrations_vanish(place, pair):
    publisher, observer = pair
    with kvoshim.Observer() as other:
        changes = []
        other.observe("engine", "rpm", changes.append)
        assert len(other.observables()[0]["observers"]) == 2
        observer.kill()
        until(
            lambda: [one["pid"] for one in other.observables()[0]["observers"]] == [os.getpid()],
            "the dead observer's registration vanishes",
        )
        assert [row["observer_pid"] for row in other._client.link.table.rows()] == [os.getpid()]
        publisher.do("set", "engine", "rpm", 2)
        until(lambda: changes[-1].new == 2)


def test_the_last_values_of_a_killed_observable_stay_and_observers_are_told(place, pair):
    publisher, observer = pair
    publisher.do("set", "engine", "big", "x" * 100_000)
    publisher.kill()
    until(lambda: observer.events[-1]["kind"] == "gone")
    assert observer.events[-1]["new"] == 1
    assert observer.do("get", "engine", "rpm") == 1
    late = place.peer()
    assert late.do("get", "engine", "big") == "x" * 100_000, "also for those who come later"
    # A successor takes over, and the observation goes on by itself.
    successor = place.peer()
    successor.do("publish", "engine")
    until(lambda: observer.events[-1]["kind"] == "back")
    assert successor.do("set", "engine", "rpm", 2) > 2, "revisions go on"
    until(lambda: observer.values() == [1, 2])
    versions = [event["revision"] for event in observer.events if event["kind"] in ("initial", "setting")]
    assert versions == sorted(set(versions))


def test_a_value_set_just_before_the_kill_arrives(place, pair):
    publisher, observer = pair
    publisher.tell("count", "engine", "rpm", 2, 10_000_000)
    until(lambda: observer.values()[-1] > 2)
    publisher.kill()
    until(lambda: observer.events[-1]["kind"] == "gone")
    final = observer.do("get", "engine", "rpm")
    assert observer.values()[-1] == final == observer.events[-1]["new"]


def kill_controller(place) -> int:
    def one() -> int | None:  # while one is being started, there are two processes of it
        pids = place.controller_pids()
        return pids[0] if len(pids) == 1 else None

    old = until(one, "a controller serves")
    os.kill(old, signal.SIGKILL)
    return until(lambda: (new := one()) != old and new, "a client starts another controller")


def test_the_controller_comes_back_with_its_registrations(place, pair):
    publisher, observer = pair
    observer.do("observe", "later", None)
    for turn in range(5):
        kill_controller(place)
        publisher.do("set", "engine", "rpm", 10 + turn)
        until(lambda turn=turn: observer.values()[-1] == 10 + turn)
        until(lambda: publisher.do("connected", "engine"))
    with kvoshim.Observer() as asking:
        until(
            lambda: (
                {(row["name"], row["live"], len(row["observers"])) for row in asking.observables()}
                == {("engine", True, 1), ("later", False, 1)}
            ),
            "all registrations are back",
        )
    kinds = {event["kind"] for event in observer.events}
    assert kinds == {"initial", "setting"}, "the observable was never gone"
    versions = [event["revision"] for event in observer.events]
    assert versions == sorted(set(versions))
    with kvoshim.Observable("later") as later:
        later["x"] = 1
        until(lambda: observer.values("x") == [1])


@pytest.mark.parametrize("delivery", ["controller", "direct"])
def test_values_set_while_there_is_no_controller_are_not_missed(place, delivery):
    publisher, observer = place.peer(), place.peer()
    publisher.do("publish", "engine")
    publisher.do("set", "engine", "rpm", 1)
    observer.do("observe", "engine", "rpm", {"delivery": delivery})
    until(lambda: observer.values() == [1] and observer.do("delivery", "engine", "rpm") == delivery)
    (old,) = place.controller_pids()
    os.kill(old, signal.SIGSTOP)
    publisher.do("count", "engine", "rpm", 2, 5000)
    publisher.do("set", "engine", "unseen", "by the old one")
    assert observer.do("get", "engine", "rpm") == 5000, "reading needs no controller"
    if delivery == "controller":
        assert observer.values() == [1]
        os.kill(old, signal.SIGKILL)
    until(lambda: observer.values()[-1] == 5000, "the final value arrives")
    if delivery == "direct":
        os.kill(old, signal.SIGKILL)
        until(lambda: observer.do("delivery", "engine", "rpm") == "direct" and publisher.do("connected", "engine"))
        publisher.do("set", "engine", "rpm", 5001)
        until(lambda: observer.values()[-1] == 5001)


@pytest.mark.watchdog(240)
def test_controllers_killed_in_the_middle_of_a_million_changes(place, pair):
    publisher, observer = pair
    observer.do("observe_quietly", "engine", "n")
    publisher.tell("count", "engine", "n", 1, 1_000_000)
    for _ in range(3):
        kill_controller(place)
    assert publisher.answer(120) > 1_000_000
    seen = until(lambda: (tally := observer.do("seen", "n"))["last"] == 1_000_000 and tally)
    assert seen["falls"] == 0


def test_observable_and_controller_killed_together(place, pair):
    publisher, observer = pair
    thorough = place.peer()
    thorough.do("observe", "engine", None, {"mode": "every"})
    publisher.do("set", "engine", "oil", 1)
    publisher.do("count", "engine", "rpm", 2, 100)
    until(lambda: observer.values()[-1] == thorough.values()[-1] == 100)
    (old,) = place.controller_pids()
    os.kill(old, signal.SIGSTOP)
    publisher.kill()
    os.kill(old, signal.SIGKILL)
    until(lambda: observer.events[-1]["kind"] == "gone", "nobody but the observer itself can know")
    assert observer.do("get", "engine", "rpm") == 100
    successor = place.peer()
    successor.do("publish", "engine")
    successor.do("set", "engine", "oil", -4)
    successor.do("set", "engine", "rpm", -5)
    for peer in (observer, thorough):
        until(lambda peer=peer: peer.values()[-1] == -5, "a fresh start is above the versions that were seen before")
        versions = [event["revision"] for event in peer.events if event["kind"] in ("initial", "setting", "deletion")]
        assert versions == sorted(versions) and versions[-1] > 100
        assert peer is thorough or versions == sorted(set(versions))
    assert thorough.values("oil")[-1] == -4


def test_without_autostart_a_lost_controller_is_waited_for(place):
    controller = place.controller()
    with (
        kvoshim.Observable("engine", autostart=False) as engine,
        kvoshim.Observer(autostart=False) as observer,
    ):
        changes = []
        observer.observe("engine", "rpm", changes.append)
        controller.kill()
        controller.wait()
        until(lambda: not observer.connected)
        engine["rpm"] = 1
        assert engine["rpm"] == 1
        with pytest.raises(ControllerUnavailableError, match="autostart"):
            kvoshim.Observer(controller=place.socket + "x", autostart=False)
        assert place.controller_pids() == []
        place.controller()
        until(lambda: [change.new for change in changes] == [1])
        until(lambda: observer.connected)


@pytest.mark.watchdog(240)
def test_random_kills_leave_the_rest_working(place):
    """Publishers and observers come and go by SIGKILL, again and again; one observer sees it through."""
    place.controller()
    lasting = place.peer()
    lasting.do("observe_quietly", "engine", "n")
    last = 0
    for turn in range(15):
        publisher = place.peer()
        publisher.do("publish", "engine")
        if turn % 3 == 0:
            publisher.do("observe", "engine", "n")
        publisher.tell("count", "engine", "n", last + 1, last + 50_000)
        until(lambda last=last: (lasting.do("seen", "n")["last"] or 0) > last)
        publisher.kill()
        last = lasting.do("get", "engine", "n")
        until(
            lambda last=last: lasting.do("seen", "n")["last"] == last,
            "the dead writer's last value is delivered",
        )
    assert lasting.do("seen", "n")["falls"] == 0


def test_a_process_is_its_pid_together_with_its_start_time():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = identity.start_time(process.pid)
    assert identity.alive(process.pid, start)
    assert not identity.alive(process.pid, start + 1), "the PID is another one's by now"
    process.kill()
    until(lambda: not identity.alive(process.pid, start), "one that nobody has waited for is dead too")
    process.wait()
    process.stdin.close()
    assert identity.start_time(process.pid) == 0 and not identity.alive(process.pid, 0)
