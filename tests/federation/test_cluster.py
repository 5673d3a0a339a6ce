"""An operator's own NATS servers, in place of one of each host: hosts that share no home, and the registry of all users of a host."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
from hosts_harness import names
from registry_harness import until

from kvoshim.errors import ConfigurationError
from kvoshim.federation.server import program
from kvoshim.registry import seat
from kvoshim.registry.daemon import remote
from kvoshim.registry.daemon.settings import Cluster, HostsSettings

SECRET = "correct-horse-battery"


@pytest.fixture
def cluster(world):
    """An operator's server at the hub, with a user and a password."""
    path = world.directory / "operator.conf"
    path.write_text(
        f'host: "10.77.0.254"\nport: 4222\njetstream {{ store_dir: "{world.directory}/operator" }}\n'
        f'log_file: "{world.directory}/operator.log"\nauthorization {{ user: kvoshim, password: "{SECRET}" }}\n'
    )

    def start():
        return subprocess.Popen(["ip", "netns", "exec", world.hub, program(""), "-c", str(path)])

    running = [start()]

    def again():
        running[0].kill()
        running[0].wait()
        running[0] = start()

    yield {"servers": ["nats://10.77.0.254:4222"], "user": "kvoshim", "password": SECRET}, again
    running[0].kill()
    running[0].wait()


def two(world, **hosts):
    alpha, beta = world.host("alpha", world.new_home("one")), world.host("beta", world.new_home("two"))
    for host in (alpha, beta):
        host.up(**hosts)
    until(lambda: alpha.status()["hosts"] == {"beta": "here"} and beta.status()["hosts"] == {"alpha": "here"})
    return alpha, beta


def test_hosts_without_a_common_home_meet_in_an_operators_cluster(world, cluster):
    named, again = cluster
    alpha, beta = two(world, cluster=named)
    a, b = alpha.peer(), beta.peer()
    a.do("register", "one", {})
    b.do("register", "two", {})
    everything = [("one", "alpha"), ("two", "beta")]
    for peer in (a, b):
        until(lambda: names(peer) == everything)
    assert b.do("ask", "one", "statistics")["program"] == {"answer": 42}
    assert alpha.status()["server"] == 0 and alpha.status()["links"] == {"the cluster": ""}
    again()  # its memory is lost: the owners tell it anew
    a.do("register", "three", {})
    until(lambda: names(b) == [("one", "alpha"), ("three", "alpha"), ("two", "beta")])
    beta.link("down")
    until(lambda: names(a) == [("one", "alpha"), ("three", "alpha")])
    beta.link("up")
    until(lambda: len(names(a)) == 3)
    # The password is nowhere to be read.
    assert SECRET not in alpha.log_text() + beta.log_text() and "*****" in alpha.log_text()
    for process in alpha.processes():
        assert SECRET not in " ".join(process.cmdline()) + str(process.environ())


def test_the_global_file_names_the_cluster_of_a_hosts_registry(world, cluster):
    """Applications reach other hosts through the registry of theirs, and by no other way."""
    named, _ = cluster
    alpha, beta = world.host("alpha", world.new_home("one")), world.host("beta", world.new_home("two"))
    for host in (alpha, beta):
        directory = host.directory / "host"
        text = json.dumps({"host": {"directory": str(directory)}, "remote": {"host": named}})
        (host.directory / "registry.json").write_text(text)
        host.up(options=("--scope", "host"))
    a, b = alpha.peer(), beta.peer()
    a.do("register", "everywhere", {"reach": "host"})
    until(lambda: [entry["host"] for entry in b.do("find", "everywhere", "host")] == ["alpha"])
    assert b.do("find", "everywhere", "host")[0]["reach"] == "host" and names(b) == []
    assert SECRET not in alpha.log_text() + beta.log_text()


def test_who_is_not_admitted_is_told_in_the_log(world, cluster):
    named, _ = cluster
    alpha = world.host("alpha")
    alpha.up(cluster=named | {"password": "wrong-password"})
    until(lambda: "Authorization" in alpha.status()["links"].get("the cluster", ""))
    assert "wrong-password" not in alpha.log_text()


def test_a_server_that_is_too_old_is_refused(world):
    code = textwrap.dedent("""
        import socket
        listening = socket.create_server(("10.77.0.254", 4222))
        print("up", flush=True)
        while True:
            sock, _ = listening.accept()
            sock.sendall(b'INFO {"server_id": "x", "version": "2.9.10", "max_payload": 65536, "proto": 1, "headers": true}\\r\\n')
            data = b""
            while b"PING" not in data:
                data += sock.recv(4096)
            sock.sendall(b"PONG\\r\\n")
    """)
    alpha = world.host("alpha")
    with subprocess.Popen(["ip", "netns", "exec", world.hub, sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as old:
        try:
            assert old.stdout.readline() == "up\n"
            alpha.up(cluster={"servers": ["nats://10.77.0.254:4222"]})
            until(lambda: "is of version 2.9; 2.11 or later is needed" in alpha.status()["links"].get("the cluster", ""))
        finally:
            old.kill()


@pytest.mark.parametrize("fields, words", [
    ({"servers": ()}, "one server or more"), ({"servers": ("nats://user:pw@host:1",)}, "keys of their own"),
    ({"servers": ("host:4222",)}, "nats://HOST:PORT"), ({"servers": ("nats://a:1",), "bucket": "a b"}, "bucket"),
    ({"servers": ("nats://a:1",), "replicas": 0}, "replicas"), ({"servers": ("nats://a:1",), "ca_file": "x"}, "whole paths"),
])  # fmt: skip
def test_clusters_that_cannot_be(fields, words):
    with pytest.raises(ValueError, match=words):
        Cluster(**fields)


@pytest.mark.parametrize("fields", [{"lease_s": 0}, {"poll_s": 0.0}, {"listen": "::"}, {"advertise": ("a b",)}, {"listen": ""}])
def test_settings_that_cannot_be(fields):
    with pytest.raises(ValueError):
        HostsSettings(**fields)


def test_the_global_files_section(tmp_path, monkeypatch):
    path = tmp_path / "registry.json"
    monkeypatch.setenv("KVOSHIM_REGISTRY_CONFIG", str(path))
    assert remote.cluster(seat.Scope("host")) is None
    path.write_text('{"remote": {"user": {"servers": ["tls://a:1"], "bucket": "b"}}}')
    assert remote.cluster(seat.Scope("host")) is None
    named = remote.cluster(seat.Scope())
    assert remote.for_scope(named, seat.Scope("host")).bucket == "b"
    assert remote.for_scope(named, seat.Scope()).bucket == f"b-{os.environ.get('USER', 'root')}"
    path.write_text('{"remote": {"user": {"servers": ["tls://a:1"], "pasword": "x"}}}')
    with pytest.raises(ConfigurationError, match="pasword"):
        remote.cluster(seat.Scope())
