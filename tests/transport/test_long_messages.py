"""A message of several pieces: a receive that has room takes the next piece with the first if that is being written."""

import ctypes
import struct

import pytest
from patternlib import pattern
from transportlib import TRANSPORTS, connected, parameter, warm_up

PIECE = 16384
MAGIC = b"KVOSHIM1"
TAIL, PROMISED = 64, 128 + 16  # offsets of the client's in the header (layout.h)
accelerated = pytest.mark.parametrize("transport", [parameter(one) for one in TRANSPORTS if one != "kernel"])


def headers():
    """The segments that this process has mapped: start address of each, by device and inode."""
    found = {}
    with open("/proc/self/maps") as maps:
        for line in maps:
            if "memfd:kvoshim" in line:
                start = int(line.split("-")[0], 16)
                if ctypes.string_at(start, 8) == MAGIC:
                    found[line.split()[4]] = start
    return found


@pytest.fixture
def pair(transport, path):
    """(client, server, address of the segment) of an accelerated connection in this process."""
    before = headers()
    client, server = connected(TRANSPORTS[transport], path)
    with client, server:
        warm_up(client, server)
        mine = [address for inode, address in headers().items() if inode not in before]
        assert len(mine) == 1
        yield client, server, mine[0]


def word(address):
    return struct.unpack("Q", ctypes.string_at(address, 8))[0]


@accelerated
@pytest.mark.parametrize("ahead", [1, PIECE, 1 << 17, 1 << 18, (1 << 18) + 1, 1 << 40, (1 << 64) - 1, 1 << 63])
def test_a_promise_that_is_not_kept_holds_nobody_up(pair, ahead):
    client, server, segment = pair
    client.sendall(pattern(PIECE))
    ctypes.memmove(segment + PROMISED, struct.pack("Q", (word(segment + TAIL) + ahead) % (1 << 64)), 8)
    assert server.recv(1 << 20) == pattern(PIECE)
    client.sendall(b"next")
    assert server.recv(1 << 20) == b"next"


@accelerated
def test_what_is_promised_is_what_is_sent(pair):
    """After a whole message the promise is no further than its end; where the ring is full, no further than its room."""
    client, server, segment = pair
    for size in (PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 7):
        client.sendall(pattern(size))
        assert word(segment + PROMISED) <= word(segment + TAIL)
        assert server.recv(1 << 20) == pattern(size)
    client.setblocking(False)
    sent = client.send(bytes(1 << 20))
    assert sent == 1 << 18 and word(segment + PROMISED) == word(segment + TAIL)
    got = 0
    while got < sent:
        got += len(server.recv(1 << 20))
