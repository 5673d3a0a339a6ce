"""What client and server of the Python benchmarks say to each other, as the C drivers do (c/wire.h).

Both sides are given how to send and how to receive: `send(data)`, and `receive(size)`, which returns exactly so many
bytes, or b'' where the stream ended before the first. So the same text measures sockets and message queues.
"""

import struct
import sys
import time
from time import perf_counter_ns

from figures import account, used, used_since

ECHO, SINK, END = 1, 2, 3
TAKE_ANY = 1
PHASE = struct.Struct("=IIQQ")
ACCOUNT = struct.Struct("=QQQQ")
NUMBER = struct.Struct("=Q")
SLICES = 200
MOST_TRIPS = 1_000_000
PACE = 1_000_000


def serve(receive, send, sink) -> None:
    """Phase by phase as the client asks. sink(count, size) takes a stream's messages."""
    while head := receive(PHASE.size):
        what, _take, count, size = PHASE.unpack(head)
        if what == END:
            return
        start = used()
        if what == ECHO:
            for _ in range(count):
                send(receive(size))
        else:
            sink(count, size)
        send(ACCOUNT.pack(count, count * size, *used_since(start)))


class Client:
    """The leading side. Times are lists of nanoseconds for one operation."""

    def __init__(self, receive, send, size: int) -> None:
        self.receive, self.send, self.size = receive, send, size
        self.rest = bytes(size - NUMBER.size)

    def finish(self, count: int, begin: int, start: tuple[int, int], times: list[float]) -> dict[str, object]:
        """The measured stretch's figures. The one-way stretch ends when the server has accounted for it."""
        near = used_since(start)
        done, size, *far = ACCOUNT.unpack(self.receive(ACCOUNT.size))
        if (done, size) != (count, count * self.size):
            sys.exit(f"the server counts {done} messages, not {count}")
        return account(self.size, count, begin, near, far, times)

    def trips(self, count: int, pace: int = 0) -> dict[str, object]:
        """`count` round trips, back to back or one every `pace` nanoseconds, each answer checked against its request."""
        send, receive, size, rest = self.send, self.receive, self.size, self.rest
        times = [0.0] * count
        send(PHASE.pack(ECHO, 0, count, size))
        start = used()
        begin = before = perf_counter_ns()
        for number in range(count):
            if pace:
                time.sleep(max(0, begin + (number + 1) * pace - perf_counter_ns()) / 1e9)
                before = perf_counter_ns()
            request = NUMBER.pack(number) + rest
            send(request)
            if receive(size) != request:
                sys.exit(f"wrong answer to request {number}")
            after = perf_counter_ns()
            times[number] = after - before
            before = after
        return self.finish(count, begin, start, times)

    def messages(self, count: int) -> dict[str, object]:
        """`count` messages one way."""
        send, message = self.send, bytes(self.size)
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
        """Warm-up, then a stretch of about `seconds`; ends the server."""
        self.trips(warm)
        # The second half of a doubled warm-up tells the pace; negotiation happened in the first.
        rate = self.trips(warm)["messages_per_s"]
        if mode == "oneway":
            figures = self.messages(self.stream_length(seconds))
        elif mode == "paced":
            figures = self.trips(max(20, int(seconds * 1e9 / PACE)), PACE)
        else:
            figures = self.trips(min(max(int(seconds * rate), 100), MOST_TRIPS))
        self.send(PHASE.pack(END, 0, 0, 0))
        return {"what": mode, **figures}

    def stream_length(self, seconds: float) -> int:
        """How many messages fill so many seconds. A short stream fits into the buffers and reads too fast."""
        count, lasted, rate = 500, 0.0, 0.0
        while lasted < seconds / 10:
            count *= 2
            trial = self.messages(count)
            lasted, rate = trial["seconds"], trial["messages_per_s"]
        return max(1000, int(seconds * rate))
