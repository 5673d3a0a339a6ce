"""Which processes are a service's, and signals to all of them.

Where a control group can be had, the kernel knows (cgroup.py). Else a process is a service's if it is a descendant of the main
process, or of the service's session, or of a process that was found to be one before: the spawner is the reaper of orphans, so a
process that forks away turns up as a child of the spawner, and is known by its session, or from before. What leaves the session with
a double fork between two looks escapes this; only a control group tells of it.

A process is named by PID and start time, and signalled through a pidfd that was checked after it was opened: no signal ever reaches
another process that has got the same number.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Member(NamedTuple):
    """start: clock ticks since boot."""

    pid: int
    start: int


class Entry(NamedTuple):
    """A line of the process table. state: a letter, as ps shows it."""

    parent: int
    session: int
    start: int
    state: str


def entry(pid: int) -> Entry | None:
    """None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
            return Entry(int(fields[1]), int(fields[3]), int(fields[19]), fields[0].decode())
    except (OSError, IndexError, ValueError):
        return None


def table() -> dict[int, Entry]:
    """The whole process table: one reading of it serves all services."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (one := entry(int(name))) is not None:
            found[int(name)] = one
    return found


def members(processes: Mapping[int, Entry], sessions: Iterable[int], known: Iterable[Member]) -> frozenset[Member]:
    """The processes of one service, without zombies. sessions: PIDs of the main processes that were started with a session of their
    own. known: members found before, and main processes; one whose number belongs to another by now is passed over."""
    ours = set(sessions)
    found = {m.pid for m in known if m.pid in processes and processes[m.pid].start == m.start}
    children: dict[int, list[int]] = {}
    for pid, one in processes.items():
        children.setdefault(one.parent, []).append(pid)
        if one.session in ours:
            found.add(pid)
    todo = list(found)
    while todo:
        for child in children.get(todo.pop(), ()):
            if child not in found:
                found.add(child)
                todo.append(child)
    return frozenset(Member(pid, processes[pid].start) for pid in found if processes[pid].state not in "ZX")


def send(member: Member, signo: int) -> bool:
    """Whether this very process got the signal. PermissionError."""
    try:
        fd = os.pidfd_open(member.pid)
    except ProcessLookupError:
        return False
    try:
        now = entry(member.pid)  # read while the pidfd holds on to whoever it is
        if now is None or now.start != member.start:
            return False
        signal.pidfd_send_signal(fd, signo)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)


class Tree:
    """The processes of a service without a control group, over time. session, start: PID and start time of the main process, which
    has or had a session of its own; a Record has both, also when it has ended."""

    def __init__(self, session: int, start: int) -> None:
        self._session = session
        self._start = start
        self._known = frozenset([Member(session, start)])
        # The session's number is free again once all of its processes are gone: from then on it means nothing.
        self._session_lives = True

    def look(self, processes: Mapping[int, Entry] | None = None) -> frozenset[Member]:
        """All that are there now. processes: of table(), to look at many trees at once."""
        processes = table() if processes is None else processes
        leader = processes.get(self._session)
        if leader is not None and leader.start != self._start or not any(e.session == self._session for e in processes.values()):
            self._session_lives = False
        self._known = members(processes, [self._session] if self._session_lives else [], self._known)
        return self._known

    def contains(self, pid: int) -> bool:
        """Whether a process is one of these now. As cheap as can be: up the line of its parents."""
        one = entry(pid)
        known = {m.pid: m.start for m in self._known}
        for _ in range(64):
            if one is None:
                break
            if known.get(pid) == one.start or self._session_lives and one.session == self._session:
                return True
            pid, one = one.parent, entry(one.parent)
        return False

    def signal(self, signo: int) -> int:
        """To each one; SIGKILL until nobody is left who could fork. Returns how many got it."""
        count = 0
        for _ in range(20 if signo == signal.SIGKILL else 1):
            there = self.look()
            sent = sum(send(member, signo) for member in there)
            count += sent
            if not sent:
                break
        return count
