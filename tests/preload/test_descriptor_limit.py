"""A program has all the descriptors that it has on kernel sockets, and what it hands to a successor is not lost for want of one."""

import re
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


MAKERS = """
import ctypes, errno, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
null, here, root = b"/dev/null", -100, b"/"
STREAMS = {"fopen": "fclose", "fopen64": "fclose", "opendir": "closedir", "popen": "pclose"}
for name in STREAMS:
    getattr(libc, name).restype = ctypes.c_void_p
pair, mask = (ctypes.c_int * 2)(), bytes(128)
MAKERS = {
    "open": (null, 0), "open64": (null, 0), "openat": (here, null, 0), "openat64": (here, null, 0),
    "__open_2": (null, 0), "__open64_2": (null, 0), "__openat_2": (here, null, 0), "__openat64_2": (here, null, 0),
    "creat": (null, 0), "creat64": (null, 0), "fopen": (null, b"r"), "fopen64": (null, b"r"), "opendir": (root,),
    "pipe": (pair,), "pipe2": (pair, 0), "socketpair": (socket.AF_UNIX, socket.SOCK_DGRAM, 0, pair),
    "eventfd": (0, 0), "timerfd_create": (1, 0), "signalfd": (-1, mask, 0), "inotify_init": (), "inotify_init1": (0,),
    "epoll_create": (1,), "epoll_create1": (0,), "socket": (socket.AF_UNIX, socket.SOCK_DGRAM, 0), "dup": (0,),
    "popen": (b"read x", b"w"),
}
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
for name in sys.argv[2].split():
    client = socket.socket(socket.AF_UNIX)
    client.connect(sys.argv[1])
    server, _ = listener.accept()
    for _ in range(5):
        client.sendall(b"x")
        server.sendall(server.recv(1))
        client.recv(1)
    make, before, streams = getattr(libc, name), set(os.listdir("/proc/self/fd")), []
    ctypes.set_errno(0)
    while (made := make(*MAKERS[name])) not in (-1, None):
        assert ctypes.get_errno() == 0
        streams.append(made)
    failed = ctypes.get_errno()
    print(name, len(streams), errno.errorcode[failed])
    if name in STREAMS:
        for stream in streams:
            getattr(libc, STREAMS[name])(ctypes.c_void_p(stream))
    else:
        os.closerange(server.fileno() + 1, 128)
    client.sendall(b"still")
    print(server.recv(9))
    client.close()
    server.close()
assert set(MAKERS) == set(sys.argv[2].split())
"""


def _makers():
    """All calls of the table in docs/shim.md that only make a descriptor, and others that may."""
    row = next(line for line in (shimlib.ROOT / "docs/shim.md").read_text().splitlines() if line.startswith("| `open`, "))
    return [*re.findall(r"`(\w+)`", row.split("|")[1]), "epoll_create", "epoll_create1", "socket", "dup", "popen"]


def test_each_call_that_makes_a_descriptor_has_all_numbers(place):
    """It gets as many as on kernel sockets, though each connection keeps two numbers at first, and its process one."""
    outputs = []
    for shim in (None, place.shim()):
        path = place / f"{'shim' if shim else 'plain'}.sock"
        command = ["prlimit", "--nofile=128:128", sys.executable, "-c", MAKERS, str(path), " ".join(_makers())]
        outputs.append(shimlib.run(command, shim).check().out)
    assert outputs[0].decode() == outputs[1].decode()
    assert outputs[0].count(b" EMFILE") == len(_makers())
    assert shim.log.accelerated() == 2 * len(_makers())


UNUSED = """
import os, resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
before = sorted(os.listdir("/proc/self/fd"))
made = []
try:
    while True:
        made.append(socket.socket(socket.AF_UNIX))
except OSError as error:
    print(len(made), error.errno)
made.clear()
print(sorted(os.listdir("/proc/self/fd")) == before, os.read(0, 9))
"""


@pytest.mark.parametrize("paths", ["", "/nowhere/*"])
def test_the_limit_without_a_connection(place, paths):
    """There is nothing to give back: the program's own descriptors stay."""
    shim = place.shim(paths)
    runs = [shimlib.run([sys.executable, "-c", UNUSED], one, stdin=b"standard").check().out for one in (None, shim)]
    assert runs[0] == runs[1]


REFUSED = """
import ctypes, errno, os, resource, socket, sys
libc = ctypes.CDLL(None, use_errno=True)

def opened():
    return {int(name): os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
            if os.path.lexists(f"/proc/self/fd/{name}")}  # not the one by which they are listed

def refused(call, *arguments):
    ctypes.set_errno(0)
    assert getattr(libc, call)(*arguments) == -1
    return ctypes.get_errno()

def echo():
    client.sendall(b"x")
    server.sendall(server.recv(1))
    assert client.recv(1) == b"x"

first = sorted(opened())
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
server, _ = listener.accept()
for _ in range(3):
    echo()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
before = opened()
ours = [n for n in before if n > server.fileno() + 20]
for number in before:
    assert refused("dup2", 999, number) == errno.EBADF
    assert refused("dup3", 999, number, os.O_CLOEXEC) == errno.EBADF
    assert refused("dup3", 0, number, os.O_NONBLOCK) == errno.EINVAL
    if number in ours:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
        assert refused("dup2", 0, number) == errno.EBADF
        assert refused("dup3", 0, number, os.O_CLOEXEC) == errno.EBADF
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert opened() == before, (number, before, opened())
kept = len(opened())
for number in ours:                               # a number that is free for the program: ours makes way
    ctypes.set_errno(77)
    assert libc.dup2(listener.fileno(), number) == number and ctypes.get_errno() == 77
    os.close(number)
    assert len(opened()) == kept
echo()
for one in (client, server, listener):
    one.close()
assert sorted(opened()) == first, (first, opened())
print(len(ours))
"""


def test_a_refused_dup2_moves_nothing(place):
    shim = place.shim()
    done = shimlib.run([sys.executable, "-c", REFUSED, str(place / "s")], shim).check()
    assert shim.log.accelerated() == 2
    assert int(done.out) >= 2  # the segment's, at both ends
