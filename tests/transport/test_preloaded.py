"""`from kvoshim import socket` in a process under the preload library: the library does the work, once."""

import subprocess
import sys

import pytest
import shimlib

from kvoshim import launcher

PROGRAM = """
import sys
from kvoshim import _core, socket, transport
assert _core.start() == "preloaded"
path = sys.argv[1]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(path)
listener.listen()
client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
client.connect(path)
server, address = listener.accept()
assert address == "" and client.getsockname() == "" and server.getpeername() == ""
for number in range(20):
    client.sendall(b"%d" % number * 1000)
    data = server.recv(len(b"%d" % number) * 1000, socket.MSG_WAITALL)
    server.sendall(data)
    assert client.recv(len(data), socket.MSG_WAITALL) == b"%d" % number * 1000
    client.settimeout((None, 5, 5)[number % 3])
assert client.connection_id <= -100 and server.connection_id <= -100
assert listener.connection_id is None
handle = transport.connect(path)
other, _ = listener.accept()
transport.send(handle, b"native")
assert other.recv(10) == b"native"
for sock in (client, server, listener, other):
    sock.close()
transport.close(handle)
"""


@pytest.mark.parametrize("paths", ["*", "/nowhere/*"])
def test_hand_over(tmp_path, paths):
    program = PROGRAM if paths == "*" else PROGRAM.replace(
        "client.connection_id <= -100 and server.connection_id <= -100",
        "client.connection_id is None and server.connection_id is None")
    log = tmp_path / "log"
    env = shimlib.plain_env(**launcher.variables(paths, environment={}), KVOSHIM_LOG="debug", KVOSHIM_LOG_FILE=str(log))
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "s")], env=env, capture_output=True, text=True,
                          timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if paths == "*":
        lines = [line for line in log.read_text().splitlines() if " accelerated " in line and f"{tmp_path}/s" in line]
        assert len(lines) == 2, "one connection with two ends, and one that carried a single message"
