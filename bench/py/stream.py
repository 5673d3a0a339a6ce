"""The stream benchmark in Python: server and client, over the socket module named on the command line.

    stream.py server|client --path PATH [--module socket|kvoshim.socket] …
    stream.py client --path PATH --mode rtt|oneway [--size BYTES] [--seconds S] [--warm N] [--cpu N]

The program is the same for both modules; only the import differs. It speaks the protocol of bench/c/wire.h
and prints the C client's line of JSON. In oneway mode the server takes what is there; times are per message.
"""

import argparse
import importlib
import json
import os
import resource
import struct
import sys
from time import perf_counter_ns

ECHO, SINK, END = 1, 2, 3
TAKE_ANY = 1
PHASE = struct.Struct("=IIQQ")
ACCOUNT = struct.Struct("=QQQQ")
NUMBER = struct.Struct("=Q")
TAKE_ROOM = 256 * 1024
SLICES = 200
MOST_TRIPS = 1_000_000


def used() -> tuple[int, int]:
    """CPU nanoseconds and voluntary context switches of this process since it began."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return int((usage.ru_utime + usage.ru_stime) * 1e9), usage.ru_nvcsw


def receive(connection, size: int) -> bytes:
    """Exactly `size` bytes; b'' if the stream ended before the first."""
    data = connection.recv(size)
    if len(data) == size or not data:
        return data
    parts, have = [data], len(data)
    while have < size:
        data = connection.recv(size - have)
        if not data:
            sys.exit(f"the stream ended after {have} of {size} bytes")
        parts.append(data)
        have += len(data)
    return b"".join(parts)


def serve(socket, path: str) -> None:
    """One connection, phase by phase as the client asks."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(8)
        connection, _ = listener.accept()
        with connection:
            while head := receive(connection, PHASE.size):
                what, _take, count, size = PHASE.unpack(head)
                if what == END:
                    return
                cpu, switches = used()
                if what == ECHO:
                    for _ in range(count):
                        connection.sendall(receive(connection, size))
                else:
                    left = count * size
                    while left:
                        got = len(connection.recv(min(left, TAKE_ROOM)))
                        if not got:
                            sys.exit(f"the stream ended {left} bytes early")
                        left -= got
                cpu_end, switches_end = used()
                connection.sendall(ACCOUNT.pack(count, count * size, cpu_end - cpu, switches_end - switches))


class Client:
    """The leading side. Times are lists of nanoseconds for one operation."""

    def __init__(self, connection, size: int) -> None:
        self.connection = connection
        self.size = size
        self.rest = bytes(size - NUMBER.size)

    def account(self, count: int) -> tuple[int, int]:
        done, size, cpu, switches = ACCOUNT.unpack(receive(self.connection, ACCOUNT.size))
        if (done, size) != (count, count * self.size):
            sys.exit(f"the server counts {done} messages, not {count}")
        return cpu, switches

    def finish(self, count: int, begin: int, start: tuple[int, int], times: list[float]) -> dict[str, object]:
        """The measured stretch's figures. The one-way stretch ends when the server has accounted for it."""
        near = [end - before for end, before in zip(used(), start, strict=True)]
        far = self.account(count)
        wall = perf_counter_ns() - begin
        times = sorted(times)
        return {
            "size": self.size,
            "count": count,
            "seconds": wall / 1e9,
            "median_ns": times[(len(times) - 1) // 2],
            "p99_ns": times[int((len(times) - 1) * 0.99)],
            "min_ns": times[0],
            "mean_ns": wall / count,
            "messages_per_s": count * 1e9 / wall,
            "bytes_per_s": count * self.size * 1e9 / wall,
            "cpu_client_s": near[0] / 1e9,
            "cpu_server_s": far[0] / 1e9,
            "switches_client": near[1],
            "switches_server": far[1],
        }

    def trips(self, count: int) -> dict[str, object]:
        """`count` round trips back to back, each answer checked against its request's number."""
        send, size, rest, connection = self.connection.sendall, self.size, self.rest, self.connection
        times = [0.0] * count
        send(PHASE.pack(ECHO, 0, count, size))
        start = used()
        begin = before = perf_counter_ns()
        for number in range(count):
            request = NUMBER.pack(number) + rest
            send(request)
            if receive(connection, size) != request:
                sys.exit(f"wrong answer to request {number}")
            after = perf_counter_ns()
            times[number] = after - before
            before = after
        return self.finish(count, begin, start, times)

    def messages(self, count: int) -> dict[str, object]:
        """`count` messages one way."""
        send, message = self.connection.sendall, bytes(self.size)
        slice_size = max(1, count // SLICES)
        times = []
        send(PHASE.pack(SINK, TAKE_ANY, count, self.size))
        start = used()
        begin = before = perf_counter_ns()
        for number in range(1, count + 1):
            send(message)
            if number % slice_size == 0:
                after = perf_counter_ns()
                times.append((after - before) / slice_size)
                before = after
        return self.finish(count, begin, start, times)

    def run(self, mode: str, seconds: float, warm: int) -> dict[str, object]:
        """Warm-up, then a stretch of about `seconds`."""
        trial = self.trips(warm)
        # The second half of a doubled warm-up tells the pace; negotiation happened in the first.
        trial = self.trips(warm)
        if mode == "rtt":
            count = int(seconds * trial["messages_per_s"])
            return {"what": "rtt", **self.trips(min(max(count, 100), MOST_TRIPS))}
        count = 500
        while True:
            count *= 2
            trial = self.messages(count)
            if trial["seconds"] >= seconds / 10:
                break
        return {"what": "oneway", **self.messages(max(1000, int(seconds * trial["messages_per_s"])))}


def main() -> None:
    """Runs the role that the command line names."""
    parser = argparse.ArgumentParser(description="Stream benchmark over a Python socket module.")
    parser.add_argument("role", choices=("server", "client"))
    parser.add_argument("--path", required=True)
    parser.add_argument("--module", default="socket", choices=("socket", "kvoshim.socket"))
    parser.add_argument("--mode", default="rtt", choices=("rtt", "oneway"))
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--warm", type=int, default=2000)
    parser.add_argument("--cpu", type=int, default=-1)
    arguments = parser.parse_args()
    if arguments.size < NUMBER.size:
        parser.error("--size must be at least 8")
    if arguments.cpu >= 0:
        os.sched_setaffinity(0, {arguments.cpu})
    socket = importlib.import_module(arguments.module)
    if arguments.role == "server":
        serve(socket, arguments.path)
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(arguments.path)
        client = Client(connection, arguments.size)
        figures = client.run(arguments.mode, arguments.seconds, arguments.warm)
        connection.sendall(PHASE.pack(END, 0, 0, 0))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
