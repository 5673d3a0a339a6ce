"""Kills the registry again and again under many processes that are registered and search.

    python soak.py [--processes 200] [--kills 100]

After each kill: exactly one new registry, all live processes registered again with the identity that they had, no dead one listed,
names owned by who owned them, and no search with a gap or a false removal: a change that is made while there is no registry, and one
behind it, are told to every search, once. Every tenth time a process is killed with the registry, and another one begins. Prints how
long it took until all were registered again; fails loudly.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

PARSER = argparse.ArgumentParser()
PARSER.add_argument("--processes", type=int, default=200)
PARSER.add_argument("--kills", type=int, default=100)
WAIT_S = 120.0  # a watchdog, not an expectation


class Child:
    """A forked process that registers and searches; tells its state when it is asked."""

    def __init__(self, number: int) -> None:
        asking, self._ask = os.pipe()
        self._answer, answering = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                os.close(self._ask)
                os.close(self._answer)
                live(number, asking, answering)
            finally:
                os._exit(1)
        os.close(asking)
        os.close(answering)
        self._lines = os.fdopen(self._answer, "r")

    def state(self) -> dict:
        return self.do("?")

    def do(self, command: str) -> dict:
        self.tell(command)
        return json.loads(self._lines.readline())

    def tell(self, command: str) -> None:
        os.write(self._ask, command.encode() + b"\n")

    def end(self, number: int) -> None:
        os.kill(self.pid, number)
        os.waitpid(self.pid, 0)
        os.close(self._ask)
        self._lines.close()


def live(number: int, asking: int, answering: int) -> None:
    from kvoshim import registry

    seen: dict[int, int] = {}  # pids by id
    problems: list[str] = []
    removed: list[int] = []
    rounds: list[int] = []  # of the process that changes

    def told(event) -> None:
        if event.entry is None:
            return
        if event.kind == "changed" and (turn := event.entry.metadata.get("round")) != event.before.metadata.get("round"):
            rounds.append(turn)
        if event.kind in ("present", "added"):
            if event.entry.id in seen:
                problems.append(f"{event.kind} again: {event.entry}")
            seen[event.entry.id] = event.entry.pid
        elif event.kind == "removed":
            removed.append(event.entry.pid)

    mine = registry.register(f"n{number % 50}", address=f"/{number}")
    search = registry.watch("*", told)
    commands = os.fdopen(asking, "r")
    while command := commands.readline().strip():
        if command != "?":
            mine.update(metadata={"round": int(command)})
        entries = [(entry.id, entry.pid, entry.token, entry.name) for entry in registry.find()]
        state = {"id": mine.id, "token": mine.token, "error": str(mine.error or ""), "entries": entries, "problems": problems,
                 "removed": removed, "rounds": rounds}  # fmt: skip
        os.write(answering, json.dumps(state).encode() + b"\n")
    search.close()


def until(condition, what):
    """what: a text, or a function that gives one."""
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"did not come true within {WAIT_S:g} s: {what() if callable(what) else what}")
        time.sleep(0.005)
    return found


def told(children: list[Child], turn: int) -> None:
    """Waits until every search has told of that change. Those that came later have seen fewer, and without a gap."""
    for child in children:
        last = lambda child=child: child.state()["rounds"][-3:]  # noqa: E731
        until(lambda last=last: last()[-1:] == [turn], lambda child=child, last=last: f"{child.pid} is told of {turn}: {last()}")


def main() -> None:
    options = PARSER.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="kvo-soak-", dir="/tmp"))
    os.environ |= {"HOME": str(directory), "XDG_RUNTIME_DIR": str(directory), "KVOSHIM_LOG_FILE": str(directory / "log")}
    from kvoshim import registry  # noqa: F401  loaded once, for all who are forked
    from kvoshim.errors import ControlUnavailableError
    from kvoshim.process.client import ControlClient
    from kvoshim.registry import aio, seat  # noqa: F401

    def holder() -> int:
        record = seat.Scope().places()[0].read().record
        return record.pid if record is not None and os.path.exists(f"/proc/{record.pid}") else 0

    def daemons() -> list[int]:
        """All registries of this directory that live, whoever they think they are."""
        found = []
        for pid in (name for name in os.listdir("/proc") if name.isdecimal()):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"serve" in words and f"XDG_RUNTIME_DIR={directory}".encode() in environment:
                found.append(int(pid))
        return found

    def status() -> dict:
        try:
            with ControlClient(str(directory / "kvoshim" / "registry.ctl")) as client:
                return client.call("status-get")
        except ControlUnavailableError:
            return {"entries": -1, "settled": False}

    children = [Child(number) for number in range(options.processes)]
    dead: set[int] = set()
    took: list[float] = []
    daemon = 0
    try:
        until(lambda: status()["entries"] == len(children), "all are registered")
        identities = {child.pid: child.state()["id"] for child in children}
        for kill in range(options.kills):
            before = until(holder, "there is a registry")
            os.kill(before, signal.SIGKILL)
            begun = time.monotonic()
            children[0].tell(str(2 * kill + 1))  # a change that there is no registry for
            if kill % 10 == 9:
                victim = children.pop(1 + kill % (len(children) - 1))
                victim.end(signal.SIGKILL)
                dead.add(victim.pid)
            daemon = until(lambda before=before: (pid := holder()) != before and pid, "there is another registry")
            until(lambda: (now := status())["settled"] and now["entries"] == len(children), f"kill {kill}: all are registered again")
            took.append(time.monotonic() - begun)
            json.loads(children[0]._lines.readline())  # the change is made now
            told(children, 2 * kill + 1)
            children[0].do(str(2 * kill + 2))
            told(children, 2 * kill + 2)
            pids = sorted(child.pid for child in children)
            for child in children:
                what = f"kill {kill}: {child.pid} sees all"
                until(lambda child=child: sorted(pid for _, pid, _, _ in child.state()["entries"]) == pids, what)
            states = {child.pid: child.state() for child in children}
            until(lambda daemon=daemon: daemons() == [daemon], f"kill {kill}: exactly one registry")
            for pid, state in states.items():
                assert not state["problems"] and not state["error"], (kill, pid, state["problems"], state["error"])
                assert set(state["removed"]) <= dead, (kill, pid, "somebody who lives was removed")
                seen = state["rounds"]
                assert seen == list(range(seen[0], 2 * kill + 3)), (kill, pid, "its search has a gap", seen)
                if pid in identities:
                    assert state["id"] == identities[pid], (kill, pid, "it is registered as somebody else")
            entries = states[pids[0]]["entries"]
            owned = sorted(name for _, _, token, name in entries if token)
            assert owned == sorted({name for *_, name in entries}), (kill, "each name has one owner")
            if kill % 10 == 9:
                children.append(Child(options.processes + kill))
                children[-1].state()  # it searches, too
                until(lambda: status()["entries"] == len(children), "the new one is registered")
            print(f"kill {kill + 1}: PID {daemon} serves, {len(children)} registered again after {took[-1]:.3f} s", flush=True)
        took.sort()
        print(f"{options.kills} registries killed under {options.processes} processes: all registered again after "
              f"{took[len(took) // 2]:.3f} s (median), {took[-1]:.3f} s (longest)")  # fmt: skip
    finally:
        for child in children:
            child.end(signal.SIGKILL)
        if daemon and (pid := holder()):
            os.kill(pid, signal.SIGTERM)
            until(lambda: not os.path.exists(f"/proc/{pid}") or holder() != pid, "the registry ends")
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
