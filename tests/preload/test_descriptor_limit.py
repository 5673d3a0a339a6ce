"""A program has all the descriptors that it has on kernel sockets, and what it hands to a successor is not lost for want of one."""

import sys

import pytest
import shimlib

MANY = """
import os, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
path, role, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
kept = []
if role == "server":
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    while len(kept) < count:
        kept.append(listener.accept()[0])
        for _ in range(3):
            kept[-1].sendall(kept[-1].recv(9))
else:
    while len(kept) < count:
        kept.append(socket.socket(socket.AF_UNIX))
        kept[-1].connect(path)
        for _ in range(3):
            kept[-1].sendall(b"%d" % len(kept))
            assert kept[-1].recv(9) == b"%d" % len(kept)
print(len(kept), "connections")
for i, one in enumerate(kept):                 # all of them still work
    if role == "server":
        one.sendall(one.recv(9))
    else:
        one.sendall(b"%d" % i)
        assert one.recv(9) == b"%d" % i
if len(sys.argv) > 4:                          # and in a successor too
    last = kept[-1]
    os.set_inheritable(last.fileno(), True)
    program = "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.sendall(b'after'); print(s.recv(9))"
    if role == "server":
        assert last.recv(9) == b"after"
        last.sendall(b"exec")
    else:
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-c", program, str(last.fileno())])
"""


@pytest.mark.parametrize("count, exec", [(600, False), (1000, False), (400, True), (1000, True)])
def test_connections_up_to_the_limit(place, count, exec):
    outputs = []
    for shim in (None, place.shim()):
        path = place / f"{'shim' if shim else 'plain'}.sock"
        command = [sys.executable, "-c", MANY, str(path)]
        more = [str(count)] + (["exec"] if exec else [])
        with shimlib.Server([*command, "server", *more], shim, place / f"{path.name}.out") as server:
            server.wait_until(path.exists)
            client = shimlib.run([*command, "client", *more], shim)
            assert server.wait() == 0, server.output.read_text()
        outputs.append((client.check().out, server.output.read_bytes()))
    assert outputs[0] == outputs[1]
    assert shim.log.accelerated("client") > count // 4
