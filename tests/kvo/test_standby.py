"""A controller in waiting takes over from one that is dead or hung; a hung one is recognised, and does no harm when it goes on."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kvo_harness import WAIT_S, until

import kvoshim
from kvoshim.errors import ControllerHungError, ControllerUnavailableError
from kvoshim.kvo import paths, term
from kvoshim.process import ControlClient

HUNG_S = 0.4


@pytest.fixture
def start(place):
    """Starts controllers that are soon taken for hung."""

    def start(*options, hung_after_s=HUNG_S, **standby):
        file = place.directory / f"controller{len(place.controllers)}.json"
        file.write_text(json.dumps({"controller": {"hung-after-s": hung_after_s, "standby": standby}}))
        process = subprocess.Popen([sys.executable, "-P", "-m", "kvoshim", "controller", "--config", str(file), *options],
                                   env=place.environment, stderr=subprocess.PIPE, text=True)  # fmt: skip
        place.controllers.append(process)
        line = process.stderr.readline()
        assert ("standing by" if "--standby" in options else "serving") in line, line
        return process

    yield start
    for process in place.controllers:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)


def status(place, standby=False):
    path = paths.standby_path(place.socket) if standby else place.socket
    with ControlClient(paths.control_path(path), WAIT_S) as control:
        return control.call("status-get")


def test_a_standby_takes_over_from_a_dead_controller(place, start):
    active = start()
    standby = start("--standby")
    assert until(lambda: status(place, True)["standby"]["active"] == active.pid)
    before = status(place)["term"]
    publisher, observer = place.peer(), place.peer()
    publisher.do("publish", "engine")
    observer.do("observe", "engine", "rpm", {"delivery": "controller"})
    publisher.do("set", "engine", "rpm", 1)
    until(lambda: observer.values() == [1])
    active.kill()
    publisher.do("set", "engine", "rpm", 2)
    until(lambda: observer.values()[-1] == 2)
    until(lambda: os.path.exists(place.socket + ".ctl") and status(place)["pid"] == standby.pid)
    assert status(place)["term"] > before
    until(lambda: publisher.do("connected", "engine"))
    publisher.do("set", "engine", "rpm", 3)
    until(lambda: observer.values()[-1] == 3)
    assert place.controller_pids() == [standby.pid], "no client has started another one"
    third = start("--standby")
    assert until(lambda: status(place, True)["standby"]["active"] == standby.pid)
    assert place.kvoshim("controller", "--standby", check=False).returncode == 3, "one waits at a time"
    third.terminate()
    assert third.wait(WAIT_S) == 0
    assert not os.path.exists(paths.standby_path(place.socket) + ".ctl")


def test_a_standby_without_an_active_controller_is_the_active_one(place, start):
    standby = start("--standby")
    until(lambda: os.path.exists(place.socket + ".ctl") and status(place)["pid"] == standby.pid)
    with kvoshim.Observable("engine", autostart=False) as engine:
        engine["x"] = 1
    assert place.kvoshim("controller", check=False).returncode == 3


def test_a_hung_controller_is_recognised(place, start):
    controller = start()
    with kvoshim.Observable("engine", autostart=False) as engine, kvoshim.Observer(autostart=False) as observer:
        changes = []
        token = observer.observe("engine", "rpm", changes.append)
        until(lambda: token.state == "valid")
        controller.send_signal(signal.SIGSTOP)
        until(lambda: token.state == "hung")
        assert not token.is_alive()
        with pytest.raises(ControllerHungError, match="no sign of life"):
            observer.observe("engine", "other", print)
        engine["rpm"] = 1
        assert observer.get("engine", "rpm") == 1, "reading and setting need no controller"
        controller.send_signal(signal.SIGCONT)
        until(lambda: token.state == "valid" and token.is_alive())
        until(lambda: [change.new for change in changes] == [1])
        observer.observe("engine", "other", print)


def test_a_program_with_an_event_loop_recognises_it_without_a_thread(place, start):
    controller = start()

    async def main():
        with kvoshim.Observable("engine", autostart=False), kvoshim.Observer(autostart=False) as observer:
            token = observer.observe("engine", "rpm", print)
            for state, sign in (("hung", signal.SIGSTOP), ("valid", signal.SIGCONT)):
                controller.send_signal(sign)
                async with asyncio.timeout(WAIT_S):
                    while token.state != state:
                        await asyncio.sleep(0.02)

    asyncio.run(main())


def test_who_is_idle_or_busy_is_not_hung(place, start):
    start()
    with kvoshim.Observable("engine", autostart=False) as engine, kvoshim.Observer(autostart=False) as observer:
        token = observer.observe("engine", "rpm", lambda change: None)
        states, end = set(), time.monotonic() + 3 * HUNG_S
        while time.monotonic() < end:
            states.add(token.state)
            time.sleep(0.01)
        end = time.monotonic() + 3 * HUNG_S
        while time.monotonic() < end:
            for number in range(100):
                engine["rpm"] = number
            states.add(token.state)
        assert states == {"valid"}


def test_a_standby_leaves_a_hung_controller_alone_unless_it_is_told_otherwise(place, start):
    active = start()
    start("--standby")
    standing_by(place, active)
    active.send_signal(signal.SIGSTOP)
    until(lambda: status(place, True)["standby"]["hung"])
    time.sleep(2 * HUNG_S)
    assert status(place, True)["standby"]["active"] == active.pid
    active.send_signal(signal.SIGCONT)
    until(lambda: not status(place, True)["standby"]["hung"])
    assert status(place)["pid"] == active.pid


def test_a_controller_that_was_replaced_while_it_hung_ends_and_does_no_harm(place, start):
    active = start()
    standby = start("--standby", **{"takes-over-hung": True})
    standing_by(place, active)
    with kvoshim.Observable("engine", autostart=False) as engine, kvoshim.Observer(autostart=False) as observer:
        changes = []
        token = observer.observe("engine", "rpm", changes.append, delivery="controller")
        asleep = place.peer()  # a client that is stopped as well still has its connection to the old one
        asleep.do("observe", "engine", "rpm")
        asleep.process.send_signal(signal.SIGSTOP)
        active.send_signal(signal.SIGSTOP)
        engine["rpm"] = 1
        until(lambda: [change.new for change in changes] == [1])
        until(lambda: token.state == "valid" and engine.connected)
        assert status(place)["pid"] == standby.pid
        number = term.current(paths.term_path(place.socket))
        active.send_signal(signal.SIGCONT)
        assert active.wait(WAIT_S) == 9, "it ends by itself"
        assert "has taken its place" in active.stderr.read()
        assert term.current(paths.term_path(place.socket)) == number
        assert Path(paths.life_lock(place.socket)).read_text().strip() == str(standby.pid)
        for suffix in ("", ".fds", ".ctl"):
            assert os.path.exists(place.socket + suffix), "what belongs to the other one is left alone"
        asleep.process.send_signal(signal.SIGCONT)
        until(lambda: asleep.values() == [1], "it finds the new one")
        engine["rpm"] = 2
        until(lambda: changes[-1].new == 2 and asleep.values() == [1, 2])
        with kvoshim.Observer(autostart=False) as late:
            assert late.get("engine", "rpm") == 2
        assert status(place)["pid"] == standby.pid


def standing_by(place, active):
    """Waits until the standby feels the active controller's pulse."""
    until(lambda: status(place, True)["standby"] == {"active": active.pid, "connected": True, "hung": False})


def test_without_a_limit_nothing_counts_as_hung(place, start):
    controller = start(hung_after_s=0)
    with kvoshim.Observable("engine", autostart=False), kvoshim.Observer(autostart=False) as observer:
        token = observer.observe("engine", "rpm", print)
        controller.send_signal(signal.SIGSTOP)
        time.sleep(2 * HUNG_S)
        assert token.state == "valid"
        controller.send_signal(signal.SIGCONT)


def test_terms_rise(tmp_path):
    path = str(tmp_path / "term")
    assert term.current(path) == 0
    first = term.Term(path)
    assert term.current(path) == first.number and not first.over()
    second = term.Term(path)
    assert second.number > first.number and first.over() and not second.over()
    os.unlink(path)
    assert not second.over(), "somebody has tidied up"
    third = term.Term(path)
    assert third.number > second.number and second.over()
    (tmp_path / "wild").write_text("no number")
    assert term.current(str(tmp_path / "wild")) == 0
    for one in (first, second, third):
        one.close()


def test_a_connection_to_a_former_controller_is_refused(place, start):
    start()
    later = term.Term(paths.term_path(place.socket))
    later.close()
    with pytest.raises(ControllerUnavailableError):
        kvoshim.Observer(autostart=False)
