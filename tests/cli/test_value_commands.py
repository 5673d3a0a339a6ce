"""kvoshim get, set, observe, list, as a shell sees them."""

import json
import os
import signal
import subprocess
import sys

import numpy
import pytest
from kvo_harness import WAIT_S

import kvoshim


def test_a_value_that_was_set_stays_readable(place):
    place.controller()
    assert place.kvoshim("set", "box", "a", "1").stdout == ""
    place.kvoshim("set", "box", "b", "some text")
    place.kvoshim("set", "box", "a", '{"deep": [1, 2.5, null]}')
    assert place.kvoshim("get", "box", "a").stdout == '{"deep": [1, 2.5, null]}\n'
    assert place.kvoshim("get", "box", "b").stdout == "some text\n"
    assert place.kvoshim("get", "--json", "box", "b").stdout == '"some text"\n'
    place.kvoshim("set", "--string", "box", "c", "42")
    with kvoshim.Observer() as observer:
        assert observer.get("box", "c") == "42"
        assert observer.revision("box", "a") > 2, "revisions go on from one command to the next"
        assert not observer.alive("box")


def test_commands_start_a_controller_unless_told_not_to(place):
    refused = place.kvoshim("get", "--no-autostart", "box", "a", check=False)
    assert refused.returncode == 1 and "no controller" in refused.stderr and refused.stdout == ""
    assert place.controller_pids() == []
    place.kvoshim("set", "box", "a", "true")
    assert place.kvoshim("get", "--no-autostart", "box", "a").stdout == "true\n"
    assert len(place.controller_pids()) == 1


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["get", "nobody", "k"], 1, "no observable is known by the name 'nobody'"),
        (["get", "box", "nothing"], 1, "'box' has no key 'nothing'"),
        (["get", "box", ""], 1, "a key has 1 to 255 bytes"),
        (["get", "", "k"], 1, "a name has 1 to 255 bytes"),
        (["set", "box", "k" * 256, "1"], 1, "has 256"),
        (["set", "mine", "k", "1"], 1, "the name 'mine' belongs to client"),
        (["get", "pid:1", "k"], 1, "PID 1"),
        (["get", "box"], 2, "KEY"),
        (["observe", "box", "--count", "0"], 2, "--count"),
        (["observe", "box", "--seconds", "-1"], 2, "--seconds"),
        (["nonsense"], 2, "nonsense"),
        ([], 2, "COMMAND"),
    ],
)
def test_errors_are_one_clear_line(place, arguments, code, message):
    place.controller()
    with kvoshim.Observable("mine"), kvoshim.Observable("box"):
        done = place.kvoshim(*arguments, check=False)
    assert done.returncode == code
    assert message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""
    if code == 1:
        assert done.stderr.count("\n") == 1


def start(place, *arguments):
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "kvoshim", *arguments],
        env=place.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_observe_prints_a_line_a_change(place):
    place.controller()
    with kvoshim.Observable("engine") as engine:
        engine["rpm"] = 1
        watching = start(place, "observe", "engine", "rpm", "--count", "3")
        assert "engine rpm = 1  (revision 1, initial)" in watching.stdout.readline()
        engine["rpm"] = "fast"
        assert "engine rpm = fast  (revision 2, setting)" in watching.stdout.readline()
        engine.delete("rpm")
        assert "engine rpm = (deleted)  (revision 3, deletion)" in watching.stdout.readline()
        out, err = watching.communicate(timeout=WAIT_S)
        assert (watching.returncode, out, err) == (0, "", "")


def test_observe_all_keys_as_json(place):
    place.controller()
    with kvoshim.Observable("engine") as engine:
        engine["first"] = 1  # its line shows that the observation is in force
        watching = start(place, "observe", "engine", "--json")
        assert json.loads(watching.stdout.readline())["kind"] == "initial"
        engine["a"] = b"\x00\xff"
        engine["b"] = [1, "é"]
        lines = [json.loads(watching.stdout.readline()) for _ in range(2)]
        assert [(line["key"], line["value"], line["kind"], line["revision"]) for line in lines] == [
            ("a", {"bytes": "AP8="}, "setting", 2),
            ("b", [1, "é"], "setting", 3),
        ]
        engine.close()
        assert json.loads(watching.stdout.readline())["kind"] == "gone"
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=WAIT_S)
        assert (watching.returncode, out, err) == (0, "", "")


def test_observe_a_pattern_every_change_from_a_revision_on(place):
    place.controller()
    with kvoshim.Observable("engine") as engine:
        for number in range(5):
            engine["oil.t"] = number
            engine["other"] = number
        done = place.kvoshim("observe", "engine", "oil.*", "--mode", "every", "--since", "3", "--count", "3", "--json")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [(line["key"], line["value"], line["revision"]) for line in lines] == [("oil.t", n, 2 * n + 1) for n in (2, 3, 4)]


def test_arrays_are_described(place):
    place.controller()
    with kvoshim.Observable("camera") as camera:
        camera["frame"] = [numpy.zeros((2, 3))]
        assert json.loads(place.kvoshim("get", "camera", "frame").stdout) == [{"array": "float64", "shape": [2, 3]}]


def test_observe_ends_after_some_seconds_and_when_its_reader_has_enough(place):
    place.controller()
    done = place.kvoshim("observe", "nobody", "--seconds", "0.2")
    assert (done.returncode, done.stdout) == (0, "")
    with kvoshim.Observable("engine") as engine:
        engine["rpm"] = 1
        watching = start(place, "observe", "engine")
        watching.stdout.readline()
        watching.stdout.close()
        engine["rpm"] = 2
        assert watching.wait(WAIT_S) == 1
        assert watching.stderr.read() == ""
        watching.stderr.close()


def test_list(place):
    place.controller()
    assert "no observables" in place.kvoshim("list").stdout
    assert place.kvoshim("list", "--json").stdout == "[]\n"
    place.kvoshim("set", "ended", "k", "1")
    with kvoshim.Observable("[bold]engine") as engine, kvoshim.Observer() as observer:
        engine["rpm"] = 1
        engine["rpm"] = 2
        observer.observe("[bold]engine", "rpm", print, options="new")
        observer.observe("awaited", None, print)
        rows = {row["name"]: row for row in json.loads(place.kvoshim("list", "--json").stdout)}
        assert rows["[bold]engine"]["keys"] == {"rpm": 2} and rows["[bold]engine"]["live"]
        assert rows["[bold]engine"]["pid"] == os.getpid()
        assert [(one["pid"], one["key"]) for one in rows["[bold]engine"]["observers"]] == [
            (os.getpid(), "rpm")
        ]
        assert rows["ended"]["keys"] == {"k": 1} and not rows["ended"]["live"]
        assert rows["awaited"]["pid"] == 0 and rows["awaited"]["keys"] == {}
        text = place.kvoshim("list", COLUMNS="200").stdout
        for word in (
            "[bold]engine",
            str(os.getpid()),
            "live",
            "ended",
            "awaited",
            "rpm (revision 2)",
            "all keys",
        ):
            assert word in text
