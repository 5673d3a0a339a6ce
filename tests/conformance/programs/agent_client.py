"""A raw client of ssh-agent: requests in pieces, many in a row, half a one before the end. Word: the socket's path."""

import socket
import struct
import sys

PATH = sys.argv[1]
socket.setdefaulttimeout(30)
LIST = struct.pack(">IB", 1, 11)


def connect() -> socket.socket:
    s = socket.socket(socket.AF_UNIX)
    s.connect(PATH)
    return s


def answer(s: socket.socket) -> bytes:
    def exactly(n: int) -> bytes:
        got = b""
        while len(got) < n:
            part = s.recv(n - len(got))
            if not part:
                raise EOFError
            got += part
        return got
    return exactly(struct.unpack(">I", exactly(4))[0])


with connect() as s:
    for _ in range(20):
        for byte in LIST:
            s.sendall(bytes([byte]))
        print("in pieces", answer(s).hex())
with connect() as s:
    s.sendall(LIST * 500)
    print("many in a row", {answer(s).hex() for _ in range(500)})
    s.sendall(struct.pack(">IB", 1, 200))
    print("unknown request", answer(s).hex())
    s.sendall(struct.pack(">IB", 200_001, 27) + b"x" * 200_000)
    print("large request", answer(s).hex())
    s.sendall(LIST[:3])
    s.shutdown(socket.SHUT_WR)
    print("half a request and the end", s.recv(100))
with connect() as s:
    s.sendall(LIST)
    print("before a wrong one", answer(s).hex())
    s.sendall(struct.pack(">IB", 1 << 30, 11))
    try:
        print("too long a request", s.recv(100))
    except ConnectionResetError:
        print("too long a request: reset")
idle = [connect() for _ in range(50)]
for s in idle:
    s.sendall(LIST)
print("fifty at once", {answer(s).hex() for s in reversed(idle)})
for s in idle:
    s.close()
