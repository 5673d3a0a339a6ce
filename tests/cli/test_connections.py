"""kvoshim connections: the statistics segments of real processes, as a shell sees them."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
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


def command(*words: str) -> shimlib.Result:
    return shimlib.run([KVOSHIM, *words]).check()


def shown(pids, *words) -> list[dict]:
    return [one for one in json.loads(command("connections", "--json", *words).out) if one["pid"] in pids]


def files(pids) -> list[Path]:
    return [p for p in Path("/dev/shm").glob("kvoshim-stats-*") if int(p.name.split("-")[3]) in pids]


def idle(room, shim, way="recv", **env):
    return shimlib.Server([str(snippetlib.compiled("idle", "programs")), way], shim, room / "out",
                          SNIPPET_PATH=str(room / "s.sock"), **env)


def pids_of(server) -> list[int]:
    server.wait_until(lambda: server.output.read_bytes().count(b"\n") == 2)
    return [int(line.split()[1]) for line in server.output.read_text().splitlines()]


def test_both_ends_of_a_connection_are_shown(room):
    with idle(room, room.shim()) as server:
        pids = pids_of(server)
        ends = {one["connections"][0]["side"]: one for one in shown(pids)}
        assert set(ends) == {"client", "server"}
        client, serving = (ends[side]["connections"][0] for side in ("client", "server"))
        for one, other in ((ends["client"], ends["server"]), (ends["server"], ends["client"])):
            mine = one["connections"][0]
            assert mine["path"] == str(room / "s.sock") and mine["state"] == "live" and mine["reason"] is None
            assert mine["id"] <= -100 and one["accelerated"] == 1 and one["refused"] == {}
            assert mine["peer_pid"] == other["pid"] and one["program"] == mine["peer_program"] == "idle"
        assert client["sent"] == serving["received"] > 0 and client["received"] == serving["sent"] > 0
        assert client["sends"] > 0 and serving["receives"] > 0
        assert client["bells"] + client["bells_saved"] >= client["sends"] - serving["receives"]
        table = command("connections", "--all").out.decode()
        assert str(room / "s.sock") in table and "accelerated" in table
        for file in files(pids):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_plain_connections_tell_their_reason(room):
    """A shimmed client of an unshimmed server."""
    script = ("import os, socket, sys\npath = os.environ['SNIPPET_PATH']\n"
              "listener = socket.socket(socket.AF_UNIX)\nlistener.bind(path)\nlistener.listen()\nprint('idle 0', flush=True)\n"
              "one, _ = listener.accept()\nwhile data := one.recv(100):\n    one.sendall(data)\n")
    client = ("import os, socket, time\ns = socket.socket(socket.AF_UNIX)\ns.connect(os.environ['SNIPPET_PATH'])\n"
              "for _ in range(20):\n    s.sendall(b'12345')\n    s.recv(100)\nprint('idle', os.getpid(), flush=True)\ns.recv(1)\n")
    path = {"SNIPPET_PATH": str(room / "s.sock")}
    with shimlib.Server([sys.executable, "-c", script], None, room / "server", **path) as server:
        server.wait_until(lambda: server.output.read_bytes().startswith(b"idle"))
        with shimlib.Server([sys.executable, "-c", client], room.shim(), room / "client", **path) as shimmed:
            shimmed.wait_until(lambda: shimmed.output.read_bytes().startswith(b"idle"))
            one, = shown([shimmed.pid])
            assert one["refused"] == {"no-offer": 1} and one["accelerated"] == 0
            connection, = one["connections"]
            assert (connection["state"], connection["reason"]) == ("plain", "no-offer")
            assert (connection["sent"], connection["received"], connection["sends"]) == (100, 100, 20)
            assert "plain: no-offer" in command("connections").out.decode()


def test_killed_processes_leave_nothing_after_the_next_command(room):
    with idle(room, room.shim()) as server:
        pids = pids_of(server)
        assert len(files(pids)) == 2
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        server.process.wait()
        assert not shown(pids)
        assert not files(pids)


def test_the_next_shimmed_process_removes_what_killed_ones_left(room):
    with idle(room, room.shim()) as server:
        pids = pids_of(server)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        server.process.wait()
        while any(Path(f"/proc/{pid}").exists() for pid in pids):  # the child is reaped by whoever inherits it
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pass
            time.sleep(0.01)
    where = room.new_dir("next")
    shimlib.run(snippetlib.command("io_calls"), room.shim(), SNIPPET_PATH=str(where / "s.sock")).check()
    assert not files(pids)


@pytest.mark.parametrize("setting, there", [("off", 0), ("on", 2)])
def test_the_setting(room, setting, there):
    with idle(room, room.shim(KVOSHIM_STATS=setting)) as server:
        pids = pids_of(server)
        assert len(files(pids)) == there
        assert len(shown(pids)) == there


def test_what_others_put_there_is_neither_shown_nor_believed(room):
    """Rubbish under the name of a process without statistics, a pipe: no harm, no row."""
    with subprocess.Popen(["sleep", "100"]) as other:
        namespace = os.stat("/proc/self/ns/pid").st_ino
        name, pipe = (Path(f"/dev/shm/kvoshim-stats-{user}-{other.pid}-{namespace}") for user in (os.getuid(), 7))
        try:
            os.mkfifo(pipe)
            for content in (b"", b"KVOSTAT1", os.urandom(70000)):
                name.write_bytes(content)
                assert shown([other.pid], "--all") == []
        finally:
            pipe.unlink(missing_ok=True)
            name.unlink(missing_ok=True)
            other.kill()


def test_watch_prints_again_until_interrupted():
    watching = subprocess.Popen([KVOSHIM, "connections", "--json", "--watch", "0.05"], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)
    with watching:
        assert all(isinstance(json.loads(watching.stdout.readline()), list) for _ in range(3))
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 130
        assert watching.stderr.read() == ""


@pytest.mark.parametrize("words", [["--watch", "0"], ["--watch", "-1"], ["--nonsense"]])
def test_wrong_usage(words):
    assert shimlib.run([KVOSHIM, "connections", *words]).status == 2


_MANY = """
import os, socket, sys
path, way = os.environ["SNIPPET_PATH"], sys.argv[1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(200)
ends = []
for _ in range(100 if way == "many" else 1):
    a = socket.socket(socket.AF_UNIX)
    a.connect(path)
    b, _ = listener.accept()
    for _ in range(10):
        a.sendall(b"12345678"), b.recv(100), b.sendall(b"12"), a.recv(100)
    ends += [a, b]
a, b = ends[:2]
if way == "forked" and os.fork() == 0:
    b.sendall(b"123")
    print(f"idle {os.getpid()}\\n", end="", flush=True)
    b.recv(1)
    os._exit(0)
if way == "forked":
    a.recv(3)
print(f"idle {os.getpid()}\\n", end="", flush=True)
a.recv(1)
"""


def many(room, way):
    return shimlib.Server([sys.executable, "-c", _MANY, way], room.shim(), room / "out", SNIPPET_PATH=str(room / "s.sock"))


def test_the_segment_grows(room):
    with many(room, "many") as server:
        server.wait_until(lambda: b"\n" in server.output.read_bytes())
        one, = shown([server.pid])
        assert sorted(c["id"] for c in one["connections"]) == list(range(-299, -99))
        assert one["accelerated"] == 200 and {c["state"] for c in one["connections"]} == {"live"}
        for c in one["connections"]:
            assert (c["sent"], c["received"]) == ((80, 20) if c["side"] == "client" else (20, 80))


def test_a_forked_child_has_its_own(room):
    with many(room, "forked") as server:
        pids = pids_of(server)
        child, = set(pids) - {server.pid}
        while len(files(pids)) < 2:  # it shows what it has inherited once it waits
            time.sleep(0.01)
        rows = {one["pid"]: {c["side"]: c for c in one["connections"]} for one in shown(pids)}
        assert rows[server.pid]["client"]["sent"] == 80 and rows[server.pid]["server"]["sent"] == 20
        assert rows[child]["server"]["sent"] == 3 and rows[child]["client"]["sent"] == 0
        assert rows[child]["server"]["path"] == str(room / "s.sock")
        os.kill(child, signal.SIGKILL)
