"""The controller as a daemon: configuration file, signals, `kvoshim ctl`."""

import json
import os
import signal

import psutil
import pytest
from kvo_harness import WAIT_S, until

import kvoshim
from kvoshim.errors import ControlError, LimitError, NameInUseError
from kvoshim.process import ControlClient


@pytest.fixture
def file(place):
    path = place.directory / "controller.json"
    path.write_text('{"controller": {"retain-s": 0}, # values are kept for ever\n "registry": {}}')
    return path


@pytest.fixture
def client(place, file):
    place.controller("--config", str(file))
    with ControlClient(place.socket + ".ctl", WAIT_S) as client:
        yield client


def test_every_command(place, file):
    controller = place.controller("--config", str(file))

    def ctl(name, *arguments, code=0):
        done = place.kvoshim("ctl", "controller", name, *arguments, "--json", check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    tried = {}

    def check(name, *arguments, code=0):
        tried[name] = ctl(name, *arguments, code=code)
        return tried[name]["arguments"]

    with kvoshim.Observable("engine") as engine:
        engine["rpm"] = 1
        status = check("status-get")
        assert status["observables"] == {"live": 1, "ended": 0} and status["clients"] == 1
        assert status["socket"] == place.socket and status["pid"] == controller.pid
    names = check("list-commands")
    configuration = check("config-get")
    assert configuration["controller"]["retain-s"] == 0.0
    assert check("config-hash-get")["hash"] == configuration["hash"]
    configuration["controller"]["limits"]["names-per-client"] = 3
    check("config-test", json.dumps(configuration))
    check("config-set", json.dumps(configuration))
    check("config-set", json.dumps(configuration), code=4)
    check("config-merge", '{"controller": {"limits": {"retained": 5}}}')
    check("config-write", "filename=written.json")
    assert json.loads((file.parent / "written.json").read_text())["registry"] == {}
    check("config-reload")
    assert check("config-hash-get") == {"hash": check("config-get")["hash"]}
    assert check("statistic-get", "name=observables")["observables"][0][0] == 1
    assert {"clients", "observables", "commands", "signals"} <= set(check("statistic-get-all"))
    check("statistic-reset")
    assert "controller of kvoshim" in check("version-get")["extended"]
    check("build-report")
    check("shutdown", "exit-value=4")
    assert controller.wait(WAIT_S) == 4 and not os.path.exists(place.socket)
    assert set(names) == set(tried)


def test_hangup_with_a_broken_file_keeps_serving(place, file, client):
    with kvoshim.Observable("engine") as engine, kvoshim.Observer() as observer:
        engine["rpm"] = 1
        seen = []
        observer.observe("engine", "rpm", lambda change: seen.append(change.new))
        file.write_text('{"controller": {"retain-s": 0,\n "no-such-key": 1}}')
        psutil.Process(place.controllers[0].pid).send_signal(signal.SIGHUP)
        failure = until(lambda: client.call("status-get")["configuration"]["failure"])
        assert failure == f"{file}:2:2: no-such-key: Object contains unknown field `no-such-key`"
        engine["rpm"] = 2
        until(lambda: seen[-1:] == [2])
        file.write_text('{"controller": {"retain-s": 5}}')
        psutil.Process(place.controllers[0].pid).send_signal(signal.SIGHUP)
        until(lambda: client.call("config-get")["controller"]["retain-s"] == 5)
        engine["rpm"] = 3
        until(lambda: seen[-1:] == [3])
    assert place.controllers[0].poll() is None


def test_limits_change_while_it_runs(client):
    client.call("config-set", {"controller": {"limits": {"names-per-client": 1}}})
    with kvoshim.Observable("one"):
        with pytest.raises(LimitError, match="a client may publish 1 observables"):
            kvoshim.Observable("two")
        client.call("config-set", {"controller": {"limits": {"names-per-client": 2}}})
        with kvoshim.Observable("two"):
            pass
    with pytest.raises(ControlError, match="only changed by a restart"):
        client.call("config-set", {"controller": {"limits": {"stores": 5}}})
    with pytest.raises(ControlError, match="stores is out of its range"):
        client.call("config-test", {"controller": {"limits": {"stores": 0}}})
    assert client.call("config-get")["controller"]["limits"]["stores"] == 1024


def test_a_new_idle_limit_is_followed(client, place):
    client.call("config-set", {"controller": {"idle-exit-s": 0.1}})
    assert place.controllers[0].wait(WAIT_S) == 0


def test_the_command_line_goes_before_the_file(place, file):
    file.write_text('{"controller": {"idle-exit-s": 0.05}}')
    place.controller("--config", str(file), "--idle-exit", "0", "--retain", "0.1")
    with ControlClient(place.socket + ".ctl", WAIT_S) as client:
        with kvoshim.Observable("engine"):
            pass
        until(lambda: client.call("status-get")["observables"] == {"live": 0, "ended": 0})
    assert place.controllers[0].poll() is None


def test_check_only(place, file):
    done = place.kvoshim("controller", "--config", str(file), "--check")
    assert done.stdout == f"kvoshim controller: {file} is valid\n" and done.stderr == ""
    file.write_text('{"controller": {"retain-s": -1}}')
    done = place.kvoshim("controller", "--config", str(file), "--check", check=False)
    assert done.returncode == 4 and "not negative" in done.stderr
    assert not os.path.exists(place.socket)


def test_the_pid_file_names_the_controller(place):
    controller = place.controller()
    with open(place.socket + ".lock") as lock:
        assert lock.read() == f"{controller.pid}\n"
    done = place.kvoshim("controller", check=False)
    assert done.returncode == 3 and f"PID {controller.pid}" in done.stderr


def test_the_log_tells_of_registrations_notifications_and_refusals(place):
    place.controller()
    with kvoshim.Observable("engine") as engine, kvoshim.Observer() as observer:
        changes = []
        observer.observe("engine", "rpm", changes.append, delivery="controller")
        engine["rpm"] = 1
        until(lambda: changes)
        until(lambda: "is told of 1 changes" in place.log_text())
        with pytest.raises(NameInUseError):
            kvoshim.Observable("engine")
        log = place.log_text()
        assert "publishes 'engine'" in log and "observes 'rpm' of 'engine'" in log and "Claim refused" in log
