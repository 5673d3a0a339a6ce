"""The commands of the control channel, given to a running shared."""

import json
import os
import re
import resource
import signal
import stat

import msgspec
import pytest
from process_harness import until

from kvoshim.errors import ControlError
from kvoshim.process import builtin
from kvoshim.process.command import commands_of

BUILT_IN = sorted(
    "list-commands config-get config-merge config-test config-set config-reload config-write config-hash-get status-get statistic-get "
    "statistic-get-all statistic-reset version-get build-report shutdown".split()
)
SECRET = "hunter2hunter2"


@pytest.fixture
def client(shared):
    with shared.client() as client:
        yield client


def test_every_daemon_has_these_commands():
    records = {one.name: one for one in commands_of(builtin)}
    assert sorted(records) == BUILT_IN
    reading = {"config-get", "config-hash-get"}
    changing = {name for name, one in records.items() if one.access == "write"}
    assert changing == {name for name in BUILT_IN if name.startswith(("config-", "shutdown", "statistic-reset"))} - reading
    for one in records.values():
        assert one.brief.endswith(".") and one.returns and re.fullmatch(r"\d+\.\d+", one.since)


def test_one_record_feeds_help_arguments_and_names(client):
    names = client.call("list-commands")
    assert set(BUILT_IN) | {"greet", "crash"} <= set(names) and names == sorted(names)
    records = {one["name"]: one for one in client.call("list-commands", {"verbose": True})}
    assert list(records) == names
    assert records["shutdown"]["arguments"] == [
        {"name": "type", "type": '"drain" or "normal" or "now"', "required": False},
        {"name": "exit-value", "type": "whole number", "required": False},
    ]
    assert records["fill"]["arguments"] == [{"name": "size", "type": "whole number", "required": True}]
    assert records["greet"] == {
        "name": "greet",
        "access": "read",
        "brief": "Says the greeting.",
        "returns": "{greeting}",
        "since": "0.1",
        "arguments": [],
    }


@pytest.mark.parametrize(
    "name, arguments, result, text",
    [
        ("gret", None, 2, "there is no command 'gret'; do you mean 'greet'?"),
        ("x" * 200, None, 2, "there is no command 'xxx"),
        ("greet", {"loud": True}, 1, "arguments of 'greet': Object contains unknown field `loud`"),
        ("greet", [], 1, "the arguments of 'greet' are a JSON object"),
        ("fill", {}, 1, "missing required field `size`"),
        ("shutdown", {"type": "never"}, 1, "Invalid enum value 'never'"),
        ("shutdown", {"exit-value": 300}, 1, "Expected `int` <= 125"),
        ("statistic-get", {"name": "none"}, 3, "there is no statistic 'none'"),
        ("crash", None, 1, "ZeroDivisionError"),
        ("not-json", None, 1, "no JSON"),
    ],
)
def test_refusals(client, name, arguments, result, text):
    answer = client.ask(name, arguments)
    assert answer.result == result and text in answer.text
    assert client.call("greet") == {"greeting": "hello"}, "the connection goes on"


def test_state_and_version(shared, client):
    status = client.call("status-get")
    assert status["pid"] == shared.process.pid and status["state"] == "running" and status["events"] == []
    assert status["control"] == {"path": shared.path, "clients": 1, "refused": 0, "role": "write"}
    assert status["configuration"]["source"] == str(shared.place.file) and status["configuration"]["failure"] == ""
    assert status["uptime"] >= status["reload"] >= 0
    version = client.ask("version-get")
    assert version.text in version.arguments["extended"]
    assert "Python: " in client.call("build-report")


def test_statistics(client):
    client.call("statistic-reset")
    client.call("greet")
    commands = client.call("statistic-get", {"name": "commands"})["commands"]
    assert commands[0][0] == 2 and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", commands[0][1])
    client.ask("no-such-command")
    every = client.call("statistic-get-all")
    assert every["commands"][0][0] == 4 and every["commands-refused"][0][0] == 1 and every["control-clients"][0][0] == 1
    assert "greeter_control_clients 1\n" in client.call("statistic-get-all", {"format": "prometheus"})
    client.call("statistic-reset", {"name": "commands"})
    assert client.call("statistic-get", {"name": "commands"})["commands"][0][0] == 1
    client.call("statistic-reset")
    assert client.call("statistic-get-all")["commands-refused"][0][0] == 0
    assert client.ask("statistic-reset", {"name": "none"}).result == 3


# --- configuration ---------------------------------------------


def test_set_with_the_hash_that_one_has_read(client):
    given = client.call("config-get")
    assert set(given) == {"greeter", "hash"} and given["hash"] == client.call("config-hash-get")["hash"]
    given["greeter"]["greeting"] = "good day"
    tested = client.call("config-test", given)
    assert client.call("greet") == {"greeting": "hello"}, "a test changes nothing"
    assert client.call("config-set", given)["hash"] == tested["hash"] != given["hash"]
    assert client.call("greet") == {"greeting": "good day"}
    late = client.ask("config-set", given)
    assert late.result == 4 and tested["hash"] in late.text, "somebody else was faster"
    del given["hash"]
    assert client.call("config-set", given)["hash"] == tested["hash"]
    assert client.call("config-get") == {**given, "hash": tested["hash"]}


