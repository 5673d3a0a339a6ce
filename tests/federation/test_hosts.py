"""The registry across hosts that share a home directory: what is registered on one is seen on all, until its host is lost."""

import os
import signal
import sys
import time

import psutil
from hosts_harness import names
from registry_harness import until


def test_a_registration_on_one_host_is_seen_on_the_other(world):
    alpha, beta = world.two()
    a, b = alpha.peer(), beta.peer()
    b.do("watch", "*")
    until(lambda: b.seen("end"))
    a.do("register", "engine", {"address": "tcp://10.77.0.1:5000", "version": "1.2.0", "metadata": {"zone": "a"}})
    until(lambda: b.seen("added") == [("engine", a.pid)])
    (entry,) = b.do("find", "eng*")
    assert (entry["host"], entry["address"], entry["version"], entry["metadata"], entry["serial"], entry["owner"]) == (
        "alpha", "tcp://10.77.0.1:5000", "1.2.0", {"zone": "a"}, 1, True,
    )  # fmt: skip
    assert "alpha" in beta.kvoshim("registry", "list", COLUMNS="200").stdout
    a.do("update", "engine", {"address": "tcp://10.77.0.1:6000"})
    until(lambda: b.seen("changed") == [("engine", a.pid)])
    assert b.do("find", "engine")[0]["address"] == "tcp://10.77.0.1:6000"
    b.do("register", "engine", {})  # names are owned on each host; one's own host goes first
    assert names(b, "engine") == [("engine", "beta"), ("engine", "alpha")]
    until(lambda: names(a, "engine") == [("engine", "alpha"), ("engine", "beta")])
    assert all(entry["owner"] for entry in a.do("find", "engine"))
    a.do("close", "engine")
    until(lambda: b.seen("removed") == [("engine", a.pid)])
    a.do("register", "short", {})
    until(lambda: ("short", "alpha") in names(b))
    a.kill()
    until(lambda: names(b) == [("engine", "beta")])


def test_a_single_host_has_no_server_and_hears_of_others_by_their_port_files(world):
    alpha, beta = world.host("alpha"), world.host("beta")
    alpha.up()
    a = alpha.peer()
    a.do("register", "first", {})
    time.sleep(0.5)  # several looks
    assert alpha.status()["bridge"] == alpha.status()["server"] == 0 and not alpha.record().facts
    beta.up()
    world.meet(alpha, beta)
    assert alpha.record().facts["hosts"].startswith("10.77.0.1:")
    b = beta.peer()
    until(lambda: names(b) == [("first", "alpha")])  # what was there before


def test_a_semi_private_group_sees_other_hosts_too(world):
    alpha, beta = world.two()
    a = alpha.peer()
    a.do("register", "far", {})
    until(lambda: names(beta.peer()) == [("far", "alpha")])
    script = "until $0 -P -m kvoshim registry find far; do sleep 0.1; done"
    done = beta.kvoshim("registry", "private", "--semi", "--", "sh", "-c", script, sys.executable)
    assert done.stdout.split() == ["far", "1", str(a.pid), "alpha"]


def test_three_hosts_and_one_that_is_cut_off(world):
    hosts = world.host("alpha"), world.host("beta"), world.host("gamma")
    for host in hosts:
        host.up()
    world.meet(*hosts)
    peers = [host.peer() for host in hosts]
    for host, peer in zip(hosts, peers):
        peer.do("register", f"on-{host.name}", {})
    everything = [(f"on-{host.name}", host.name) for host in hosts]
    for peer in peers:
        peer.do("watch", "*")
        until(lambda: names(peer) == everything)
    hosts[2].link("down")
    for peer in peers[:2]:
        until(lambda: names(peer) == everything[:2])
        assert ("on-gamma", peers[2].pid) in peer.seen("removed")
    until(lambda: names(peers[2]) == everything[2:])
    peers[2].do("register", "meanwhile", {})
    peers[0].do("close", "on-alpha")
    peers[0].do("register", "later", {})
    hosts[2].link("up")
    for peer in peers:
        until(lambda: names(peer) == [("later", "alpha"), ("meanwhile", "gamma"), *everything[1:]])
    assert hosts[0].status()["hosts"] == {"beta": "here", "gamma": "here"}


