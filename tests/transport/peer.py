"""The other end of a connection, in a process of its own: peer.py MODULE PATH SCENARIO [ARGUMENT ...].

Prints "ready" when a server listens or a client is connected, then what the scenario says.
"""

import hashlib
import importlib
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from patternlib import pattern  # noqa: E402

socket = importlib.import_module(sys.argv[1])
PATH = sys.argv[2]


def say(*words):
    print(*words, flush=True)


def listening():
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(PATH)
    listener.listen(256)
    say("ready")
    return listener


def accepted():
    with listening() as listener:
        return listener.accept()[0]


def connected():
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(PATH)
    say("ready")
    return client


def serve_echo():
    """Echoes one connection until its end."""
    with accepted() as sock:
        while data := sock.recv(65536):
            sock.sendall(data)


def serve_many(count):
    """Echoes one line on each of count connections, one after the other, all kept open until the last."""
    with listening() as listener:
        socks = [listener.accept()[0] for _ in range(int(count))]
        for sock in socks:
            with sock.makefile("rwb") as file:
                file.write(b"echo " + file.readline())
        for sock in socks:
            assert sock.recv(1) == b""
            sock.close()


def serve_speaking_first():
    with accepted() as sock:
        sock.sendall(b"welcome")
        say(sock.recv(7).decode())


def exchange(role, amount):
    """Both directions at once: sends amount bytes and prints the digest of what came."""
    import threading
    amount = int(amount)
    with accepted() if role == "server" else connected() as sock:
        block = pattern(60000, 2)

        def send():
            for at in range(0, amount, len(block)):
                sock.sendall(block[:amount - at])
            sock.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send)
        sender.start()
        digest, count = hashlib.sha256(), 0
        while data := sock.recv(1 << 18):
            digest.update(data)
            count += len(data)
        sender.join()
        say(count, digest.hexdigest())


def send_and_close(amount):
    with accepted() as sock:
        sock.recv(1)
        sock.sendall(pattern(int(amount)))


def close_without_reading():
    with accepted() as sock:
        sock.sendall(b"before the end")
        sys.stdin.readline()


def read_for_ever():
    with accepted() as sock:
        while data := sock.recv(100000):
            del data
            say("got")


def hold():
    """Exchanges a few messages, then sleeps with the connection open."""
    with accepted() as sock:
        for _ in range(3):
            sock.sendall(sock.recv(4))
        say("holding")
        time.sleep(300)


def child_answers():
    """The connection's server forks; the child answers, the parent has closed its own copy."""
    sock = accepted()
    sock.sendall(sock.recv(100))
    child = os.fork()
    if child == 0:
        while data := sock.recv(100):
            sock.sendall(b"child:" + data)
        sock.close()
        os._exit(0)
    sock.close()
    assert os.waitpid(child, 0)[1] == 0


if __name__ == "__main__":
    globals()[sys.argv[3]](*sys.argv[4:])
