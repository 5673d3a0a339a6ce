"""Who a process is: PID and start time name it for good, a PID alone only for a while."""

from __future__ import annotations

import os
import socket
import struct

_CREDENTIALS = struct.Struct("3i")
_SO_PEERPIDFD = 77  # Linux 6.5; not in the socket module yet


def start_time(pid: int) -> int:
    """The process's start time in clock ticks since boot; 0 if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[19])  # the command's name may contain anything
    except (OSError, IndexError, ValueError):
        return 0


def alive(pid: int, start: int) -> bool:
    """Whether this very process still runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
            return fields[0] not in (b"Z", b"X") and int(fields[19]) == start
    except (OSError, IndexError, ValueError):
        return False


def peer(sock: socket.socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of the process that connected; pid 0 if it lives in another PID namespace."""
    return _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))


def peer_pidfd(sock: socket.socket, pid: int) -> int:
    """A pidfd of the process that connected, or -1 if there is none to be had."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        pass
    try:
        return os.pidfd_open(pid) if pid else -1
    except OSError:
        return -1
