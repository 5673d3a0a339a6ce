"""An accelerated listener survives its service's restart: the spawner keeps the socket, the next run accepts on it."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import shimlib
from startdlib import service

from kvoshim.services.core.states import Phase

SERVER = """
import os, socket, sys, threading
if {module}: from kvoshim import socket
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=3)
def echo(connection):
    connection.sendall(b'%8d' % os.getpid())
    while data := connection.recv(65536): connection.sendall(data)
    connection.close()
while True: threading.Thread(target=echo, args=listener.accept()[:1], daemon=True).start()
"""

CLIENT = """
import os, socket, sys
if {module}: from kvoshim import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM); s.settimeout(60); s.connect(sys.argv[1])
def exact(n):
    found = bytearray()
    while len(found) < n:
        data = s.recv(n - len(found))
        if not data: raise SystemExit('the end after %d of %d bytes' % (len(found), n))
        found += data
    return bytes(found)
def turn(data):
    s.sendall(data); got = exact(len(data)); assert got == data, 'other bytes came back'
first = os.urandom(20000); s.sendall(first)
print('sent', flush=True)
print(int(exact(8)), flush=True)
assert exact(len(first)) == first, 'other bytes came back'
for size in (1, 100, 5000, 70000) * 5: turn(os.urandom(size))
print('done', flush=True)
try: turn(sys.stdin.buffer.readline())
except ConnectionError: print('reset')
except SystemExit: print('end')
else: print('alive')
"""


class Client:
    """A program that speaks with the service: says its process number after the first bytes, waits after the last."""

    def __init__(self, path: str, environment: dict[str, str], module: bool):
        command = [sys.executable, "-P", "-c", CLIENT.format(module=module), path]
        self.program = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said("sent")

    def said(self, what: str | None = None) -> str:
        watchdog = threading.Timer(90, self.program.kill)
        watchdog.start()
        try:
            line = self.program.stdout.readline().strip()
        finally:
            watchdog.cancel()
            watchdog.join()
        assert line and what in (None, line), line
        return line

    def end(self) -> str:
        """One more turn; how it went."""
        return self.program.communicate("once more\n", 60)[0].strip()


@pytest.fixture
def clients():
    found: list[Client] = []
    yield found
    for one in found:
        one.program.kill()
        one.program.communicate()


@pytest.mark.parametrize("module", [False, True], ids=["preload", "kvoshim.socket"])
def test_an_accelerated_listener_survives_its_services_restart(services, place, tmp_path, clients, module):
    path = str(place / "listen.sock")
    log = shimlib.Log(Path(tmp_path, "log"))
    own = {"KVOSHIM_PATHS": path, "KVOSHIM_LOG": "debug", "KVOSHIM_LOG_FILE": str(log.path), "KVOSHIM_WARMUP": "0"}
    if not module:
        own["LD_PRELOAD"] = str(shimlib.library())
    environment = shimlib.plain_env(**own)
    own["LD_PRELOAD"] = environment.get("LD_PRELOAD", "")
    program = (sys.executable, "-P", "-c", SERVER.format(module=module))
    services.add(service("web", *program, env=own, sockets={"http": path}, timeout_s=10.0))
    first = services.online("web")["web:default"].status

    clients.append(Client(path, environment, module))
    assert clients[0].said() == str(first.pid)
    clients[0].said("done")
    assert log.wait_accelerated(1, "server") == log.wait_accelerated(1, "client") == 1

    os.kill(first.pid, signal.SIGSTOP)
    services.until(lambda: psutil.Process(first.pid).status() == psutil.STATUS_STOPPED, "it has not stopped")
    clients.append(Client(path, environment, module))  # its first bytes are on the way when nobody accepts
    os.kill(first.pid, signal.SIGKILL)
    second = services.wait_for("web", Phase.ONLINE, run=2)
    assert clients[1].said() == str(second.pid) != str(first.pid)
    clients[1].said("done")
    assert clients[0].end() in ("end", "reset")  # it spoke with the first run

    clients.append(Client(path, environment, module))
    assert clients[2].said() == str(second.pid)
    clients[2].said("done")
    assert log.wait_accelerated(3, "server") == log.wait_accelerated(3, "client") == 3, log.text()
    assert [one.end() for one in clients[1:]] == ["alive", "alive"]
    assert {event.pid for event in log.events("accelerated", side="server")} == {first.pid, second.pid}