@pytest.mark.parametrize(
    "section, result, problem",
    [
        ({"greting": "x"}, 1, "greting: Object contains unknown field `greting`"),
        ({"refuse": "check", "greeting": "x"}, 1, "no use for 'x'"),
        ({"refuse": "configure", "greeting": "x"}, 1, "'x' cannot be said"),
        ({"refuse": "both ways", "greeting": "x"}, 5, "could not be applied again: nor taken back"),
        ({"control-socket": {"path": "/nowhere/ctl"}}, 1, "/nowhere/ctl cannot be bound"),
        ({"logging": {"file": "/nowhere/log"}}, 1, "/nowhere/log cannot be opened"),
        ({"control-socket": {"access": [{"group": "no-such-group", "role": "read"}]}}, 1, "there is no group"),
    ],
)
def test_a_configuration_that_fails_leaves_the_old_one(shared, client, section, result, problem):
    before = client.call("config-get")
    answer = client.ask("config-set", {"greeter": section})
    assert answer.result == result and problem in answer.text
    assert client.call("config-get") == before and client.call("greet") == {"greeting": "hello"}
    assert problem in client.call("status-get")["configuration"]["failure"]
    client.call("config-set", {"greeter": {"greeting": "again"}})
    assert client.call("status-get")["configuration"]["failure"] == ""
    assert shared.call("greet") == {"greeting": "again"}, "the socket is where it was"


def test_only_its_own_section_is_set(client):
    for arguments in (None, {}, {"other": {}}, {"greeter": {}, "other": {}}):
        answer = client.ask("config-set", arguments)
        assert answer.result == 1 and '{"greeter": {…}}' in answer.text
    assert client.ask("config-set", {"greeter": 5}).result == 1


def test_merge_changes_what_is_given(client):
    client.call("config-set", {"greeter": {"greeting": "a", "database": {"host": "h", "password": "p"}}})
    before = client.call("config-get")
    client.call("config-merge", {"greeter": {"database": {"host": "other"}}, "hash": before["hash"]})
    after = client.call("config-get")["greeter"]
    assert after["database"] == {"host": "other", "password": "p"} and after["greeting"] == "a"
    assert client.ask("config-merge", {"greeter": {}, "hash": before["hash"]}).result == 4
    client.call("config-merge", {"greeter": {"greeting": None}})
    assert client.call("greet") == {"greeting": "hello"}
    assert client.ask("config-merge", {"greeter": {"greting": "x"}}).result == 1
    assert client.ask("config-merge", {}).result == 1 and client.ask("config-merge", {"greeter": None}).result == 1


def test_reload_after_the_file_has_changed(shared, client):
    shared.place.write('{"other": [1], "greeter": {"greeting": "from the file"}} // new')
    client.call("config-reload")
    assert client.call("greet") == {"greeting": "from the file"}
    shared.place.write('{"greeter": {\n"greeting": "x", "greeting": "y"}}')
    answer = client.ask("config-reload")
    assert answer.result == 1 and answer.text.startswith(f"{shared.place.file}:2:18: the key 'greeting' stands here a second")
    assert client.call("greet") == {"greeting": "from the file"}


def test_write_keeps_what_belongs_to_others(shared, client):
    shared.place.write('{"other": [1], "greeter": {"greeting": "a"}} // note')
    client.call("config-reload")
    client.call("config-set", {"greeter": {"greeting": "b", "database": {"password": SECRET}}})
    written = client.call("config-write", {"filename": "next.json"})
    file = shared.place.directory / "next.json"
    assert written == {"filename": str(file), "size": file.stat().st_size}
    assert json.loads(file.read_text()) == {"other": [1], "greeter": {"greeting": "b", "database": {"password": SECRET}}}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shared.place.file.chmod(0o640)
    assert client.call("config-write")["filename"] == str(shared.place.file)
    assert shared.place.file.read_text() == file.read_text() and stat.S_IMODE(shared.place.file.stat().st_mode) == 0o640
    client.call("config-reload")
    assert client.call("greet") == {"greeting": "b"}
    for name in ("../x.json", "/tmp/x.json", "x.py", "a/b.json"):
        assert "only written to" in client.ask("config-write", {"filename": name}).text
    assert not list(shared.place.directory.glob("next.json.*")), "what it writes to at first has gone"
    file.unlink()


