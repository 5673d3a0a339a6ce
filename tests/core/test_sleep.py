"""A wait with nothing to report sleeps, however the ring was read before: it does not go round in circles."""

import subprocess
import sys

import pytest
import shimlib

from kvoshim import launcher

PROGRAM = """
import resource, select, socket, sys, threading
path, how, before = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
client = socket.socket(socket.AF_UNIX)
client.connect(path)
server = listener.accept()[0]
for _ in range(5):
    client.sendall(b"x")
    server.recv(1)
    server.sendall(b"y")
    client.recv(1)
server.setblocking(False)
IN, OUT, ET = select.EPOLLIN, select.EPOLLOUT, select.EPOLLET
if how == "poll":
    waiter = select.poll()
    waiter.register(server, select.POLLIN)
    wait = lambda seconds: waiter.poll(seconds * 1000)
else:
    waiter = select.epoll()
    waiter.register(server, {"lt": IN, "et": IN | ET, "et-out": IN | OUT | ET}[how])
    wait = waiter.poll
def drain():
    while wait(0):
        try:
            while server.recv(100):
                pass
        except BlockingIOError:
            pass
drain()
if before == "read-without-waiting":
    client.sendall(b"message")
    assert server.recv(100) == b"message"
elif before == "bell-unread":
    threading.Timer(0.1, client.sendall, (b"message",)).start()
    assert wait(10)
    assert server.recv(100) == b"message"
elif before == "peer-shut":
    client.shutdown(socket.SHUT_WR)
    while how.startswith("et") and wait(0):
        pass
if before != "peer-shut" or how.startswith("et"):
    assert not wait(0.05) or how == "et-out"
    used = resource.getrusage(resource.RUSAGE_SELF)
    wait(0.3)
    now = resource.getrusage(resource.RUSAGE_SELF)
    print(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)
else:
    print(0)
"""


@pytest.mark.parametrize("before", ["nothing", "read-without-waiting", "bell-unread", "peer-shut"])
@pytest.mark.parametrize("how", ["poll", "lt", "et", "et-out"])
@pytest.mark.parametrize("shimmed", [True, False], ids=["shimmed", "plain"])
def test_a_wait_sleeps(tmp_path, shimmed, how, before):
    env = shimlib.plain_env(**(launcher.variables("*", environment={}) if shimmed else {}))
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / "s"), how, before], env=env, cwd=tmp_path,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.1, "seconds of CPU in a wait of 0.3 s"