def test_a_host_that_is_killed_and_returns(world):
    alpha, beta = world.two(lease=2)
    a, b = alpha.peer(), beta.peer()
    b.do("register", "there", {})
    a.do("watch", "*")
    until(lambda: names(a) == [("there", "beta")])
    before = beta.port_file.read_bytes(), beta.port_file.stat()
    beta.kill()
    until(lambda: names(a) == [])
    assert a.seen("removed") == [("there", b.pid)]
    time.sleep(0.5)  # several looks
    assert (beta.port_file.read_bytes(), beta.port_file.stat()) == before, "another host's file is not touched"
    beta.link("up")
    beta.up(lease=2)
    b = beta.peer()
    b.do("register", "again", {})
    until(lambda: names(a) == [("again", "beta")])
    until(lambda: a.seen("added")[-1] == ("again", b.pid))


def test_a_host_that_leaves_in_order_is_gone_at_once(world):
    alpha, beta = world.two(lease=3600)
    a, b = alpha.peer(), beta.peer()
    b.do("register", "there", {})
    until(lambda: names(a) == [("there", "beta")])
    os.kill(b.pid, signal.SIGSTOP)  # it is not to start another one yet
    beta.daemons[0].terminate()
    until(lambda: names(a) == [])  # long before its lease ends
    until(lambda: not beta.port_file.exists())
    until(lambda: alpha.status()["found"] == [])
    os.kill(b.pid, signal.SIGCONT)
    until(lambda: names(a) == [("there", "beta")])


def test_when_a_registry_dies_nobody_sees_a_gap(world):
    """Its successor tells everything anew, and the others change over at once. Its own clients keep what they know of other hosts."""
    alpha, beta = world.two(lease=30)
    a, b = alpha.peer(), beta.peer()
    for number in range(20):
        b.do("register", f"n{number}", {})
    a.do("register", "a", {})
    for peer in (a, b):
        peer.do("watch", "*")
        until(lambda: len(names(peer)) == 21)
    tokens = sorted((entry["name"], entry["token"]) for entry in a.do("find", "*"))
    for _ in range(2):
        dead = beta.registry_pid()
        os.kill(dead, signal.SIGKILL)
        until(lambda: beta.registry_pid() not in (0, dead))
        b.do("register", f"after-{dead}", {})
        until(lambda: (f"after-{dead}", "beta") in names(a))
    world.meet(alpha, beta)
    assert a.seen("removed") == b.seen("removed") == []
    assert ("a", "alpha") in names(b)
    assert set(tokens) <= {(entry["name"], entry["token"]) for entry in a.do("find", "*")}


def test_bridges_and_servers_that_are_killed_are_started_again(world):
    alpha, beta = world.two(lease=30)
    a, b = alpha.peer(), beta.peer()
    a.do("register", "one", {})
    b.do("watch", "*")
    until(lambda: names(b) == [("one", "alpha")])
    for host in (alpha, beta):
        for which in ("server", "bridge"):
            dead = host.status()[which]
            os.kill(dead, signal.SIGKILL)
            until(lambda: host.status()[which] not in (0, dead))
            until(lambda: not psutil.pid_exists(dead))
    world.meet(alpha, beta)
    a.do("register", "two", {})
    until(lambda: names(b) == [("one", "alpha"), ("two", "alpha")])
    assert b.seen("removed") == []


def test_a_bridge_that_stands_still_holds_up_nobody(world):
    """More is registered meanwhile than the sockets between registry and bridge hold."""
    alpha, beta = world.two(lease=30)
    a, b = alpha.peer(), beta.peer()
    b.do("register", "there", {})
    a.do("watch", "*")
    until(lambda: names(a) == [("there", "beta")])
    bridge = alpha.status()["bridge"]
    os.kill(bridge, signal.SIGSTOP)
    for number in range(150):
        a.do("register", f"n{number}", {"metadata": {"much": "x" * 4000}})
    assert len(names(a)) == 151
    os.kill(bridge, signal.SIGCONT)
    until(lambda: len(names(b)) == 151)
    assert not a.seen("removed")


def test_processes_of_other_hosts_answer(world):
    alpha, beta = world.two()
    a, b = alpha.peer(), beta.peer()
    a.do("register", "engine", {})
    until(lambda: names(b) == [("engine", "alpha")])
    assert b.do("ask", "engine", "statistics")["program"] == {"answer": 42}
    assert b.do("ask", "engine", "info")["registrations"] == 1
    assert "engine #1" in beta.kvoshim("registry", "ping", "engine").stdout
    os.kill(a.pid, signal.SIGSTOP)
    until(lambda: b.do("find", "engine")[0]["suspect"])
    done = beta.kvoshim("registry", "ping", "engine", "--timeout", "0.3", check=False)
    assert done.returncode == 1 and "has not answered within 0.3 s" in done.stdout
    os.kill(a.pid, signal.SIGCONT)
    until(lambda: not b.do("find", "engine")[0]["suspect"])
