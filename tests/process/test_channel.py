"""The control channel as a socket: who may come in, how much they may send, and that nobody holds up anybody."""

import json
import os
import resource
import socket
import subprocess
import sys
import time

import psutil
import pytest
from process_harness import WAIT_S, alive, until

from kvoshim.process.access import Caller, Policy, Role
from kvoshim.process.model import Access

GREET = b'{"command": "greet"}'
HELLO = {"result": 0, "arguments": {"greeting": "hello"}}
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can call as another user")


class Raw:
    """A client that sends bytes as it likes, on the kernel's own socket."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(WAIT_S)
        try:
            self.sock.connect(path)
        except OSError:
            self.sock.close()
            raise
        self.file = self.sock.makefile("rb")

    def send(self, data):
        self.sock.sendall(data)
        return self

    def answer(self):
        line = self.file.readline()
        return json.loads(line) if line else None

    def refusal(self):
        """The text of an answer behind which the connection ends."""
        answer = self.answer()
        assert answer["result"] == 1
        try:
            assert self.answer() is None
        except ConnectionResetError:  # what we sent was not read to its end
            pass
        return answer["text"]

    def close(self):
        self.file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()




@pytest.mark.parametrize("kind", ["greeter", "asyncio", "standard", "uvloop"])
def test_on_all_kinds_of_loop(place, kind):
    daemon = place.start(kind=kind)
    with daemon.client() as client, Raw(daemon.path) as raw:
        assert raw.send(b'{"command": "status-get"}').answer()["arguments"]["state"] == "running"
        for _ in range(3):
            assert client.call("greet") == {"greeting": "hello"}
            assert raw.send(GREET).answer() == HELLO
        assert client.connection_id is not None, "commands travel through shared memory"
        assert len(client.call("fill", {"size": 3_000_000})["text"]) == 3_000_000
        place.write(greeting="new")
        daemon.process.send_signal(1)
        until(lambda: client.call("greet") == {"greeting": "new"})
        client.call("shutdown", {"type": "drain"})
    assert daemon.end()[:2] == (0, "stopped: drain\n")


def test_commands_as_people_write_them(daemon):
    with Raw(daemon.path) as raw:
        for byte in b' \n# hello\n{ "command" /* \n } */ : "greet", // }\n "service": ["greeter"]\n}':
            raw.send(bytes([byte]))
        assert raw.answer() == HELLO
        assert "is meant for 'other'" in raw.send(b'{"command": "greet", "service": ["other"]}').answer()["text"]
        raw.send(GREET * 500 + b" # the end")
        raw.sock.shutdown(socket.SHUT_WR)
        assert [raw.answer() for _ in range(500)] == [HELLO] * 500
        assert raw.answer() is None
    alive(daemon)


@pytest.mark.parametrize(
    "data, problem",
    [
        (b'{"command": "greet", "command": "greet"}', "command:1:22: the key 'command' stands here a second time"),
        (b'{"command": "\xff"}', "command:1:14: this is not UTF-8"),
        (b"{}", "missing required field `command`"),
        (b'{"command": 5}', "Expected `str`"),
        (b'{"command": "greet", "args": {}}', "unknown field `args`"),
        (b'{"command": "greet", "arguments": {"x": <?include "/etc/passwd"?>}}', "an include is not allowed here"),
        (b'{"command": "greet", "arguments": NaN}', "NaN is no JSON"),
        (b'{"command": 1e999}', "too large"),
        (b'{"command": "greet"]', "Expecting ',' delimiter"),
    ],
)
def test_a_command_that_is_wrong_is_answered_and_the_next_one_done(shared, data, problem):
    with Raw(shared.path) as raw:
        answer = raw.send(data).answer()
        assert answer["result"] == 1 and problem in answer["text"]
        assert raw.send(GREET).answer() == HELLO


@pytest.mark.parametrize(
    "data, problem",
    [
        (b"hello\n", "a command is a JSON object"),
        (b"[{}]", "a command is a JSON object"),
        (GREET + b"}", "a command is a JSON object"),
        (b'{"a":' * 65, "64 levels"),
        (b"{" + b"[" * 200_000, "64 levels"),
        (b'{"a": "' + b"x" * (1 << 20), "1048576 bytes"),
        (b"#" + b"x" * (1 << 20), "1048576 bytes"),
        (b"/x", "a command is a JSON object"),
    ],
)
def test_what_is_no_command_ends_the_connection(shared, data, problem):
    with Raw(shared.path) as raw:
        try:
            raw.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has seen enough
        if data.startswith(GREET):
            assert raw.answer() == HELLO
        assert problem in raw.refusal()
    assert shared.call("greet")


def test_the_largest_command(shared):
    with Raw(shared.path) as raw:
        data = b'{"command": "greet", "arguments": {"x": "%s"}}'
        data = data % (b"x" * ((1 << 20) - len(data) + 2))
        assert len(data) == 1 << 20
        assert "unknown field `x`" in raw.send(data).answer()["text"]


def test_fifty_clients_with_commands_half_sent(shared):
    clients = [Raw(shared.path) for _ in range(50)]
    try:
        for client in clients:
            client.send(GREET[:9])
        assert shared.call("greet") == {"greeting": "hello"}
        for client in clients:
            client.send(GREET[9:])
        assert [client.answer() for client in clients] == [HELLO] * 50
    finally:
        for client in clients:
            client.close()


def test_a_client_that_is_slow_is_closed_and_an_idle_one_is_not(place):
    place.write(**{"control-socket": {"timeout-s": 0.05}})
    daemon = place.start()
    with Raw(daemon.path) as idle, Raw(daemon.path) as slow, Raw(daemon.path) as deaf:
        assert idle.send(GREET).answer() == HELLO
        assert slow.send(GREET + b"{").answer() == HELLO
        assert slow.refusal() == "no whole command came within 0.05 s"
        deaf.send(b'{"command": "fill", "arguments": {"size": 50000000}}')
        until(lambda: daemon.log().count("it was too slow") == 2)
        alive(daemon, clients=2)
        assert idle.send(GREET).answer() == HELLO
        received = 0
        while data := deaf.sock.recv(1 << 20):
            received += len(data)
        assert 0 < received < 50_000_000


def test_a_client_that_takes_nothing_stops_being_read(shared):
    """It could otherwise fill the daemon's memory with commands, or with answers."""
    with Raw(shared.path) as deaf:
        deaf.sock.setblocking(False)
        command = b'{"command": "fill", "arguments": {"size": 100000}}'
        sent = 0
        with pytest.raises(BlockingIOError):
            while sent < 64 << 20:
                sent += deaf.sock.send(command * 100)
        assert shared.call("greet")


