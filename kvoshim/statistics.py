"""What the transport does, process by process: reads the statistics segments, and removes those of the dead."""

from __future__ import annotations

import os
import re
import stat
import time

import posix_ipc

from kvoshim import _core

DIRECTORY = "/dev/shm"
_NAME = re.compile(r"kvoshim-stats-(\d{1,10})-(\d{1,10})-(\d{1,20})")
_LARGEST = 32 << 20  # bytes; none of ours is longer
_MAKING = 1.0  # seconds that a process may take between making its segment and mapping it


def _read(name: str) -> tuple[os.stat_result, bytes, bytes] | None:
    """Its state and its bytes, read twice; None: not there, not readable, or not what its name says."""
    try:
        if not stat.S_ISREG(os.lstat(f"{DIRECTORY}/{name}").st_mode):
            return None
        memory = posix_ipc.SharedMemory(f"/{name}", read_only=True)
    except (OSError, posix_ipc.Error):
        return None
    try:
        info = os.fstat(memory.fd)
        if info.st_size > _LARGEST:
            return None
        return info, os.pread(memory.fd, info.st_size, 0), os.pread(memory.fd, info.st_size, 0)
    except OSError:
        return None
    finally:
        memory.close_fd()


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None: there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in b"ZX" else int(fields[19])


def _mapped(pid: int, info: os.stat_result) -> bool | None:
    """Whether a process has a file mapped; None: it may not be asked."""
    device = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}"
    try:
        with open(f"/proc/{pid}/maps", errors="replace") as file:
            return any(line.split(maxsplit=5)[3:5] == [device, str(info.st_ino)] for line in file)
    except OSError:
        return None


def _owner_lives(pid: int, started: int, info: os.stat_result) -> bool | None:
    """The PID exists, was not given to another process since, and has not forgotten the segment by exec. None: it has not
    mapped the segment, perhaps not yet."""
    now = start_ticks(pid)
    if now is None or (started and now != started):
        return False
    if _mapped(pid, info) is not False:
        return True
    return None if abs(time.time() - info.st_ctime) < _MAKING else False


def program(pid: int) -> str:
    """A process's name; '' if it has gone."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().rstrip(b"\n").decode(errors="backslashreplace")
    except OSError:
        return ""


def processes() -> list[dict]:
    """The processes under the shim that this user may look at (root: all), by PID. Each is what
    kvoshim._core.read_statistics() returns, with "program", and "peer_program" in each connection.

    Segments of processes that have died are removed on the way.
    """
    found = []
    try:
        names = sorted(os.listdir(DIRECTORY))
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return []
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None or int(match[3]) not in (0, namespace) or (parts := _read(name)) is None:
            continue
        info, data, again = parts
        uid, pid = int(match[1]), int(match[2])
        if info.st_uid != uid:
            continue  # somebody else's file under that name
        try:
            one = _core.read_statistics(data, again)
        except ValueError:
            one = None  # of another version, or just being made
        lives = _owner_lives(pid, one["start_ticks"] if one else 0, info)
        if lives is False:
            _remove(name)
        elif lives and one is not None and one["pid"] == pid:
            one["program"] = program(pid)
            for connection in one["connections"]:
                connection["peer_program"] = program(connection["peer_pid"]) if connection["peer_pid"] > 0 else ""
            found.append(one)
    return sorted(found, key=lambda one: one["pid"])


def _remove(name: str) -> None:
    try:
        posix_ipc.unlink_shared_memory(f"/{name}")
    except (OSError, posix_ipc.Error):
        pass  # another has removed it, or it is not ours to remove
