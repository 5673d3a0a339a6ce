"""A client of memcached: everything that it prints is the same on any transport. Word: the socket's path."""

import hashlib
import selectors
import socket
import struct
import sys
import threading

PATH = sys.argv[1]


class Text:
    """One connection with the text protocol."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(PATH)
        self.file = self.socket.makefile("rb")

    def ask(self, line: str, data: bytes | None = None) -> str:
        self.socket.sendall(line.encode() + b"\r\n" + (b"" if data is None else data + b"\r\n"))
        return self.file.readline().decode().strip()

    def get(self, *keys: str, command: str = "get") -> dict[str, bytes]:
        self.socket.sendall(f"{command} {' '.join(keys)}\r\n".encode())
        return self.values()

    def values(self) -> dict[str, bytes]:
        found = {}
        while (line := self.file.readline()) != b"END\r\n":
            words = line.split()
            assert words[0] == b"VALUE", line
            found[words[1].decode()] = self.file.read(int(words[3]) + 2)[:-2]
        return found

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def basics() -> None:
    c = Text()
    for line, data in [("set a 5 0 3", b"one"), ("add a 0 0 3", b"two"), ("append a 0 0 4", b"more"),
                       ("replace nothing 0 0 1", b"x"), ("set n 0 0 2", b"41"), ("incr n 1", None), ("decr n 50", None),
                       ("incr a 1", None), ("delete a", None), ("delete a", None), ("touch n 100", None),
                       ("cas n 0 0 1 999999", b"1"), ("nonsense", None), ("set k 0 0 nonsense", None),
                       ("verbosity 0", None), ("flush_all", None), ("get n", None)]:
        print("text", line, "->", c.ask(line, data))
    print("version", c.ask("version").split()[0])
    print("meta", c.ask("ms key 4 T90 F3", b"data"), c.ask("mn"), c.ask("md key"), c.ask("md key"))
    c.socket.sendall(b"quit\r\n")
    print("after quit", c.file.read())
    c.close()


def sizes() -> None:
    c = Text()
    for size in (0, 1, 100, 2048, 65535, 65536, 300_000, 1_000_000, 7_000_000):
        data = bytes(i * 31 % 251 for i in range(1000)) * (size // 1000 + 1)
        print("size", size, c.ask(f"set big{size} 0 0 {size}", data[:size]), digest(c.get(f"big{size}")[f"big{size}"]),
              digest(data[:size]))
    print("too large", c.ask("set big 0 0 9000000", bytes(9_000_000)))
    print("many", [(k, len(v)) for k, v in sorted(c.get("big0", "big1", "none", "big300000", "big1000000").items())])
    c.close()


def pipelined() -> None:
    """A thousand requests before the first answer is read, more than any buffer holds; the answers in order."""
    c = Text()
    value = b"v" * 900
    c.socket.sendall(b"".join(b"set p%d 0 0 900 noreply\r\n%s\r\n" % (i, value) for i in range(1000)))
    asked = b"".join(b"get p%d\r\n" % i for i in range(1000))
    writer = threading.Thread(target=c.socket.sendall, args=(asked * 3,))
    writer.start()
    right = sum(c.values() == {f"p{i % 1000}": value} for i in range(3000))
    writer.join()
    print("pipelined", right)
    c.close()


def unread_then_close() -> None:
    """The client goes while the server still wants to send megabytes; others must not notice."""
    c = Text()
    c.ask("set heavy 0 0 4000000", b"h" * 4_000_000)
    c.socket.sendall(b"get heavy\r\n" * 20)
    c.file.read(10)
    c.close()
    c = Text()
    print("after a client that left", len(c.get("heavy")["heavy"]))
    c.socket.sendall(b"get heavy\r\nquit\r\n")
    c.socket.shutdown(socket.SHUT_WR)
    print("half-closed", digest(c.file.read()))
    c.close()


def binary() -> None:
    c = socket.socket(socket.AF_UNIX)
    c.connect(PATH)
    f = c.makefile("rb")

    def ask(opcode: int, key: bytes = b"", extras: bytes = b"", value: bytes = b"") -> tuple:
        body = extras + key + value
        c.sendall(struct.pack("!BBHBBHIIQ", 0x80, opcode, len(key), len(extras), 0, 0, len(body), 7, 0) + body)
        magic, op, _, n, _, status, total, opaque, _ = struct.unpack("!BBHBBHIIQ", f.read(24))
        return magic, op, status, opaque, digest(f.read(total)[n:])

    for size in (0, 10, 100_000, 2_000_000):
        print("binary", size, ask(1, b"bin", struct.pack("!II", 9, 0), b"b" * size), ask(0, b"bin"))
    print("binary", ask(0, b"absent")[:4], ask(10), ask(0x77)[:4])
    print("binary quit", ask(7), f.read())
    f.close()
    c.close()


def crowd(clients: int = 16, rounds: int = 300) -> None:
    """Threads with a connection each increase one counter."""
    first = Text()
    first.ask("set counter 0 0 1", b"0")

    def work(number: int) -> None:
        c = Text()
        for i in range(rounds):
            c.ask("incr counter 1")
            if i % 10 == 0:
                own = f"own{number}"
                c.ask(f"set {own} 0 0 {i * 50}", b"o" * (i * 50))
                assert len(c.get(own)[own]) == i * 50
        c.close()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print("crowd", first.get("counter")["counter"].strip())
    first.close()


def nonblocking() -> None:
    c = socket.socket(socket.AF_UNIX)
    c.setblocking(False)
    c.connect(PATH)
    out, got = b"set s 0 0 3000000\r\n" + b"s" * 3_000_000 + b"\r\nget s\r\n" * 3, bytearray()
    done = out_at = 0
    with selectors.DefaultSelector() as selector:
        selector.register(c, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while not done:
            for _, mask in selector.select():
                if mask & selectors.EVENT_WRITE and out_at < len(out):
                    out_at += c.send(out[out_at:out_at + 500_000])
                    if out_at == len(out):
                        selector.modify(c, selectors.EVENT_READ)
                if mask & selectors.EVENT_READ:
                    got += c.recv(65536)
                    done = got.count(b"END\r\n") == 3
    print("non-blocking", len(got), digest(bytes(got)))
    c.close()


for part in (basics, sizes, pipelined, unread_then_close, binary, crowd, nonblocking):
    part()
