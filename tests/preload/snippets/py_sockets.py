# accelerated: 12
"""The socket module's own ways: timeouts, makefile, recv_into, sendmsg, send_fds, sendfile, selectors, detach, dup."""

import array
import errno
import os
import select
import selectors
import signal
import socket
import subprocess
import tempfile
import threading
import time

PATH = os.environ["SNIPPET_PATH"]
listener = socket.socket(socket.AF_UNIX)
listener.bind(PATH)
listener.listen(8)


def pair():
    c = socket.socket(socket.AF_UNIX)
    c.connect(PATH)
    s, address = listener.accept()
    assert address == "", address
    for i in range(50):
        c.sendall(b"%d" % i)
        assert s.recv(10) == b"%d" % i
        s.sendall(b"ok")
        assert c.recv(10) == b"ok"
    return c, s


def timeouts(c, s):
    c.settimeout(0.1)
    start = time.monotonic()
    try:
        c.recv(1)
    except TimeoutError as e:
        print("timed out", type(e).__name__, time.monotonic() - start > 0.09)
    c.settimeout(0)
    try:
        c.recv(1)
    except BlockingIOError as e:
        print(errno.errorcode[e.errno])
    c.settimeout(10)
    threading.Timer(0.05, s.sendall, [b"late"]).start()
    print(c.recv(10))
    c.settimeout(0.2)
    try:
        c.sendall(b"x" * 50_000_000)
    except TimeoutError:
        print("sendall timed out")


def buffers(c, s):
    b = bytearray(100)
    c.sendmsg([b"one ", b"two ", b"three"])
    print(s.recv_into(b, 8), bytes(b[:8]))
    print(s.recvmsg_into([memoryview(b)[:2], memoryview(b)[2:]])[0], bytes(b[:5]))
    c.sendall(b"peek")
    print(s.recv(10, socket.MSG_PEEK), s.recv(10, socket.MSG_DONTWAIT))
    print(s.recvfrom(10) if select.select([s], [], [], 0)[0] else "nothing")
    print(c.getpeername() == PATH, c.getsockname(), s.getsockname() == PATH, s.getpeername())
    print(c.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), c.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM)
    r = s.makefile("r", encoding="utf8", newline="\n")
    c.sendall("zeile eins\nzweite ümlaut\nrest".encode())
    print(repr(r.readline()), repr(r.readline()))
    c.shutdown(socket.SHUT_WR)
    print(repr(r.read()))
    r.close()


def descriptors(c, s):
    r, w = os.pipe()
    socket.send_fds(c, [b"carrying"], [r])
    message, fds, flags, _ = socket.recv_fds(s, 100, 5)
    os.write(w, b"through the pipe")
    print(message, len(fds), flags, os.read(fds[0], 100))
    for fd in (r, w, *fds):
        os.close(fd)
    c.sendall(b"after")
    print(s.recv(100))


def files(c, s):
    with tempfile.TemporaryFile() as f:
        data = bytes(range(256)) * 8000
        f.write(data)
        f.seek(0)
        sender = threading.Thread(target=lambda: print("sendfile", c.sendfile(f)))
        sender.start()
        got = bytearray()
        while len(got) < len(data):
            got += s.recv(100_000)
        sender.join()
        print(bytes(got) == data)


def loops(c, s):
    for kind in (selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector):
        with kind() as loop:
            loop.register(s, selectors.EVENT_READ, "s")
            loop.register(c, selectors.EVENT_READ | selectors.EVENT_WRITE, "c")
            print(kind.__name__, sorted((k.data, m) for k, m in loop.select(0)))
            loop.modify(c, selectors.EVENT_READ, "c")
            print(loop.select(0.02))
            threading.Timer(0.05, c.sendall, [b"wake"]).start()
            print([(k.data, m) for k, m in loop.select(10)], s.recv(10))
            threading.Timer(0.05, s.sendall, [b"wake"]).start()
            print([(k.data, m) for k, m in loop.select(10)], c.recv(10))


def copies(c, s):
    twin = s.dup()
    s.close()
    c.sendall(b"to the twin")
    print(twin.recv(100))
    fd = twin.detach()
    os.write(fd, b"raw write")
    print(c.recv(100))
    print(os.fstat(fd).st_mode & 0o170000 == 0o140000)
    with open(fd, "r+b", buffering=0) as f:
        f.write(b"as a file")
        print(c.recv(100))
        c.sendall(b"and back")
        print(f.read(100))
    print(c.recv(100))


def children(c, s):
    print(subprocess.run(["sh", "-c", "echo from a child"], capture_output=True, check=True).stdout)
    c.sendall(b"1")
    print(s.recv(10))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as p:
        c.sendall(b"2")
        print(s.recv(10), p.communicate(b"piped"))
    pid = os.fork()
    if not pid:
        s.sendall(b"child")
        os._exit(0)
    os.waitpid(pid, 0)
    s.sendall(b" and parent")
    print(c.recv(16, socket.MSG_WAITALL))


def signals(c, s):
    hits = []
    signal.signal(signal.SIGALRM, lambda *_: hits.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.03, 0.03)
    threading.Timer(0.2, s.sendall, [b"despite signals"]).start()
    print(c.recv(100))
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(len(hits) > 1)
    a, b = socket.socketpair()
    signal.set_wakeup_fd(a.fileno(), warn_on_full_buffer=False) if a.setblocking(False) is None else None
    os.kill(os.getpid(), signal.SIGALRM)
    print(select.select([b, c], [], [], 5)[0] == [b], b.recv(10) == bytes([signal.SIGALRM]))
    signal.set_wakeup_fd(-1)
    a.close()
    b.close()


def ends(c, s):
    s.close()
    print(c.recv(10))
    for _ in range(2):
        try:
            c.sendall(b"x")
        except OSError as e:
            print(type(e).__name__)


def resets(c, s):
    c.sendall(b"unread")
    s.close()
    try:
        print(c.recv(10))
    except OSError as e:
        print(type(e).__name__)
    print(c.recv(10))


def ancillary(c, s):
    fds = array.array("i", [0])
    c.sendmsg([b"m"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    data, control, flags, address = s.recvmsg(10, socket.CMSG_SPACE(4))
    print(data, len(control), flags, address)
    got = array.array("i")
    got.frombytes(control[0][2])
    os.close(got[0])
    print(s.recvmsg(10, 100, socket.MSG_DONTWAIT) if select.select([s], [], [], 0)[0] else "nothing")


for scene in (timeouts, buffers, descriptors, files, loops, copies, children, signals, ends, resets, ancillary):
    print("==", scene.__name__)
    both = pair()
    scene(*both)
    for end in both:
        end.close()
last = pair()
print(last[0].getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4] == os.getpid().to_bytes(4, "little"))
for end in last:
    end.close()
listener.close()