def test_clients_that_are_killed_leave_nothing(shared):
    code = (
        "import os, socket, sys\nsocks = [socket.socket(socket.AF_UNIX) for _ in range(10)]\n"
        "for n, s in enumerate(socks):\n s.connect(sys.argv[1]); s.sendall(b'{\"command\": \"greet\"}' * n + b'{\"com' * (n % 2))\n"
        "os.kill(os.getpid(), 9)"
    )
    for _ in range(3):
        subprocess.run([sys.executable, "-c", code, shared.path], timeout=WAIT_S, check=False)
    alive(shared)


def test_an_idle_daemon_with_idle_clients_does_not_wake_up(shared):
    with shared.client() as client, Raw(shared.path) as raw:
        client.call("greet")
        raw.send(GREET).answer()
        process = psutil.Process(shared.process.pid)
        until(lambda: process.status() == psutil.STATUS_SLEEPING)
        time.sleep(0.2)  # the last turn's end
        before = process.num_ctx_switches().voluntary
        time.sleep(0.5)
        assert process.num_ctx_switches().voluntary == before


def test_want_of_descriptors_passes(place):
    daemon = place.start()
    open_now = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (open_now + 3, open_now + 3))
    clients = [Raw(daemon.path) for _ in range(8)]
    for client in clients:
        client.send(GREET)
    until(lambda: "no further control connection can be taken" in daemon.log())
    for client in clients:
        assert client.answer() == HELLO
        client.close()
    alive(daemon)


# --- who ---------------------------------------------


def policy(*rules):
    return Policy(tuple(Access(**rule) for rule in rules))


