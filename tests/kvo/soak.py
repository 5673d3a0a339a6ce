"""Key-Value Observation under kill -9: 8 observables, 50 observers, all of them and the controller killed again and again,
for so long: scripts/soak-kvo [SECONDS] [--changes N] [--seed N] [--standby] [--others]. test_soak.py runs it for a minute.
With --standby another controller is always in waiting, and clients start none; with --others besides, every other observer is another
user (as root only), admitted by the controller's rules.

What must hold: revisions rise strictly for each observer; in the end every living observer has every final value;
memory, descriptors and /dev/shm are what they were. Victims are chosen among all clients but the three that show whether
those who live long grow.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import mmap
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass

import psutil
import soak_clients as clients
from kvo_harness import Place, until

import kvoshim.kvo  # noqa: F401 - before another user, who may not read this Python's files, is anybody here
from kvoshim import statistics

OBSERVABLES, OBSERVERS = 8, 50
KILL_S, KILL_CONTROLLER_S = 0.1, 2.0
PATIENCE_S = 60.0
HOLD_S = 2.0
NOBODY = 65534
SLACK = 12  # descriptors; one lost at each kill is more in the shortest run too
GROWTH = 24 << 20  # bytes of resident memory; what is lost at each of thousands of kills is far more
NAMES = [f"engine{number}" for number in range(OBSERVABLES)]
WAYS = [  # (all names?, key, mode, how)
    (False, None, "latest", "thread"),
    (False, "k*", "every", "thread"),
    (True, "k0", "latest", "loop"),
    (False, "k1", "latest", "hand"),
    (True, "k2", "every", "hand"),
    (False, None, "latest", "loop"),
]


@dataclass
class Child:
    role: str  # 'observable', 'observer'
    number: int
    pid: int
    sock: socket.socket
    data: bytes = b""
    ready: bool = False
    state: dict | None = None
    final: dict | None = None
    kept: tuple[int, int] = (0, 0)


class Soak:
    def __init__(self, seconds: float, changes: int, seed: int, standby: bool, others: bool) -> None:
        self.seconds, self.changes, self.others = seconds, changes, others
        self.dice = random.Random(seed)
        self.place = Place()
        self.configuration = self.place.configure(access=[{"allow": ["observe"], "user": NOBODY}]) if standby or others else None
        if others:
            self.place.open_to_others()
        clients.AUTOSTART = self.configuration is None
        self.place.environment["KVOSHIM_LOG"] = "warning"
        os.environ.update(self.place.environment)
        self.counts = mmap.mmap(-1, 8 * (OBSERVABLES + 1))
        self.children: dict[tuple[str, int], Child] = {}
        self.wrong: list[str] = []
        self.killed = self.controllers_killed = 0

    # --- children ---------------------------------------------

    def start(self, role: str, number: int) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                faulthandler.enable()
                ours.close()
                logging.getLogger("kvoshim").setLevel(logging.ERROR)  # that controllers are lost is what this is about
                for child in self.children.values():
                    child.sock.close()
                self._become(role, number, clients.Parent(theirs))
                status = 0
            except BaseException:
                try:
                    clients.Parent(theirs).say(wrong=f"{role} {number}: {traceback.format_exc()}")
                except OSError:
                    pass
            finally:
                os._exit(status)
        theirs.close()
        self.children[role, number] = Child(role, number, pid, ours)

    def _become(self, role: str, number: int, parent: clients.Parent) -> None:
        if role == "observable":
            lasting = number == OBSERVABLES
            rate = self.changes / self.seconds / OBSERVABLES * (0.1 if lasting else 1.3)  # the dead set nothing
            clients.publish(parent, "lasting" if lasting else NAMES[number], rate, self.counts, number)
            return
        if self.others and number % 2:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        _, key, mode, how = self.way(number)
        clients.observe(parent, self.names(number), key, mode, how)

    @staticmethod
    def way(number: int) -> tuple:
        return WAYS[number % len(WAYS)]

    def names(self, number: int) -> list[str]:
        if self.way(number)[0] or number >= OBSERVERS:
            return [*NAMES, "lasting"]
        return [NAMES[number % OBSERVABLES]]

    def lasting(self, child: Child) -> bool:
        return child.number >= (OBSERVABLES if child.role == "observable" else OBSERVERS)

    def kill(self, child: Child) -> None:
        os.kill(child.pid, signal.SIGKILL)
        self.killed += 1
        self._reap(child)

    def _reap(self, child: Child) -> None:
        os.waitpid(child.pid, 0)
        child.sock.close()
        del self.children[child.role, child.number]

    def listen(self, seconds: float) -> None:
        """Takes in what children say, for so long at most."""
        deadline = time.monotonic() + seconds
        while True:
            readable, _, _ = select.select([c.sock for c in self.children.values()], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                return
            for child in [c for c in self.children.values() if c.sock in readable]:
                self._hear(child)
            if time.monotonic() > deadline:
                return

    def _hear(self, child: Child) -> None:
        data = child.sock.recv(1 << 18)
        if not data:
            _, status = os.waitpid(child.pid, 0)
            self.wrong.append(f"{child.role} {child.number} has ended by itself: {status}")
            child.sock.close()
            del self.children[child.role, child.number]
            return
        *lines, child.data = (child.data + data).split(b"\n")
        for message in map(json.loads, lines):
            child.ready |= "ready" in message
            child.state = message.get("state", child.state)
            child.final = message.get("final", child.final)
            if "wrong" in message:
                self.wrong.append(f"{child.role} {child.number} {self.way(child.number)}: {message['wrong']}")

    def tell(self, command: str, role: str | None = None) -> None:
        for child in self.children.values():
            if role in (None, child.role):
                child.sock.sendall(command.encode() + b"\n")

    def hear_until(self, condition, what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition() and not self.wrong:
            if time.monotonic() > deadline:
                self.wrong.append(f"did not come true within {PATIENCE_S:g} s: {what}")
                return
            self.listen(0.05)

    # --- the controller ---------------------------------------------

    def controller(self) -> int:
        """PID of the controller that serves; 0: there is none at the moment."""
        try:
            with open(f"{self.place.socket}.lock") as file:
                pid = int(file.read() or 0)
            return pid if pid and "controller" in psutil.Process(pid).cmdline() else 0
        except (OSError, ValueError, psutil.Error):
            return 0

    def stand_by(self) -> bool:
        """Whether a controller is in waiting; starts one if there is none."""
        known = self.place.controllers
        if any(process.poll() is None and process.pid != self.controller() for process in known):
            return True
        known.append(subprocess.Popen(
            [sys.executable, "-P", "-m", "kvoshim", "controller", "--standby", "--config", str(self.configuration)],
            env=self.place.environment, stderr=subprocess.PIPE, text=True))
        return "standing by" in known[-1].stderr.readline()

    def kill_controller(self) -> None:
        pid = self.controller()
        if pid and (self.configuration is None or self.stand_by()):
            os.kill(pid, signal.SIGKILL)
            self.controllers_killed += 1

    @staticmethod
    def held(pid: int) -> tuple[int, int]:
        process = psutil.Process(pid)
        return process.memory_info().rss, process.num_fds()

    def most_held(self, pids: list[int]) -> dict[int, tuple[int, int]]:
        """The most within a moment in which nobody is killed: who is ready may still have something to fetch, and an observable
        has a descriptor for each process that it rings."""
        until(self.controller, "a controller serves")
        self.hear_until(self.settled, "everybody is there")
        deadline = time.monotonic() + HOLD_S
        most = dict.fromkeys(pids, (0, 0))
        while time.monotonic() < deadline and not self.wrong:
            most = {pid: tuple(map(max, most[pid], self.held(pid))) for pid in pids}
            self.listen(0.1)
        return most

    # --- the run ---------------------------------------------

    def storm(self, seconds: float, controllers: bool) -> None:
        """Kills somebody every KILL_S."""
        now = time.monotonic()
        end, due, controller_due = now + seconds, now, now + KILL_CONTROLLER_S
        while (now := time.monotonic()) < end and not self.wrong:
            if controllers and now >= controller_due:
                controller_due += KILL_CONTROLLER_S
                self.kill_controller()
            due = max(due + KILL_S, now - 1.0)
            victim = self.dice.choice([c for c in self.children.values() if not self.lasting(c)])
            self.kill(victim)
            self.start(victim.role, victim.number)
            self.listen(max(0.0, due - time.monotonic()))

    def settled(self) -> bool:
        return all(child.ready for child in self.children.values())

    def missing(self) -> list[str]:
        """Final values that an observer does not have."""
        finals = {name: self.children["observable", place].final for place, name in enumerate([*NAMES, "lasting"])}
        found = []
        for child in self.children.values():
            if child.role != "observer":
                continue
            _, key, mode, how = self.way(child.number)
            for name in self.names(child.number):
                seen = child.state.get(name, {})
                for wanted, final in finals[name].items():
                    if key in (None, "k*", wanted) and seen.get(wanted, [])[:2] != final:
                        found.append(f"observer {child.number} ({mode}, {how}) lacks {name} {wanted} {final}: {seen.get(wanted)}")
                if key is None and seen.get(clients.FLEETING, [0, 0, "deletion"])[2] != "deletion":
                    found.append(f"observer {child.number} ({mode}, {how}) takes {name} {clients.FLEETING} for present: {seen}")
        return found

    def compare(self) -> None:
        """Every final value reaches every observer."""
        self.hear_until(self.settled, "everybody is there")
        self.tell("finish", "observable")
        self.hear_until(lambda: all(c.final for c in self.children.values() if c.role == "observable"), "final values are set")
        deadline = time.monotonic() + PATIENCE_S
        while not self.wrong:
            for child in self.children.values():
                child.state = None
            self.tell("state", "observer")
            self.hear_until(lambda: all(c.state is not None for c in self.children.values() if c.role == "observer"), "states")
            if self.wrong or not (missing := self.missing()):
                return
            if time.monotonic() > deadline:
                self.wrong += missing
            self.listen(0.1)

    def run(self) -> None:
        before = {name for name in os.listdir("/dev/shm") if "kvo" in name}
        if self.configuration is not None:
            self.place.controller("--config", str(self.configuration))
        for number in range(OBSERVABLES + 1):
            self.start("observable", number)
        for number in range(OBSERVERS + 2):
            self.start("observer", number)
        self.hear_until(self.settled, "everybody is there")
        self.storm(self.seconds * 0.3, True)
        kept = self.most_held([child.pid for child in self.children.values() if self.lasting(child)])
        self.storm(self.seconds * 0.5, True)
        kept |= self.most_held([until(self.controller, "a controller serves")])
        self.storm(self.seconds * 0.2, False)
        self.compare()
        if self.wrong:
            return  # main() ends whoever is left
        self.compare_held(kept)
        self.tell("end")
        for child in list(self.children.values()):
            self._reap(child)
        self.place.close()
        self.place = None
        until(lambda: not (left_in_memory() - before), f"nothing is left in /dev/shm: {left_in_memory() - before}")

    def compare_held(self, kept: dict[int, tuple[int, int]]) -> None:
        for pid, (memory, fds) in kept.items():
            now = until(lambda pid=pid, fds=fds: (now := self.held(pid)) and now[1] <= fds + SLACK and now,
                        f"descriptors of {pid}: {fds}")
            print(f"PID {pid}: memory {memory >> 10} -> {now[0] >> 10} KiB, descriptors {fds} -> {now[1]}", flush=True)
            if now[0] > memory + GROWTH:
                self.wrong.append(f"PID {pid} grows")


def left_in_memory() -> set[str]:
    """All that names no living process: programs that have nothing to do with this one come and go meanwhile."""
    statistics.processes()  # takes away what killed processes have left
    names = {name for name in os.listdir("/dev/shm") if "kvo" in name}
    return {name for name in names if not any(part.isdigit() and psutil.pid_exists(int(part)) for part in name.split("-")[3:4])}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/soak-kvo", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=600, help="how long (default: 600)")
    parser.add_argument("--changes", type=int, help="how many in all (default: 10 million in 10 minutes)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--standby", action="store_true", help="with a controller in waiting")
    parser.add_argument("--others", action="store_true", help="and with observers of another user; needs root")
    arguments = parser.parse_args()
    changes = arguments.changes or int(arguments.seconds * 10_000_000 / 600)
    print(f"seed {arguments.seed}", flush=True)
    soak = Soak(arguments.seconds, changes, arguments.seed, arguments.standby, arguments.others)
    try:
        soak.run()
    except psutil.NoSuchProcess:
        if not soak.wrong:
            raise
    finally:
        for child in soak.children.values():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
        if soak.place is not None:
            soak.place.close()
    made = sum(clients._COUNT.unpack_from(soak.counts, 8 * place)[0] for place in range(OBSERVABLES + 1))
    print(f"{made} changes, {soak.killed} clients and {soak.controllers_killed} controllers killed")
    for text in soak.wrong:
        print(text)
    return bool(soak.wrong)


if __name__ == "__main__":
    sys.exit(main())
