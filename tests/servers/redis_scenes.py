"""Plays scenes with several clients against a Redis server and prints every answer, byte for byte.

Usage: redis_scenes.py SOCKET. It speaks the protocol itself, so that nothing between socket and output interprets an
answer. Large answers are printed as length and digest. The last line on standard error is the number of connections
that it opened.
"""

import hashlib
import random
import socket
import sys
import threading

OPENED = 0


class Client:
    def __init__(self, path, name):
        global OPENED
        OPENED += 1
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")
        for _ in range(5):
            assert self.ask("PING") == b"+PONG\r\n"

    def send(self, *words):
        parts = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))

    def receive(self):
        line = self.file.readline()
        if not line:
            return b"(closed)"
        kind, rest = line[:1], line[1:-2]
        if kind == b"$" and rest != b"-1":
            return line + self.file.read(int(rest) + 2)
        if kind in b"*>~" and rest != b"-1":
            return line + b"".join(self.receive() for _ in range(int(rest)))
        if kind == b"%":
            return line + b"".join(self.receive() for _ in range(2 * int(rest)))
        if kind == b"=":
            return line + self.file.read(int(rest) + 2)
        return line

    def ask(self, *words):
        self.send(*words)
        return self.receive()

    def show(self, *words):
        tell(self.name, words, self.ask(*words))

    def close(self):
        self.file.close()
        self.socket.close()


def short(data):
    return data if len(data) < 200 else b"%d bytes, sha256 %s" % (len(data), hashlib.sha256(data).hexdigest().encode())


def tell(name, what, answer):
    words = " ".join(repr(short(w if isinstance(w, bytes) else str(w).encode())) for w in what)
    print(f"{name}: {words}\n    {short(answer)!r}")


def large_values(path):
    """Values of 10 MB and around every power of two, in and out, whole and in ranges."""
    c = Client(path, "large")
    random_bytes = random.Random(10)
    value = random_bytes.randbytes(10_000_000)
    for i in range(3):
        c.show("SET", f"ten{i}", value[i:])
        c.show("GET", f"ten{i}")
    c.show("GETRANGE", "ten0", 5_000_000, 9_999_999)
    c.show("APPEND", "ten0", value[:3])
    c.show("STRLEN", "ten0")
    for power in range(8, 22):
        for size in (2**power - 1, 2**power, 2**power + 1):
            c.show("SET", "p", value[:size])
            assert c.ask("GET", "p") == b"$%d\r\n%s\r\n" % (size, value[:size])
    c.show("MGET", "ten0", "ten1", "ten2", "p")
    c.show("DEL", "ten0", "ten1", "ten2", "p")
    c.close()


