"""What of ours is left in /dev/shm. Other programs come and go there meanwhile, other runs of these tests among them: what belongs to
a living process that is none of this run's, or was seen to belong to one, is theirs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import psutil

from kvoshim import statistics

STATISTICS = re.compile(r"kvoshim-stats-\d+-(\d+)-(\d+)")  # PID, and the PID namespace that it is one of


def descendants() -> set[int]:
    """This process and all below it."""
    return {p.pid for p in psutil.Process().children(recursive=True)} | {os.getpid()}


def namespace(pid: int) -> int:
    """A process's PID namespace; 0 if it is not to be known."""
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return 0


class SharedMemory:
    """ours: the PIDs of this run's processes."""

    def __init__(self, directory: str = "/dev/shm", ours: Callable[[], set[int]] = descendants) -> None:
        self._directory = directory
        self._ours = ours
        self._theirs: set[str] = set()  # what a process outside this run had while it lived
        self._here = namespace(os.getpid())

    def look(self) -> set[str]:
        """The objects that are there and are not somebody else's. This process keeps its own statistics to its end."""
        names = {name for name in os.listdir(self._directory) if "kvoshim" in name or "kvo-" in name}
        ours = self._ours()
        self._theirs &= names
        self._theirs |= {name for name in names - self._theirs if self._is_theirs(name, ours)}
        found = {name for name in names - self._theirs if not self._is_own(name)}
        if any(STATISTICS.fullmatch(name) for name in found):
            statistics.processes()  # a killed process leaves its statistics to whoever comes by next: to us
        return {name for name in found if os.path.exists(f"{self._directory}/{name}")}

    def _is_own(self, name: str) -> bool:
        match = STATISTICS.fullmatch(name)
        return match is not None and int(match[1]) == os.getpid() and int(match[2]) in (0, self._here)

    def _is_theirs(self, name: str, ours: set[int]) -> bool:
        match = STATISTICS.fullmatch(name)
        if match is not None and int(match[2]) not in (0, self._here):  # the PID means nothing here
            others = [pid for pid in psutil.pids() if pid not in ours]
            return any(namespace(pid) == int(match[2]) for pid in others)
        numbers = [int(match[1])] if match is not None else [int(n) for n in re.findall(r"\d+", name) if len(n) < 10]
        return any(n not in ours and psutil.pid_exists(n) for n in numbers)
