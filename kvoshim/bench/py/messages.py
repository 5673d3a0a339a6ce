"""The benchmark over message transports that Python programs use: prints one line of JSON, as stream.py does.

    messages.py server|client --peer mp-pipe|pyzmq|pynng|iceoryx2|mmap --path PATH [--yield-after N] [--cpu N]
    messages.py client … --mode rtt|oneway [--size BYTES] [--seconds S] [--warm N]

A transport that is polled gives up the CPU after N looks in vain; 0 at once, -1 never. Such a server makes PATH.ready when
it can be reached.
"""

import argparse
import ctypes
import json
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from phases import NUMBER, Client, serve

# receive() and send(data)
Ends = tuple[Callable[[], bytes], Callable[[bytes], object]]
RING = 1 << 20
# Words in front of a ring: what was written and what was read, in cache lines of their own.
TAIL, HEAD, FRONT = 0, 16, 256


def polled(look: Callable[[], bytes | None], yield_after: int) -> Callable[[], bytes]:
    """receive() by looking again and again."""

    def receive() -> bytes:
        looks = 0
        while (found := look()) is None:
            looks += 1
            if 0 <= yield_after < looks:
                os.sched_yield()
        return found

    return receive


def ready(path: str) -> None:
    """Says that clients can come."""
    Path(path + ".ready").touch()


@contextmanager
def mp_pipe(serves: bool, path: str, _yield_after: int) -> Iterator[Ends]:
    """The connections that multiprocessing.Pipe() returns, between programs that know a path."""
    from multiprocessing.connection import Client, Listener

    if serves:
        with Listener(path, "AF_UNIX") as listener, listener.accept() as connection:
            yield connection.recv_bytes, connection.send_bytes
    else:
        with Client(path, "AF_UNIX") as connection:
            yield connection.recv_bytes, connection.send_bytes


@contextmanager
def pyzmq(serves: bool, path: str, _yield_after: int) -> Iterator[Ends]:
    """A PAIR socket at each end."""
    import zmq

    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        (socket.bind if serves else socket.connect)(f"ipc://{path}")
        yield socket.recv, socket.send


@contextmanager
def pynng(serves: bool, path: str, _yield_after: int) -> Iterator[Ends]:
    """A Pair0 socket at each end."""
    import pynng

    address = f"ipc://{path}"
    with pynng.Pair0(listen=address) if serves else pynng.Pair0(dial=address) as socket:
        yield socket.recv, socket.send
        deadline = time.monotonic() + 10
        while not serves and socket.pipes and time.monotonic() < deadline:
            time.sleep(0.01)  # closing drops what has not left yet: the server's end says that it has


@contextmanager
def iceoryx2(serves: bool, path: str, yield_after: int) -> Iterator[Ends]:
    """A publish-subscribe service in each direction. Slow receivers are waited for: nothing is dropped."""
    import iceoryx2 as iox2

    iox2.set_log_level(iox2.LogLevel.Fatal)
    node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)

    def service(direction: str):
        name = iox2.ServiceName.new(f"kvoshim-bench{path}/{direction}")
        builder = node.service_builder(name).publish_subscribe(iox2.Slice[ctypes.c_uint8])
        return builder.enable_safe_overflow(False).max_publishers(1).max_subscribers(1).open_or_create()

    requests, answers = service("requests"), service("answers")
    incoming, outgoing = (requests, answers) if serves else (answers, requests)
    subscriber = incoming.subscriber_builder().create()
    publisher = (
        outgoing.publisher_builder()
        .initial_max_slice_len(1 << 16)
        .allocation_strategy(iox2.AllocationStrategy.PowerOfTwo)
        .backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered)
        .create()
    )

    def look() -> bytes | None:
        sample = subscriber.receive()
        if sample is None:
            return None
        payload = sample.payload()
        data = ctypes.string_at(payload.data_ptr, payload.number_of_elements)
        sample.delete()
        return data

    def send(data: bytes) -> None:
        sample = publisher.loan_slice_uninit(len(data))
        ctypes.memmove(sample.payload_ptr, data, len(data))
        sample.assume_init().send()

    if serves:
        ready(path)
    try:
        yield polled(look, yield_after), send
    finally:
        subscriber.delete()
        publisher.delete()