def pipelines(path):
    """Ten thousand commands in one write, and commands that arrive byte by byte."""
    c = Client(path, "pipe")
    c.socket.sendall(b"".join(b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n" for _ in range(10_000)))
    tell("pipe", ["10000 INCR"], b"".join(c.receive() for _ in range(10_000)))
    for byte in b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$5\r\nbytes\r\n":
        c.socket.sendall(bytes([byte]))
    tell("pipe", ["byte by byte"], c.receive())
    c.socket.sendall(b"PING inline\r\n")
    tell("pipe", ["inline"], c.receive())
    c.send("GET", "b")
    c.socket.shutdown(socket.SHUT_WR)
    tell("pipe", ["GET, then half closed"], c.receive())
    tell("pipe", ["end"], c.receive())
    c.close()


def publish_and_subscribe(path):
    s, t, p = Client(path, "sub"), Client(path, "psub"), Client(path, "pub")
    s.show("SUBSCRIBE", "news", "weather")
    tell("sub", ["second subscription"], s.receive())
    t.show("PSUBSCRIBE", "n*")
    for i in range(300):
        p.show("PUBLISH", "news", f"message {i} " + "x" * (i * 7))
        tell("sub", [], s.receive())
        tell("psub", [], t.receive())
    p.show("PUBLISH", "weather", "sun")
    tell("sub", [], s.receive())
    for i in range(2000):                                # nobody reads meanwhile
        p.send("PUBLISH", "news", f"burst {i}")
    for i in range(2000):
        p.receive()
    tell("sub", ["burst"], b"".join(s.receive() for _ in range(2000)))
    tell("psub", ["burst"], b"".join(t.receive() for _ in range(2000)))
    s.show("UNSUBSCRIBE", "news")
    p.show("PUBLISH", "news", "gone")
    p.show("PUBSUB", "NUMSUB", "news", "weather")
    tell("psub", [], t.receive())
    for c in (s, t, p):
        c.close()


def transactions(path):
    a, b = Client(path, "a"), Client(path, "b")
    a.show("SET", "balance", 10)
    a.show("WATCH", "balance")
    a.show("MULTI")
    a.show("INCR", "balance")
    b.show("SET", "balance", 50)
    a.show("EXEC")                                       # aborted: b changed it
    a.show("MULTI")
    for i in range(50):
        a.show("RPUSH", "queue", f"item {i}")
    b.show("LLEN", "queue")
    a.show("EXEC")
    b.show("LRANGE", "queue", 0, -1)
    b.show("DEL", "queue", "balance")
    a.close()
    b.close()


def blocking_pops(path):
    a, b, pusher = Client(path, "a"), Client(path, "b"), Client(path, "push")
    for i in range(100):
        a.send("BLPOP", "jobs", 30)
        pusher.ask("PING")
        pusher.show("RPUSH", "jobs", f"job {i}")
        tell("a", ["BLPOP"], a.receive())
    a.send("BRPOP", "one", "two", 30)
    while b"blocked_clients:1" not in pusher.ask("INFO", "clients"):
        pass
    b.send("BLMOVE", "three", "four", "LEFT", "RIGHT", 30)
    while b"blocked_clients:2" not in pusher.ask("INFO", "clients"):
        pass
    pusher.show("RPUSH", "two", "x", "y")
    tell("a", ["BRPOP"], a.receive())
    pusher.show("RPUSH", "three", "z")
    tell("b", ["BLMOVE"], b.receive())
    a.show("BLPOP", "never", 0.1)
    a.send("XREAD", "BLOCK", 30000, "STREAMS", "events", "$")
    while b"blocked_clients:1" not in pusher.ask("INFO", "clients"):
        pass
    pusher.show("XADD", "events", "5-5", "kind", "test")
    tell("a", ["XREAD"], a.receive())
    pusher.show("DEL", "events", "two", "four")
    for c in (a, b, pusher):
        c.close()


def kills(path):
    """CLIENT KILL of an idle client, of one that waits, and of oneself."""
    boss, idle, waiting = Client(path, "boss"), Client(path, "idle"), Client(path, "waiting")
    ids = [int(c.ask("CLIENT", "ID")[1:]) for c in (idle, waiting, boss)]
    boss.show("CLIENT", "KILL", "ID", 999999999)
    waiting.send("BLPOP", "nothing", 0)
    tell("boss", ["kill idle"], boss.ask("CLIENT", "KILL", "ID", ids[0]))
    tell("idle", ["is told"], idle.receive())
    while b"blocked_clients:1" not in boss.ask("INFO", "clients"):
        pass
    tell("boss", ["kill waiting"], boss.ask("CLIENT", "KILL", "ID", ids[1]))
    tell("waiting", ["is told"], waiting.receive())
    try:
        for _ in range(5):
            idle.socket.sendall(b"PING\r\n")
        tell("idle", ["writes"], b"succeeds")
    except OSError as e:
        tell("idle", ["writes"], type(e).__name__.encode())
    tell("boss", ["kill boss"], boss.ask("CLIENT", "KILL", "ID", ids[2], "SKIPME", "no"))
    tell("boss", ["is told"], boss.receive())
    for c in (boss, idle, waiting):
        c.close()


def protocol_3(path):
    c, other = Client(path, "resp3"), Client(path, "other")
    hello = c.ask("HELLO", 3)
    tell("resp3", ["HELLO 3 begins"], hello[:20])
    c.show("HSET", "h", "f", "v")
    c.show("HGETALL", "h")
    c.show("ZADD", "z", 1.5, "m")
    c.show("ZRANGE", "z", 0, -1, "WITHSCORES")
    c.show("GET", "missing")
    c.show("EVAL", "redis.setresp(3); return redis.call('HGETALL', KEYS[1])", 1, "h")
    c.show("CLIENT", "TRACKING", "on")
    c.show("GET", "tracked")
    other.show("SET", "tracked", "changed")
    tell("resp3", ["invalidation"], c.receive())
    c.show("SUBSCRIBE", "news")
    other.show("PUBLISH", "news", "push")
    tell("resp3", ["push"], c.receive())
    c.show("PING")
    other.show("DEL", "h", "z", "tracked")
    tell("resp3", ["after the push"], b"ok")
    c.close()
    other.close()


def crowd(path):
    """Forty clients in eight threads, each with a counter of its own and one in common."""
    failures = []

    def work(number):
        try:
            clients = [Client(path, f"c{number}.{i}") for i in range(5)]
            for turn in range(40):
                for i, c in enumerate(clients):
                    c.ask("INCR", "common")
                    wanted = b":%d\r\n" % (turn + 1)
                    if c.ask("INCR", f"own{number}.{i}") != wanted:
                        failures.append((number, i, turn))
            for c in clients:
                c.close()
        except Exception as e:  # reported below: a thread's exception must not pass unseen
            failures.append((number, repr(e)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    c = Client(path, "crowd")
    print("failures:", failures)
    c.show("GET", "common")
    c.close()


def main():
    path = sys.argv[1]
    for scene in (large_values, pipelines, publish_and_subscribe, transactions, blocking_pops, kills, protocol_3, crowd):
        print(f"== {scene.__name__}")
        scene(path)
    c = Client(path, "last")
    c.show("DBSIZE")
    c.show("FLUSHALL")
    c.close()
    print(OPENED, file=sys.stderr)


main()
