"""One end of a stress run in Python: python_end.py server|client PATH MODULE WAY SEED.

WAY: blocking, timeout, or non-blocking with select, poll or selectors; a thread sends, the main thread receives, for a
second. Prints what it sent and received, and whether its end has switched to shared memory."""

import importlib
import random
import select
import selectors
import sys
import threading
import time

role, path, module, way, seed = sys.argv[1:]
socket = importlib.import_module("socket" if module == "standard" else "kvoshim.socket")
BLOCK = random.Random(1).randbytes(65521)  # a prime, so that places far apart differ
TWICE = BLOCK * 8


def pattern(at, n):
    return TWICE[at % len(BLOCK):at % len(BLOCK) + n]


class Waiter:
    """Waits for one direction of a socket in the given way."""

    def __init__(self, sock, events):
        self.sock, self.events = sock, events
        if way == "poll":
            self.poll = select.poll()
            self.poll.register(sock, events)
        elif way == "selectors":
            self.selector = selectors.DefaultSelector()
            self.selector.register(sock, events if events == 1 else selectors.EVENT_WRITE)

    def __call__(self):
        if way == "select":
            lists = [[self.sock], []] if self.events == select.POLLIN else [[], [self.sock]]
            select.select(*lists, [])
        elif way == "poll":
            self.poll.poll()
        elif way == "selectors":
            self.selector.select()
        else:
            raise AssertionError("a blocking call said that it would block")


def sizes(rng):
    return 1 + rng.randrange(rng.choice((1, 16, 500, 9000, 200_000)))


def dawdle(rng):
    if rng.random() < 0.2:
        time.sleep(rng.random() * 0.0005)


def send(sock, result):
    rng, at, wait = random.Random(seed + role), 0, Waiter(sock, select.POLLOUT)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        data = pattern(at, sizes(rng))
        if rng.random() < 0.3 and way in ("blocking", "timeout"):
            sock.sendall(data)
            at += len(data)
        else:
            try:
                at += sock.send(data)
            except BlockingIOError:
                wait()
        dawdle(rng)
    sock.shutdown(socket.SHUT_WR)
    result.append(at)


def receive(sock):
    rng, at, wait = random.Random(seed + role + "r"), 0, Waiter(sock, select.POLLIN)
    buffer = bytearray(200_000)
    while True:
        size = sizes(rng)
        try:
            if rng.random() < 0.3:
                data = bytes(memoryview(buffer)[:sock.recv_into(buffer, size)])
            else:
                data = sock.recv(size)
        except BlockingIOError:
            wait()
            continue
        if not data:
            return at
        if data != pattern(at, len(data)):
            sys.exit(f"{len(data)} bytes at {at} are wrong")
        at += len(data)
        dawdle(rng)
        if way not in ("blocking", "timeout") and rng.random() < 0.3:
            wait()


sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
if role == "server":
    with sock as listener:
        listener.bind(path)
        listener.listen()
        print("listening", flush=True)
        sock, _ = listener.accept()
else:
    sock.connect(path)
sock.settimeout({"blocking": None, "timeout": 20}.get(way, 0))
sent = []
sender = threading.Thread(target=send, args=(sock, sent))
sender.start()
received = receive(sock)
sender.join()
switched = 0
if module == "kvoshim":
    from kvoshim import transport
    switched = transport.accelerated()
sock.close()
print(f"sent={sent[0]} received={received} switched={switched}")
