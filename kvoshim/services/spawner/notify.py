"""sd_notify: what services say of themselves, by datagrams to NOTIFY_SOCKET.

Each service has a socket of its own, so that a message's address says whose it is; the kernel says who sent it (SO_PASSCRED), and
the caller asks whether that process is one of the service's. A datagram that is not well formed is refused whole.
"""

from __future__ import annotations

import array
import os
import re
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from kvoshim.services.spawner.tree import entry

_CREDENTIALS = struct.Struct("3i")
_MESSAGE_MAX = 8192
_FDS_MAX = 64
_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_FDNAME = re.compile(r"[\x21-\x39\x3b-\x7e]{1,100}")  # printable, no colon: LISTEN_FDNAMES is separated by colons
_PORTION = 32  # messages taken at a time


class Sender(NamedTuple):
    pid: int
    uid: int
    gid: int


class Notification(msgspec.Struct, frozen=True):
    """One datagram. main_pid: 0: it did not say. status: None: it did not say. errno: 0: none. watchdog: a sign of life;
    watchdog_us: the interval that it asks for from now on, 0: none. store: its descriptors are to be kept under fd_name; remove:
    those of fd_name are to be dropped. reload_us: when a reload began, on the monotonic clock. others: variables of no meaning here.
    fds: descriptors; the receiver closes them."""

    sender: Sender
    ready: bool = False
    reloading: bool = False
    stopping: bool = False
    watchdog: bool = False
    trigger: bool = False
    barrier: bool = False
    main_pid: int = 0
    status: str | None = None
    errno: int = 0
    watchdog_us: int = 0
    reload_us: int = 0
    extend_us: int = 0
    store: bool = False
    remove: bool = False
    fd_name: str = "stored"
    others: tuple[tuple[str, str], ...] = ()
    fds: tuple[int, ...] = ()


_NUMBERS = {  # variable -> field, largest value
    "MAINPID": ("main_pid", 2**22),
    "ERRNO": ("errno", 4095),
    "WATCHDOG_USEC": ("watchdog_us", 2**63 - 1),
    "MONOTONIC_USEC": ("reload_us", 2**63 - 1),
    "EXTEND_TIMEOUT_USEC": ("extend_us", 2**63 - 1),
}
_SWITCHES = {
    "READY": "ready",
    "RELOADING": "reloading",
    "STOPPING": "stopping",
    "BARRIER": "barrier",
    "FDSTORE": "store",
    "FDSTOREREMOVE": "remove",
}


def parse(data: bytes, sender: Sender, fds: tuple[int, ...] = ()) -> Notification:
    """ValueError, which says what is wrong with the datagram."""
    fields: dict[str, object] = {}
    others = []
    for line in data.decode("utf-8").split("\n"):  # UnicodeDecodeError is a ValueError
        if not line:
            continue
        name, equals, value = line.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise ValueError(f"{line[:60]!r} is no NAME=value")
        if name in _SWITCHES:
            if value != "1":
                raise ValueError(f"{name} can be 1 only, not {value[:20]!r}")
            fields[_SWITCHES[name]] = True
        elif name in _NUMBERS:
            field, most = _NUMBERS[name]
            if not (value.isascii() and value.isdigit() and len(value) < 20 and int(value) <= most):
                raise ValueError(f"{name}={value[:30]!r} is no number from 0 to {most}")
            fields[field] = int(value)
        elif name == "WATCHDOG":
            if value not in ("1", "trigger"):
                raise ValueError(f"WATCHDOG can be 1 or trigger, not {value[:20]!r}")
            fields["watchdog" if value == "1" else "trigger"] = True
        elif name == "STATUS":
            fields["status"] = "".join(c if c.isprintable() else " " for c in value)[:1000]
        elif name == "FDNAME":
            if not _FDNAME.fullmatch(value):
                raise ValueError(f"FDNAME={value[:30]!r} is no name of a descriptor")
            fields["fd_name"] = value
        else:
            others.append((name, value[:1000]))
    if fields.get("barrier") and len(fds) != 1:
        raise ValueError(f"a BARRIER comes with one descriptor, not with {len(fds)}")
    return Notification(sender=sender, others=tuple(others), fds=fds, **fields)  # type: ignore[arg-type]


def bind(path: str) -> socket.socket:
    """A new notify socket at this path, which takes the place of what was there. Keep it with the spawner (hold): then nothing that
    a service says is lost while no startd runs, up to the kernel's queue (net.unix.max_dgram_qlen). OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        mask = os.umask(0o111)  # whoever it runs as; who may enter the directory is the directory's business
        try:
            sock.bind(path)
        finally:
            os.umask(mask)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        return sock
    except BaseException:
        sock.close()
        raise


class NotifySocket:
    """sock: from bind(), or socket.socket(fileno=fetched). belongs(sender): whether to listen to it, see speaks_for(); what others
    send is counted and dropped. refused: how many datagrams were, and why the latest was."""

    def __init__(self, sock: socket.socket, belongs: Callable[[Sender], bool]) -> None:
        self._sock = sock
        self._belongs = belongs
        self.refused = 0
        self.problem = ""
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def fileno(self) -> int:
        return self._sock.fileno()

    def receive(self) -> list[Notification]:
        """What has come, in its order, up to a portion. The caller closes each one's fds (done(), for one)."""
        found = []
        for _ in range(_PORTION):
            try:
                taken = self._take()
            except (BlockingIOError, InterruptedError):
                break
            if taken is not None:
                found.append(taken)
        return found

    def _take(self) -> Notification | None:
        space = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * _FDS_MAX)
        data, parts, flags, _ = self._sock.recvmsg(_MESSAGE_MAX, space, socket.MSG_CMSG_CLOEXEC)
        sender, fds = Sender(0, -1, -1), array.array("i")
        for level, kind, part in parts:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                sender = Sender(*_CREDENTIALS.unpack(part[: _CREDENTIALS.size]))
            elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(part[: len(part) // 4 * 4])
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ValueError(f"more than {_MESSAGE_MAX} bytes or {_FDS_MAX} descriptors")
            if sender.pid <= 0 or not self._belongs(sender):
                raise ValueError(f"process {sender.pid} is none of this service's")
            return parse(data, sender, tuple(fds))
        except ValueError as error:
            self.refused += 1
            self.problem = f"{error} (PID {sender.pid})"
            for fd in fds:
                os.close(fd)
            return None

    def close(self) -> None:
        """The spawner's stays open, and so does the path."""
        self._sock.close()


def speaks_for(sender: Sender, contains: Callable[[int], bool], uid: int) -> bool:
    """Whether to listen to a sender. contains: whether a process is one of the service's now, as of a Tree or ControlGroup. uid:
    whom the service runs as. A helper such as systemd-notify may be gone before its message is read, so that nobody can say any more
    whose it was: then its user counts, which the kernel tells."""
    return contains(sender.pid) or sender.uid == uid and entry(sender.pid) is None


def done(notification: Notification) -> None:
    """Closes its descriptors: a sender that waits behind its BARRIER goes on."""
    for fd in notification.fds:
        os.close(fd)
