"""Control groups (version 2), where this user may make them: the kernel then knows which processes are a service's, kills them all
at once, and says when the last one is gone. No controller is enabled and no limit set here: only membership counts."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import time
from collections.abc import Callable

from kvoshim.services.spawner.tree import Member, entry, send


def mount_point(mounts: str = "/proc/self/mountinfo") -> str:
    """Where the hierarchy of version 2 is mounted; "" if nowhere."""
    with open(mounts, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            before, _, after = line.partition(" - ")
            if after.split(" ", 1)[0] == "cgroup2":
                return before.split()[4].encode("latin-1", "replace").decode("unicode_escape")
    return ""


def own_path() -> str:
    """The directory of this process's group; "" if there is none."""
    root = mount_point()
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            number, _, path = line.rstrip("\n").partition("::")
            if root and number == "0":
                return os.path.normpath(root + path)
    return ""


def base(name: str, parent: str | None = None) -> str:
    """A directory for services' groups below this process's own, made if need be; "" where none can be made and used, and a Tree has
    to do. name: of the restarter, as services of two restarters are not to be mixed."""
    try:
        own = own_path() if parent is None else parent
        if not own:
            return ""
        path = os.path.join(own, name)
        os.makedirs(path, exist_ok=True)
        probe = tempfile.mkdtemp(prefix="probe-", dir=path)
        try:
            os.close(os.open(os.path.join(probe, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC))
            os.stat(os.path.join(probe, "cgroup.events"))
            return path
        finally:
            os.rmdir(probe)
    except OSError:
        return ""


class ControlGroup:
    """A service's. path: made if it is not there, and kept when this object goes: it outlives startd as the service does.
    OSError."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(path, exist_ok=True)
        self._events = os.open(os.path.join(path, "cgroup.events"), os.O_RDONLY | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Of cgroup.events. The kernel reports it with POLLPRI, which loops of asyncio's kind do not wait for; the end of a
        service's main process is a good moment to look, and a timer another."""
        return self._events

    def entrance(self) -> int:
        """A descriptor for an order's `cgroup`; the caller closes it."""
        return os.open(os.path.join(self.path, "cgroup.procs"), os.O_WRONLY | os.O_CLOEXEC)

    def populated(self) -> bool:
        """Whether any process is left, groups below included."""
        return b"populated 1" in os.pread(self._events, 4096, 0)

    def look(self) -> frozenset[Member]:
        """All processes, groups below included."""
        found = set()
        for directory, _, _ in os.walk(self.path):
            try:
                with open(os.path.join(directory, "cgroup.procs"), "rb") as lines:
                    for line in lines:
                        if (one := entry(int(line))) is not None and one.state not in "ZX":
                            found.add(Member(int(line), one.start))
            except OSError:  # a group that is gone, or one of threads
                continue
        return frozenset(found)

    def contains(self, pid: int) -> bool:
        """Whether a process is in the group, or in one below."""
        try:
            with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as lines:
                paths = [line.rstrip("\n").partition("::")[2] for line in lines if line.startswith("0::")]
        except OSError:
            return False
        root = mount_point()
        return any(f"{os.path.normpath(root + path)}/".startswith(f"{self.path}/") for path in paths)

    def signal(self, signo: int) -> int:
        """To each process. SIGKILL: to all at once, by the kernel where it can, so none escapes by forking."""
        there = self.look()
        if signo == signal.SIGKILL:
            try:
                with open(os.path.join(self.path, "cgroup.kill"), "wb", buffering=0) as kill:
                    kill.write(b"1")
                return len(there)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
                    raise
        return sum(send(member, signo) for member in there)

    def close(self) -> None:
        if self._events >= 0:
            os.close(self._events)
            self._events = -1

    def remove(self, patience_s: float = 0.0, sleep: Callable[[float], None] = time.sleep) -> bool:
        """Removes the group and those below; False while processes are in it."""
        self.close()
        deadline = time.monotonic() + patience_s
        while True:
            try:
                for directory, _, _ in os.walk(self.path, topdown=False):
                    os.rmdir(directory)
                return True
            except FileNotFoundError:
                return True
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() >= deadline:
                    return False
                sleep(0.002)
