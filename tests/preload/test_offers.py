"""Who is offered a segment, by whom, and when: short connections, workers of another user, strangers."""

import os
import re
import select
import socket
import sys

import pytest
import shimlib

from kvoshim import statistics

ECHO = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listener.listen(64)
if len(sys.argv) > 2:                  # a worker of another user accepts, as nginx's do
    if (child := os.fork()):
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
while True:
    connection, _ = listener.accept()
    while data := connection.recv(1 << 16):
        if data == b"end":
            sys.exit()
        connection.sendall(data)
    connection.close()
"""

CLIENT = """
import hashlib, os, random, socket, sys
path, connections, requests, most, user = sys.argv[1], *map(int, sys.argv[2:])
if user:
    os.setgid(user)
    os.setuid(user)
r, seen = random.Random(1), hashlib.sha256()
for _ in range(connections):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    for _ in range(requests):
        request = b"r" + r.randbytes(r.randrange(1, most))
        s.sendall(request)
        answer = b""
        while len(answer) < len(request):
            answer += s.recv(1 << 16)
        assert answer == request
        seen.update(answer)
    s.close()
s = socket.socket(socket.AF_UNIX)
s.connect(path)
s.sendall(b"end")
assert s.recv(1) == b""
print(seen.hexdigest())
"""


def both(place, shim, connections, requests, most, worker=None, user=0):
    """Runs server and client; the client's output."""
    path = place / f"{len(os.listdir(place.dir))}.sock"
    command = [sys.executable, "-c", ECHO, str(path), *([str(worker)] if worker else [])]
    with shimlib.Server(command, shim, place / f"{path.name}.out") as server:
        server.wait_until(path.exists)
        out = shimlib.run([sys.executable, "-c", CLIENT, str(path), *map(str, (connections, requests, most, user))],
                          shim).check().out
        assert server.wait() == 0, server.output.read_text()
    return out


@pytest.mark.parametrize("requests", [1])
def test_short_connections_stay_on_the_kernel(place, requests):
    shim = place.shim(KVOSHIM_WARMUP="4")
    assert both(place, shim, 30, requests, 200) == both(place, None, 30, requests, 200)  # too few for a habit
    assert shim.log.accelerated() == 0, shim.log.text()
    assert shim.log.plain_reasons() == {}, "they have not been refused"


@pytest.mark.parametrize("warmup, requests, most", [("4", 20, 200), ("40", 60, 200), ("4", 4, 90000), ("0", 1, 20)])
def test_longer_connections_switch_after_the_warm_up(place, warmup, requests, most):
    shim = place.shim(KVOSHIM_WARMUP=warmup)
    assert both(place, shim, 5, requests, most) == both(place, None, 5, requests, most)
    assert shim.log.accelerated("client") >= 5 and shim.log.accelerated("server") >= 5, shim.log.text()


@pytest.mark.parametrize("server, client", [("0", "30"), ("30", "0")])
def test_ends_may_have_different_warm_ups(place, server, client):
    path, log = place / "d.sock", shimlib.Log(place / "log")
    shims = [shimlib.Shim(f"{place.dir}/*", log, {"KVOSHIM_WARMUP": calls}) for calls in (server, client)]
    with shimlib.Server([sys.executable, "-c", ECHO, str(path)], shims[0], place / "out") as running:
        running.wait_until(path.exists)
        out = shimlib.run([sys.executable, "-c", CLIENT, str(path), "3", "60", "300", "0"], shims[1]).check().out
        assert running.wait() == 0
    assert out == both(place, None, 3, 60, 300)
    reasons = log.plain_reasons("client")
    assert log.accelerated("client") == log.accelerated("server")
    if client == "30":
        assert log.accelerated("client") == 3
    else:  # the client has given up before the server offers
        assert reasons == {"no-offer": 3} and log.accelerated("client") == 0


@pytest.mark.parametrize("connections, more", [(30, 0), (300, 1)])
def test_one_process_has_one_rendezvous(place, connections, more):
    """Whatever number of connections: one descriptor more, and none once it is not needed by a process that connects seldom."""
    program = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(64)
before = len(os.listdir("/proc/self/fd"))
for _ in range(int(sys.argv[2])):
    client = socket.socket(socket.AF_UNIX)
    client.connect(sys.argv[1])
    server, _ = listener.accept()
    for _ in range(9):
        client.sendall(b"x")
        assert server.recv(9) == b"x"
        server.sendall(b"y")
        assert client.recv(9) == b"y"
    client.close()
    server.close()
print(len(os.listdir("/proc/self/fd")) - before)
"""
    shim = place.shim()
    done = shimlib.run([sys.executable, "-c", program, str(place / "s"), str(connections)], shim).check()
    assert done.out == b"%d\n" % more
    assert shim.log.accelerated() == 2 * connections


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to start processes of other users")
@pytest.mark.parametrize("worker, user", [(65534, 0), (65534, 1000), (1000, 1000), (0, 65534)])
def test_workers_of_another_user(place, worker, user):
    """The one that listens is root, the one that accepts and offers is not: the kernel says who has accepted."""
    shim = place.shim()
    assert both(place, shim, 3, 5, 500, worker=worker, user=user)
    assert shim.log.accelerated("client") >= 3 and shim.log.accelerated("server") >= 3, shim.log.text()


STRANGER = """
import array, os, socket, sys
os.setgid(65534)
os.setuid(65534)
for line in sys.stdin:
    nonce = line.strip()
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.bind(f"\\0kvo2o{nonce}")
    s.connect(f"\\0kvo2r{nonce[:16]}")
    memory = os.memfd_create("theirs", os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, 4096 + 2 * 4096)
    try:
        s.sendmsg([b"KVOSHIM1" + bytes(56)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory]))])
    except OSError:
        pass
    print("offered", flush=True)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to start a process of another user")
def test_offers_of_strangers_are_refused(place):
    """Another user reads the mark in /proc/net/unix and makes an offer before the server does: the bytes stay with the server."""
    path, shim = place / "s.sock", place.shim()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    program = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b"first")
assert s.recv(9) == b"go"
for i in range(20):
    s.sendall(b"%d" % i)
    assert s.recv(9) == b"%d" % i
"""
    with shimlib.Server([sys.executable, "-c", program, str(path)], shim, place / "out") as client:
        assert select.select([listener], [], [], 30)[0]
        connection, _ = listener.accept()
        with open("/proc/net/unix") as table:
            nonces = re.findall(r"@kvo2-([0-9a-f]{32})", table.read())
        mine = [n for n in nonces if n in str(connection.getpeername())]
        stranger = shimlib.run([sys.executable, "-c", STRANGER], stdin=f"{mine[0]}\n".encode()).check()
        assert stranger.out == b"offered\n"
        assert connection.recv(9) == b"first"
        connection.sendall(b"go")
        for i in range(20):
            assert connection.recv(9) == b"%d" % i
            if i == 10:  # it has looked for offers since
                shown = [one for one in statistics.processes() if one["pid"] == client.pid]
                assert shown[0]["refused"].get("credentials") == 1
            connection.sendall(b"%d" % i)
        assert client.wait() == 0, client.output.read_text()
        connection.close()
    listener.close()
    assert shim.log.accelerated() == 0
