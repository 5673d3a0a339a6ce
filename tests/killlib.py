"""Kill -9 either side of a connection in mid-transfer, at random moments, and look at what the other side sees.

The other side must have received exactly a prefix of what was sent, and no less than what the killed side's send() had
taken; both its directions must end (end of stream or ECONNRESET; EPIPE or ECONNRESET); and nothing may be left behind:
no process, no shared memory, and in a server that lives on, no descriptor and no mapping.
"""

from __future__ import annotations

import collections
import errno
import mmap
import os
import random
import struct
import subprocess
import time
from pathlib import Path

import shimlib
import snippetlib

STYLES = ("threads", "epoll", "epoll-edge")
_SLOT = struct.Struct("=QQQQqqQQ")
_FIELDS = "connected sent tried received receive_end send_end wrong_at served".split()
Slot = collections.namedtuple("Slot", _FIELDS)


class Ledger:
    """The file in which both sides keep account; outlives them."""

    def __init__(self, path: Path):
        self.path = path
        path.write_bytes(bytes(4096))
        with open(path, "r+b") as f:
            self._map = mmap.mmap(f.fileno(), 4096)

    def __getitem__(self, slot: int) -> Slot:
        return Slot(*_SLOT.unpack_from(self._map, slot * _SLOT.size))

    def close(self) -> None:
        self._map.close()


def start(role: str, path: Path, ledger: Ledger, slot: int, style: str, seed: int, shim: shimlib.Shim | None
          ) -> subprocess.Popen:
    cmd = [str(snippetlib.compiled("duplex", "programs")), role, str(path), str(ledger.path), str(slot), style, str(seed)]
    return subprocess.Popen(cmd, env=shimlib.env_of(shim), stdin=subprocess.DEVNULL, start_new_session=True)


def wait_for(what, seconds: float, failure) -> None:
    """Poll until `what()` is true; AssertionError with the text of `failure()` after `seconds`."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise AssertionError(failure())
        time.sleep(0.0005)


def one_kill(place: shimlib.Place, shim: shimlib.Shim | None, draw: random.Random, number: int) -> str:
    """One connection, one kill. Returns how it ended for the other side; raises AssertionError if that was wrong."""
    path, ledger = place / f"{number}.sock", Ledger(place / f"{number}.ledger")
    styles, victim = [draw.choice(STYLES), draw.choice(STYLES)], draw.randrange(2)
    # Half of the kills come within the first 3 ms, where the connection changes over to the rings.
    delay = draw.uniform(0, 0.003) if draw.random() < 0.5 else draw.uniform(0, 0.05)
    what = f"kill {number}: {('server', 'client')[victim]} killed after {delay * 1000:.2f} ms, server {styles[0]}, client {styles[1]}"
    sides = []
    try:
        sides.append(start("listen", path, ledger, 0, styles[0], number * 2 + 1, shim))
        wait_for(path.exists, 20, lambda: f"{what}: no server")
        sides.append(start("connect", path, ledger, 1, styles[1], number * 2 + 2, shim))
        wait_for(lambda: ledger[1].connected or sides[1].poll() is not None, 20,
                 lambda: f"{what}: client does not connect\n{shimlib.describe_group(sides[1].pid)}")
        assert ledger[1].connected, f"{what}: client ended with {sides[1].returncode} before it was connected"
        time.sleep(delay)
        sides[victim].kill()
        sides[victim].wait()
        other = sides[1 - victim]
        try:
            status = other.wait(20)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{what}: the other side hangs: {ledger[1 - victim]}, killed side {ledger[victim]}\n"
                                 f"{shimlib.describe_group(other.pid)}") from None
        dead, alive = ledger[victim], ledger[1 - victim]
        facts = f"{what}: status {status}\n  killed: {dead}\n  alive: {alive}"
        assert status == 0 and not alive.wrong_at, f"wrong byte\n{facts}"
        assert alive.received <= dead.tried, f"received more than was sent\n{facts}"
        assert alive.received >= dead.sent, f"bytes that send() had taken are lost\n{facts}"
        assert alive.receive_end in (1, -errno.ECONNRESET), f"receiving ended wrongly\n{facts}"
        assert alive.send_end in (-errno.EPIPE, -errno.ECONNRESET), f"sending ended wrongly\n{facts}"
        return "end" if alive.receive_end == 1 else "reset"
    finally:
        for side in sides:
            shimlib.end_group(side)
            side.wait()
        ledger.close()
        ledger.path.unlink()
        path.unlink(missing_ok=True)


def many_kills(place: shimlib.Place, shim: shimlib.Shim | None, count: int, seed: int, tell=lambda text: None
               ) -> collections.Counter:
    """`count` kills; how often the other side saw what."""
    draw, seen = random.Random(seed), collections.Counter()
    for number in range(count):
        seen[one_kill(place, shim, draw, number)] += 1
        tell(f"{number + 1} kills: {dict(seen)}")
    return seen


def holdings(pid: int) -> tuple[int, int]:
    """Descriptors and shared mappings of a process."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return len(os.listdir(f"/proc/{pid}/fd")), sum("memfd:" in line or "/dev/shm" in line for line in maps)


def kill_clients_of_one_server(place: shimlib.Place, shim: shimlib.Shim | None, count: int, seed: int) -> None:
    """A server that lives on while `count` clients, up to four at once, are killed: its holdings must not grow."""
    draw, path, ledger = random.Random(seed), place / "keep.sock", Ledger(place / "keep.ledger")
    server, clients, started, base = start("keep", path, ledger, 0, "threads", 1, shim), [], 0, None
    try:
        wait_for(path.exists, 20, lambda: "no server")
        while started < count or clients:
            while started < count and len(clients) < 4:
                clients.append((start("connect", path, ledger, 1 + started % 50, draw.choice(STYLES), started, shim),
                                time.monotonic() + draw.uniform(0.005, 0.06)))
                started += 1
            client, when = clients.pop(0)
            time.sleep(max(0, when - time.monotonic()))
            client.kill()
            client.wait()
            if started == count // 3 and base is None:  # whatever a process keeps for further use it keeps by now
                while clients:
                    last, _ = clients.pop(0)
                    last.kill()
                    last.wait()
                base = settled(server.pid)
            assert server.poll() is None, f"the server ended with {server.returncode}"
        after = settled(server.pid)
        assert not ledger[0].wrong_at
        assert ledger[0].served > count // 2, f"only {ledger[0].served} of {count} connections served"
        assert after[0] <= base[0] and after[1] <= base[1] + 6, f"(descriptors, mappings) of the server: {base} became {after}"
    finally:
        for process in (server, *(c for c, _ in clients)):
            shimlib.end_group(process)
            process.wait()
        ledger.close()


def settled(pid: int) -> tuple[int, int]:
    """A process's holdings once they no longer change."""
    last, same = holdings(pid), 0
    end = time.monotonic() + 15
    while same < 6 and time.monotonic() < end:
        time.sleep(0.1)
        now = holdings(pid)
        same, last = (same + 1 if now == last else 0), now
    return last
