"""kvoshim doctor on real programs, processes and sockets."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import shimlib
import snippetlib

KVOSHIM = str(Path(sys.executable).parent / "kvoshim")


@pytest.fixture
def room():
    p = shimlib.Place()
    yield p
    p.remove()


def doctor(*words) -> tuple[int, str]:
    """Exit status, and the first finding (or what went to standard error)."""
    done = shimlib.run([KVOSHIM, "doctor", "--json", *map(str, words)])
    if not done.out:
        return done.status, done.err.decode()
    said = json.loads(done.out)
    assert said["can"] == (done.status == 0)
    return done.status, said["findings"][0]["text"]


def compile_to(path, *options):
    path.with_suffix(".c").write_text("int main(void) { return 0; }\n")
    subprocess.run(["cc", *options, "-o", path, path.with_suffix(".c")], check=True)
    return path


def test_programs(room):
    assert doctor(compile_to(room / "dynamic"))[0] == 0
    assert doctor("sh")[0] == 0
    status, reason = doctor(compile_to(room / "static", "-static"))
    assert status == 1 and "statically linked" in reason
    status, reason = doctor(compile_to(room / "pie", "-static-pie"))
    assert status == 1 and "statically linked" in reason
    foreign = bytearray((room / "dynamic").read_bytes())
    foreign[18] ^= 1
    (room / "foreign").write_bytes(foreign)
    (room / "foreign").chmod(0o755)
    assert "another architecture" in doctor(room / "foreign")[1]


@pytest.mark.parametrize("line, status", [("#!/bin/sh", 0), ("#!/usr/bin/env sh", 0), ("#!/no/such/interpreter", 1), ("echo", 1)])
def test_scripts(room, line, status):
    script = room / "script"
    script.write_text(f"{line}\n")
    script.chmod(0o755)
    assert doctor(script)[0] == status


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("mode, word", [(0o4755, "setuid"), (0o2755, "setgid")])
def test_setuid_programs(room, mode, word):
    program = compile_to(room / "program")
    os.chown(program, 1, 1)
    program.chmod(mode)
    status, reason = doctor(program)
    assert status == 1 and word in reason


def test_processes(room):
    shim = room.shim()
    with shimlib.Server(["sleep", "1000"], None, room / "plain") as plain, \
            shimlib.Server(["sleep", "1000"], shim, room / "shimmed") as shimmed:
        shimmed.wait_until(lambda: "libkvoshim" in Path(f"/proc/{shimmed.pid}/maps").read_text())
        assert doctor(shimmed.pid)[0] == 0
        status, reason = doctor(plain.pid)
        assert status == 1 and "kvoshim run" in reason


def test_listeners(room):
    """A path can be accelerated when its server can."""
    for shim, status in ((None, 1), (room.shim(), 0)):
        path = room / f"s{status}.sock"
        with shimlib.Server([str(snippetlib.compiled("idle", "programs")), "recv"], shim, room / f"out{status}",
                            SNIPPET_PATH=str(path)) as server:
            server.wait_until(lambda: server.output.read_bytes().count(b"\n") == 2)  # noqa: B023
            assert (doctor(path)[0], path) == (status, path)


def test_paths(room):
    there = room / "s.sock"
    assert doctor(there)[0] == 0, "a socket that is not there yet"
    assert doctor("--paths", "/elsewhere/*", there)[1] == "KVOSHIM_PATHS (/elsewhere/*) does not select it"
    assert "unusable" in doctor("--paths", "/tmp/[", there)[1]
    assert "has 130 bytes" in doctor("/tmp/" + "x" * 125)[1]
    assert doctor("/no/such/directory/s.sock")[0] == 1
    (room / "file").write_text("")
    assert doctor(room / "file") == (1, "it is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(str(there))
        assert "SOCK_STREAM" in doctor(there)[1]


@pytest.mark.parametrize("words", [["no-such-command-anywhere"], ["4194304999"], []])
def test_nothing_of_that_name_is_wrong_usage(words):
    status, message = doctor(*words)
    assert status == 2 and "kvoshim doctor: " in message and "Traceback" not in message