def test_roles():
    me, other = Caller(1, os.geteuid(), frozenset()), Caller(2, 70001, frozenset([80001, 80002]))
    assert policy().role_of(me) is Role.WRITE and policy().role_of(other) is Role.NONE
    assert policy().role_of(Caller(3, 0, frozenset())) is Role.WRITE
    assert policy({"role": "read", "user": 70001}).role_of(other) is Role.READ
    assert policy({"role": "write", "user": 70002}).role_of(other) is Role.NONE
    assert policy({"role": "read", "user": "*"}).role_of(other) is Role.READ
    assert policy({"role": "read", "user": "*"}, {"role": "write", "group": 80002}).role_of(other) is Role.WRITE
    assert policy({"role": "write", "user": 70001}, {"role": "read", "user": 70001}).role_of(other) is Role.WRITE
    assert policy({"role": "read", "user": "root"}).for_others and not policy().for_others


class As:
    """This process calls as another user while it is inside."""

    def __init__(self, uid, groups=()):
        self.ids = uid, list(groups)

    def __enter__(self):
        self.groups = os.getgroups()
        os.setgroups(self.ids[1])
        os.setegid(NOBODY)
        os.seteuid(self.ids[0])

    def __exit__(self, *_):
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(self.groups)


def open_to_all(place, *access, **settings):
    path = str(place.directory / "ctl")
    place.directory.chmod(0o755)
    place.write(**{"control-socket": {"path": path, "access": access, "clients": 6}, **settings})
    daemon = place.start()
    daemon.path = path
    return daemon


@as_root
def test_a_stranger_is_refused(place):
    daemon = open_to_all(place, {"user": 70001, "role": "read"})
    with As(NOBODY), Raw(daemon.path) as stranger:
        assert f"user {NOBODY} may not use this control channel" in stranger.refusal()
    assert daemon.call("status-get")["control"]["refused"] == 1
    daemon.call("config-set", {"greeter": {"control-socket": {"path": daemon.path}}})
    with As(NOBODY), pytest.raises(PermissionError):
        Raw(daemon.path)


@as_root
def test_a_reader_reads_without_secrets_and_changes_nothing(place):
    secret = "hunter2hunter2"
    daemon = open_to_all(place, {"group": 80001, "role": "read"}, database={"password": secret})
    with As(NOBODY, [1, 80001]):
        client = daemon.client()
    with client:
        names = client.call("list-commands")
        assert "config-get" in names and not {"config-set", "shutdown", "config-test"} & set(names)
        assert client.call("status-get")["control"]["role"] == "read"
        assert client.call("config-get")["greeter"]["database"] == {"host": "localhost", "password": "*****"}
        hashes = {client.call("config-get")["hash"], client.call("config-hash-get")["hash"]}
        hashes.add(client.call("status-get")["configuration"]["hash"])
        daemon.call("config-set", {"greeter": {**daemon.call("config-get")["greeter"], "database": {"password": "another"}}})
        assert hashes == {client.call("config-hash-get")["hash"]}, "a hash of secrets would let them be guessed"
        assert daemon.call("config-hash-get")["hash"] not in hashes
        daemon.call("config-reload")
        assert client.call("leak") == {"told": ["the password is *****"]}
        assert daemon.call("leak") == {"told": [f"the password is {secret}"]}
        for name in ("config-set", "config-write", "shutdown", "crash", "statistic-reset"):
            answer = client.ask(name)
            assert answer.result == 1 and "needs the role 'write'" in answer.text
        daemon.call("config-set", {"greeter": {"control-socket": {"path": daemon.path, "clients": 6}}})
        assert "any more" in client.ask("greet").text, "the rules in force count, not those at the beginning"
    assert secret not in daemon.log()


@as_root
def test_readers_leave_room_for_those_who_write(place):
    daemon = open_to_all(place, {"user": "*", "role": "read"})
    with As(NOBODY):
        readers = [Raw(daemon.path) for _ in range(3)]
        for reader in readers:
            assert reader.send(GREET).answer() == HELLO
        with Raw(daemon.path) as fourth:
            assert "3 connections of callers that may only read" in fourth.refusal()
    writers = [Raw(daemon.path) for _ in range(3)]
    for writer in writers:
        assert writer.send(GREET).answer() == HELLO
    with Raw(daemon.path) as seventh:
        assert "6 connections are open already" in seventh.refusal()
    assert readers[0].send(b'{"x": "' + b"x" * 70_000).refusal() == "a command may have 65536 bytes"
    for client in readers + writers:
        client.close()
    alive(daemon)
