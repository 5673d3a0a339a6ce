"""A client that floods a controller, and what the others notice of it. `scripts/flood-kvo` measures it; test_flood.py asks
for the behaviour only.

    python flood.py flood KIND [CLIENTS]   floods the controller of KVOSHIM_CONTROLLER until its input ends; prints a line of JSON
    python flood.py publish                sets a key to the time, 500 times a second, until its input ends
    python flood.py measure [SECONDS]      a controller, an observable, an observer; latencies without a flood and with each kind
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import kvoshim
from kvoshim.errors import KvoshimError
from kvoshim.kvo import paths, wire
from kvoshim.kvo.link import Link

MESSAGES = {
    "registrations": lambda n: wire.Observe(n, n % 5000, "flooded", f"key{n}", True, 0, b"", 0),
    "the-same-one": lambda n: wire.Observe(n, 1, "flooded", "key", True, 0, b"", 0),
    "unregistrations": lambda n: wire.Unobserve(n),
    "names": lambda n: wire.Claim(n, f"name{n % 300}", bytes(16)),
    "opening": lambda n: wire.Open(n, f"no such name {n}", True),
    "lists": lambda n: wire.List(n),
    "bells": lambda n: wire.Bell(),
    "refused": lambda n: wire.Observe(n, n, "", "key", True, 0, b"", 0),
}
KINDS = [*MESSAGES, "connections"]
_BATCH = 500


class Flooder:
    """Sends as fast as the controller takes it, and counts the answers by kind: 'done', or the error's code."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.answers: Counter[str] = Counter()
        self.sent = 0
        self.began = time.monotonic()

    def run(self, ended) -> None:
        """Until ended() is true."""
        (self._connect if self.kind == "connections" else self._send)(ended)

    def report(self) -> dict:
        return {"sent": self.sent, "answers": self.answers, "seconds": time.monotonic() - self.began}

    def _send(self, ended) -> None:
        link = Link(paths.controller_path())
        sock = link.sock
        sock.setblocking(False)
        frames = wire.PROTOCOL.of_daemon()
        build, number, data = MESSAGES[self.kind], 0, b""
        try:
            while not ended():
                if not data:
                    data = b"".join(wire.frame(build(number + n + 1)) for n in range(_BATCH))
                    number += _BATCH
                try:
                    done = sock.send(data)
                    self.sent += done * _BATCH // len(data) if done < len(data) else _BATCH
                    data = data[done:]
                except BlockingIOError:
                    select.select([sock.fileno()], [], [], 0.001)
                try:
                    for message in frames.feed(sock.recv(1 << 18)):
                        self.answers[message.code if isinstance(message, wire.Failed) else "done"] += 1
                except BlockingIOError:
                    pass
        finally:
            link.close()

    def _connect(self, ended) -> None:
        while not ended():
            self.sent += 1
            try:
                Link(paths.controller_path()).close()
                self.answers["done"] += 1
            except KvoshimError as error:
                self.answers[wire.PROTOCOL.code_of(error)] += 1


def _input_ended() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


def flood(kind: str, clients: int = 1) -> None:
    flooders = [Flooder(kind) for _ in range(clients)]
    threads = [threading.Thread(target=one.run, args=[_input_ended]) for one in flooders[1:]]
    for thread in threads:
        thread.start()
    flooders[0].run(_input_ended)
    for thread in threads:
        thread.join()
    answers: Counter[str] = sum((one.answers for one in flooders), Counter())
    print(json.dumps({"sent": sum(one.sent for one in flooders), "answers": answers, "seconds": flooders[0].report()["seconds"]}))


def publish() -> None:
    with kvoshim.Observable("clock") as clock:
        print("ready", flush=True)
        while not _input_ended():
            clock.set("now", time.monotonic_ns())
            time.sleep(0.002)


# --- measuring ---------------------------------------------


def _start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-P", __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def measure(seconds: float = 4.0) -> int:
    """Prints a table; 1 if a flood of messages has more than doubled the others' median latency."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ["KVOSHIM_CONTROLLER"] = str(Path(directory, "c"))
        os.environ["KVOSHIM_LOG_FILE"] = str(Path(directory, "log"))
        controller = subprocess.Popen([sys.executable, "-P", "-m", "kvoshim", "controller"], stderr=subprocess.PIPE, text=True)
        controller.stderr.readline()
        publisher = _start("publish")
        publisher.stdout.readline()
        try:
            return _measure(seconds)
        finally:
            publisher.stdin.close()
            publisher.wait()
            controller.terminate()
            controller.wait()


def _measure(seconds: float) -> int:
    latencies: list[int] = []
    status, bare = 0, 0.0
    with kvoshim.Observer() as observer:
        observer.observe("clock", "now", lambda change: latencies.append(time.monotonic_ns() - change.new))
        print(f"{'':16} {'sent/s':>10} {'done/s':>8} {'refused/s':>9} {'median µs':>10} {'p99 µs':>8} {'ratio':>6}")
        for kind in ("", *KINDS):
            flooder = _start("flood", kind) if kind else None
            time.sleep(1.0)  # the first burst counts as well, from here on
            latencies.clear()
            time.sleep(seconds)
            taken = sorted(latencies)
            report = {"sent": 0, "answers": {}, "seconds": 1.0}
            if flooder is not None:
                report = json.loads(flooder.communicate()[0])
            median, p99 = statistics.median(taken) / 1e3, taken[len(taken) * 99 // 100] / 1e3
            bare = bare or median
            counts = report["sent"], report["answers"].get("done", 0), report["answers"].get("rate", 0)
            sent, done, refused = (count / report["seconds"] for count in counts)
            print(f"{kind or 'no flood':16} {sent:10.0f} {done:8.0f} {refused:9.0f} {median:10.1f} {p99:8.1f} {median / bare:6.2f}")
            # How often the controller's own user connects has no limit (quota.py): that is shown, and not judged.
            status |= kind in MESSAGES and median > 2 * bare
            time.sleep(0.5)
    return int(status)


def main(command: str, *arguments: str) -> int:
    if command == "flood":
        flood(arguments[0], int(arguments[1]) if len(arguments) > 1 else 1)
    elif command == "publish":
        publish()
    elif command == "measure":
        return measure(*map(float, arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