def test_a_write_that_fails_leaves_the_file_as_it_was(shared, client):
    before = shared.place.file.read_text()
    client.call("config-merge", {"greeter": {"greeting": "x" * 5000}})
    resource.prlimit(shared.process.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        assert "cannot be written: File too large" in client.ask("config-write").text
    finally:
        resource.prlimit(shared.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert shared.place.file.read_text() == before and not list(shared.place.directory.glob("greeter.json.*"))


def test_a_file_that_has_gone(shared, client):
    client.call("config-merge", {"greeter": {"greeting": "kept"}})
    shared.place.file.unlink()
    assert "No such file" in client.ask("config-reload").text
    assert client.call("greet") == {"greeting": "kept"}
    client.call("config-write")
    client.call("config-reload")
    assert client.call("greet") == {"greeting": "kept"}


def test_the_control_socket_moves_with_its_clients(shared, client):
    elsewhere = f"{shared.place.directory}/elsewhere"
    client.call("config-set", {"greeter": {"control-socket": {"path": elsewhere}}})
    assert client.call("status-get")["control"]["path"] == elsewhere
    assert not os.path.exists(shared.path)
    shared.path = elsewhere
    assert shared.call("greet") and stat.S_IMODE(os.stat(elsewhere).st_mode) == 0o600


def test_a_control_socket_that_moved_in_vain_is_where_it_was(shared, client):
    elsewhere = f"{shared.place.directory}/elsewhere"
    section = {"control-socket": {"path": elsewhere}, "logging": {"file": f"{elsewhere}.log"}, "refuse": "configure"}
    assert client.ask("config-set", {"greeter": section}).result == 1
    assert not os.path.exists(elsewhere) and shared.call("statistic-reset") == ""
    assert "'statistic-reset'" in shared.log(), "and so is the log"


def test_a_control_socket_that_was_removed_comes_back(shared):
    os.unlink(shared.path)
    shared.process.send_signal(signal.SIGHUP)
    until(lambda: os.path.exists(shared.path))
    assert shared.call("greet")


def test_the_log_follows_its_settings(shared, client):
    elsewhere = shared.place.directory / "elsewhere"
    client.call("config-set", {"greeter": {"logging": {"file": str(elsewhere), "level": "info"}}})
    client.call("statistic-reset")
    client.call("greet")
    assert "'statistic-reset'" in elsewhere.read_text() and "'statistic-reset'" not in shared.log()
    assert "'greet'" not in elsewhere.read_text(), "what only reads is not to fill the log"
    elsewhere.rename(f"{elsewhere}.1")
    client.call("statistic-reset")
    assert "'statistic-reset'" in elsewhere.read_text(), "a log that was moved away is begun anew"
    client.call("config-set", {"greeter": {"logging": {"file": str(elsewhere), "level": "error"}}})
    size = elsewhere.stat().st_size
    client.call("statistic-reset")
    assert elsewhere.stat().st_size == size


# --- secrets ---------------------------------------------


def test_a_redacted_configuration_is_not_put_in_force(client):
    answer = client.ask("config-set", {"greeter": {"database": {"password": "*****"}}})
    assert answer.result == 1 and "was redacted" in answer.text


def test_no_secret_reaches_the_log(shared, client):
    given = {"greeter": {"database": {"password": SECRET}}}
    client.call("config-set", given)
    assert client.call("config-get")["greeter"]["database"]["password"] == SECRET, "whoever may write may see"
    client.ask("crash")
    client.ask("config-set", {"greeter": {"database": {"password": f"other-{SECRET}"}, "refuse": "configure"}})
    client.ask("config-set", {"greeter": {"database": {"password": f"third-{SECRET}"}, "refuse": "check"}})
    client.ask("config-set", {"greeter": {"database": {"password": f"4th-{SECRET}", "port": 1}}})
    shared.process.send_signal(signal.SIGHUP)
    until(lambda: client.call("config-get")["greeter"]["database"]["password"] == "")
    log = shared.log()
    assert SECRET not in log
    assert "Traceback" in log and "with *****" in log and "'password': *****" in log


# --- the end ---------------------------------------------


@pytest.mark.parametrize("how", ["normal", "now"])
def test_shutdown(daemon, how):
    answer = daemon.ask("shutdown", {"type": how, "exit-value": 9})
    assert (answer.result, answer.text) == (0, "greeter is stopping")
    code, out, _ = daemon.end()
    assert (code, out) == (9, f"stopped: {how}\n")
    assert list((daemon.place.runtime / "kvoshim").iterdir()) == []


def test_drain(place):
    place.write(greeting="wait")
    daemon = place.start()
    with daemon.client() as client:
        assert client.ask("shutdown", {"type": "drain"}).text == "greeter is draining"
        assert client.call("status-get")["state"] == "draining"
        client.call("done")
    assert daemon.end()[:2] == (0, "stopped: drain\n")


def test_draining_is_cut_short_by_a_second_word(place):
    place.write(greeting="wait")
    daemon = place.start()
    daemon.call("shutdown", {"type": "drain"})
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.end()[:2] == (0, "stopped: now\n")


def test_draining_with_nothing_to_do(daemon):
    daemon.call("shutdown", {"type": "drain"})
    assert daemon.end()[:2] == (0, "stopped: drain\n")


def test_call_raises_with_the_answers_code(client):
    with pytest.raises(ControlError) as caught:
        client.call("no-such-thing")
    assert caught.value.result == 2
    assert msgspec.to_builtins(client.ask("greet")) == {"result": 0, "arguments": {"greeting": "hello"}}
