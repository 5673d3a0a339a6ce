"""kvoshim registry on the command line."""

import json
import os
import signal
import subprocess
import sys

from registry_harness import WAIT_S, until

from kvoshim import registry


def start(stage, *arguments):
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "kvoshim", "registry", *arguments], env=stage.environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def end(process, number=signal.SIGTERM):
    process.send_signal(number)
    out, err = process.communicate(timeout=WAIT_S)
    return out, err


def test_list_and_find(stage):
    assert "nothing is registered" in stage.kvoshim("registry", "list").stdout
    with registry.register("engine", address="/run/e", version="1.0.0", metadata={"zone": "a"}), registry.register("engine"):
        text = stage.kvoshim("registry", "list", COLUMNS="200").stdout
        assert "engine" in text and "owner" in text and "waiting" in text and "/run/e" in text and "zone=a" in text
        entries = json.loads(stage.kvoshim("registry", "list", "--json").stdout)
        assert [(entry["name"], entry["serial"], entry["owner"]) for entry in entries] == [("engine", 1, True), ("engine", 2, False)]
        assert entries[0]["metadata"] == {"zone": "a"} and entries[0]["pid"] == os.getpid()
        found = stage.kvoshim("registry", "find", "eng*", "--owner").stdout
        assert found == f"engine\t1\t{os.getpid()}\t/run/e\t{os.uname().nodename}\n"
        assert len(json.loads(stage.kvoshim("registry", "find", "engine", "--json").stdout)) == 2
    done = stage.kvoshim("registry", "find", "engine", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    done = stage.kvoshim("registry", "find", "", check=False)
    assert done.returncode == 1 and "a pattern has 1 to 255 bytes" in done.stderr


def test_what_others_call_themselves_is_no_markup(stage):
    with registry.register("(bold)red", metadata={"x": "[red]"}):
        assert "[red]" in stage.kvoshim("registry", "list", COLUMNS="200").stdout


def test_watch(stage):
    with registry.register("engine", address="/e"):
        watch = start(stage, "watch", "--json")
        lines = [json.loads(watch.stdout.readline()) for _ in range(2)]
        assert [line["kind"] for line in lines] == ["present", "end"] and lines[0]["entry"]["address"] == "/e"
        with registry.register("other"):
            line = json.loads(watch.stdout.readline())
            assert (line["kind"], line["entry"]["name"]) == ("added", "other")
        assert json.loads(watch.stdout.readline())["kind"] == "removed"
        end(watch, signal.SIGINT)
        assert watch.returncode == 0
    text = start(stage, "watch", "engine", "--count", "1")
    assert "that is all for now" in text.stdout.readline()
    with registry.register("engine"):
        out, _ = text.communicate(timeout=WAIT_S)
    assert "added" in out and f"PID {os.getpid()}" in out and text.returncode == 0


def test_register_for_as_long_as_a_command_runs(stage):
    process = start(stage, "register", "--address", "/j", "--metadata", "n=3", "--metadata", "text=a b", "job", "--", "sleep", "600")
    entry = until(lambda: registry.owner("job"))
    assert (entry.address, entry.metadata, entry.pid) == ("/j", {"n": 3, "text": "a b"}, process.pid)
    end(process)
    assert process.returncode == 128 + signal.SIGTERM
    until(lambda: registry.owner("job") is None)
    assert stage.kvoshim("registry", "register", "job", "--json", check=False).returncode == 2
    done = stage.kvoshim("registry", "register", "job", "--", "sh", "-c", "exit 7", check=False)
    assert done.returncode == 7
    done = stage.kvoshim("registry", "register", "job", "--", "/no/such/command", check=False)
    assert done.returncode == 127 and "No such file" in done.stderr


def test_register_until_interrupted(stage):
    process = start(stage, "register", "--json", "--allow-replacement", "job")
    assert json.loads(process.stdout.readline())["pid"] == process.pid
    with registry.register("job", replace=True):
        assert "has lost its name" in [process.stderr.readline(), process.stderr.readline()][1]
    end(process, signal.SIGINT)
    assert process.returncode == 0
    with registry.register("job"):
        done = stage.kvoshim("registry", "register", "--no-queue", "job", check=False)
        assert done.returncode == 1 and "is owned by PID" in done.stderr


def test_ping(stage):
    assert stage.kvoshim("registry", "ping", "engine", check=False).returncode == 1
    peer = stage.peer()
    peer.do("register", "engine", {})
    assert f"engine #1 (PID {peer.pid}):" in stage.kvoshim("registry", "ping", "engine").stdout
    (answer,) = json.loads(stage.kvoshim("registry", "ping", "*", "--json", "--statistics").stdout)
    assert answer["pid"] == peer.pid and answer["seconds"] > 0 and answer["statistics"]["program"] == {"answer": 42}
    os.kill(peer.pid, signal.SIGSTOP)
    done = stage.kvoshim("registry", "ping", "engine", "--timeout", "0.2", check=False)
    os.kill(peer.pid, signal.SIGCONT)
    assert done.returncode == 1 and "has not answered within 0.2 s" in done.stdout


def test_the_daemon_on_the_command_line(stage):
    daemon = stage.serve()
    done = stage.kvoshim("registry", "serve", check=False)
    assert done.returncode == 3 and f"PID {daemon.pid}" in done.stderr
    good = stage.configure(**{"settle-s": 1})
    assert stage.kvoshim("registry", "serve", "--check", "--config", str(good)).stdout.endswith("is valid\n")
    done = stage.kvoshim("registry", "serve", "--check", "--config", str(stage.configure(**{"settle-s": 1000})), check=False)
    assert done.returncode == 4 and "settle-s" in done.stderr
    done = stage.kvoshim("registry", "serve", "--check", "--config", str(stage.configure(access=[{"allow": ["find"]}])), check=False)
    assert done.returncode == 4 and "one of user and group" in done.stderr
    with registry.register("engine"):
        status = stage.ask("status-get")
        assert status["entries"] == 1 and status["clients"] == 1 and status["scope"] == "user" and status["settled"]
        assert stage.ask("statistic-get", {"name": "registrations"})["registrations"][0][0] == 1
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(WAIT_S) == 0


def test_a_registry_that_nobody_uses_ends(stage):
    daemon = stage.serve("--idle-exit", "0.2")
    assert daemon.wait(WAIT_S) == 0
