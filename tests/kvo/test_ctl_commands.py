"""`kvoshim ctl` drives every command of the running observation controller, and none of them tells too much."""

import json
import os

import pytest
from kvo_harness import WAIT_S, until
from test_access import NOBODY, others  # noqa: F401  a fixture

import kvoshim
from kvoshim.kvo.controller.daemon import ControllerProcess
from kvoshim.process import ControlClient, builtin
from kvoshim.process.command import commands_of

COMMANDS = {one.name: one for one in (*commands_of(builtin), *commands_of(ControllerProcess))}
SECRET, VALUE = "hunter2-of-the-file", "value-of-an-observable"

# What each is given, and what its answer shows. A command without an entry fails: it is to be tried as well.
CASES = {
    "build-report": ([], lambda answer: answer["text"] or answer["arguments"]),
    "config-get": ([], lambda answer: answer["arguments"]["controller"]["retain-s"] == 7.0),
    "config-hash-get": ([], lambda answer: len(answer["arguments"]["hash"]) == 64),
    "config-merge": (['{"controller": {"retain-s": 8}}'], lambda answer: answer["arguments"]["hash"]),
    "config-reload": ([], lambda answer: answer["arguments"]["hash"]),
    "config-set": (['{"controller": {"retain-s": 9}}'], lambda answer: answer["arguments"]["hash"]),
    "config-test": (['{"controller": {"access": [{"allow": ["observe"], "user": 1}]}}'], lambda answer: answer["arguments"]["hash"]),
    "config-write": (["filename=copy.json"], lambda answer: answer["arguments"]["size"] > 0),
    "list-commands": ([], lambda answer: set(answer["arguments"]) == set(COMMANDS)),
    "shutdown": (["type=normal"], lambda answer: True),
    "statistic-get": (["name=observables"], lambda answer: answer["arguments"]["observables"][0][0] == 1),
    "statistic-get-all": ([], lambda answer: answer["arguments"]["clients"][0][0] == 1),
    "statistic-reset": ([], lambda answer: True),
    "status-get": ([], lambda answer: answer["arguments"]["observables"] == {"live": 1, "ended": 0}),
    "version-get": ([], lambda answer: "controller of kvoshim" in answer["arguments"]["extended"]),
}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_ctl_drives_every_command(place, name):
    arguments, shows = CASES[name]
    controller = place.controller("--config", str(place.configure(**{"retain-s": 7})))
    with kvoshim.Observable("engine", autostart=False) as engine:
        engine["rpm"] = 1
        done = place.kvoshim("ctl", "controller", name, *arguments, "--json", check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        answer = json.loads(done.stdout)
        assert answer["result"] == 0 and shows(answer), answer
        if name == "shutdown":
            assert controller.wait(WAIT_S) == 0
        else:
            with kvoshim.Observer() as observer:
                assert observer.get("engine", "rpm") == 1


def test_the_list_is_that_of_the_running_controller(place):
    place.controller()
    with ControlClient(place.socket + ".ctl", WAIT_S) as client:
        assert set(client.call("list-commands")) == set(COMMANDS) == set(CASES)


def test_no_secret_and_no_value_in_the_log_or_in_answers_to_readers(place, others):  # noqa: F811
    place.open_to_others()
    place.controller("--config", str(place.configure(**{
        "user-context": {"database": {"password": SECRET}, "note": f"postgresql://user:{SECRET}@host/db"},
        "control-socket": {"access": [{"user": "*", "role": "read"}]},
        "access": [{"allow": ["observe", "publish"], "user": NOBODY, "names": ["engine"]}],
    })))
    reader = place.peer(NOBODY)
    with kvoshim.Observable("engine") as engine:
        engine["key"] = VALUE
        reader.do("observe", "engine", "key")
        until(lambda: reader.values("key") == [VALUE])
        with pytest.raises(AssertionError, match="NameInUseError"):
            reader.do("publish", "engine")
        for name, command in COMMANDS.items():
            arguments = {"name": "observables"} if name == "statistic-get" else None
            answer = json.dumps(reader.do("ctl", place.socket + ".ctl", name, arguments))
            assert SECRET not in answer and VALUE not in answer
            assert ("needs the role" in answer) == (command.access == "write")
        os.kill(place.controllers[0].pid, 1)
        with ControlClient(place.socket + ".ctl", WAIT_S) as owner:
            until(lambda: owner.call("statistic-get", {"name": "signals"})["signals"][0][0] >= 1)
            assert SECRET in json.dumps(owner.call("config-get")), "whoever may write may read it"
    log = place.log_text()
    assert "configuration from" in log and "observes 'key' of 'engine'" in log
    assert SECRET not in log and VALUE not in log