class Ring:
    """A ring of messages in shared memory, one writer and one reader. Right only where stores are seen in the order in
    which they were made (x86-64)."""

    def __init__(self, memory: memoryview, yield_after: int) -> None:
        self.words = memory[:FRONT].cast("Q")
        self.bytes = memory[FRONT:]
        self.own = 0
        self.yield_after = yield_after

    def close(self) -> None:
        """Lets the memory be unmapped."""
        self.words.release()
        self.bytes.release()

    def put(self, data: bytes) -> None:
        """A length and the message, in pieces that fit."""
        for part in (len(data).to_bytes(8, "little"), data):
            for at in range(0, len(part), RING // 4):
                self.write(part[at : at + RING // 4])

    def write(self, piece: bytes) -> None:
        """One piece, as soon as there is room."""
        looks = 0
        while RING - (self.own - self.words[HEAD]) < len(piece):
            looks += 1
            if 0 <= self.yield_after < looks:
                os.sched_yield()
        at = self.own % RING
        first = min(RING - at, len(piece))
        self.bytes[at : at + first] = piece[:first]
        self.bytes[: len(piece) - first] = piece[first:]
        self.own += len(piece)
        self.words[TAIL] = self.own

    def read(self, size: int) -> bytes:
        """Exactly so many bytes."""
        parts = []
        while size:
            looks = 0
            while not (there := self.words[TAIL] - self.own):
                looks += 1
                if 0 <= self.yield_after < looks:
                    os.sched_yield()
            at = self.own % RING
            part = bytes(self.bytes[at : at + min(there, size, RING - at)])
            self.own += len(part)
            self.words[HEAD] = self.own
            size -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def get(self) -> bytes:
        """One message."""
        return self.read(int.from_bytes(self.read(8), "little"))


@contextmanager
def plain_mmap(serves: bool, path: str, yield_after: int) -> Iterator[Ends]:
    """Two such rings in one file."""
    room = FRONT + RING
    with open(path, "w+b" if serves else "r+b") as file:
        if serves:
            file.truncate(2 * room)
        with mmap.mmap(file.fileno(), 2 * room) as memory, memoryview(memory) as view:
            halves = view[:room], view[room:]
            rings = [Ring(half, yield_after) for half in halves]
            incoming, outgoing = rings if serves else reversed(rings)
            if serves:
                ready(path)
            with closing(rings[0]), closing(rings[1]):
                yield incoming.get, outgoing.put
            for half in halves:
                half.release()


PEERS = {"mp-pipe": mp_pipe, "pyzmq": pyzmq, "pynng": pynng, "iceoryx2": iceoryx2, "mmap": plain_mmap}


def main() -> None:
    """Runs the role that the command line names."""
    parser = argparse.ArgumentParser(description="Benchmark over a message transport.")
    parser.add_argument("role", choices=("server", "client"))
    parser.add_argument("--peer", required=True, choices=PEERS)
    parser.add_argument("--path", required=True)
    parser.add_argument("--mode", default="rtt", choices=("rtt", "oneway"))
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--warm", type=int, default=500)
    parser.add_argument("--yield-after", type=int, default=100)
    parser.add_argument("--cpu", type=int, default=-1)
    arguments = parser.parse_args()
    if arguments.size < NUMBER.size:
        parser.error("--size must be at least 8")
    if arguments.cpu >= 0:
        os.sched_setaffinity(0, {arguments.cpu})
    serves = arguments.role == "server"
    with PEERS[arguments.peer](serves, arguments.path, arguments.yield_after) as (receive, send):

        def exactly(size: int) -> bytes:
            data = receive()
            if len(data) != size:
                sys.exit(f"a message of {len(data)} bytes, not {size}")
            return data

        def sink(count: int, size: int) -> None:
            for _ in range(count):
                exactly(size)

        if serves:
            serve(exactly, send, sink)
            return
        figures = Client(exactly, send, arguments.size).run(arguments.mode, arguments.seconds, arguments.warm)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
