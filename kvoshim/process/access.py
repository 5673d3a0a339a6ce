"""Who is at the other end of the control channel, and what they may do. The kernel says who it is (SO_PEERCRED), the
configuration says what they may."""

from __future__ import annotations

import array
import grp
import os
import pwd
import socket
from dataclasses import dataclass
from enum import IntEnum

from kvoshim import identity
from kvoshim.errors import ConfigurationError
from kvoshim.process.model import Access

_GROUPS_MAX = 65536  # as many as the kernel allows


class Role(IntEnum):
    """Each may do what those before it may."""

    NONE = 0
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Caller:
    """The process that connected. groups: all of its groups."""

    pid: int
    uid: int
    groups: frozenset[int]

    def __str__(self) -> str:
        return f"user {self.uid}, PID {self.pid}"


def caller_of(sock: socket.socket) -> Caller:
    """OSError if the socket has no peer any more."""
    pid, uid, gid = identity.peer(sock)
    groups = array.array("I")
    groups.frombytes(_peer_groups(sock))
    return Caller(pid, uid, frozenset([gid, *groups]))


def _peer_groups(sock: socket.socket) -> bytes:
    SO_PEERGROUPS = 59
    for size in (1024, 4 * _GROUPS_MAX):
        try:
            return sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, size)
        except OSError:  # ERANGE: there are more
            continue
    return b""


class Policy:
    """The rules in force, with names turned into numbers. ConfigurationError for a name that nobody has."""

    def __init__(self, rules: tuple[Access, ...]) -> None:
        self._users: dict[int, Role] = {}
        self._groups: dict[int, Role] = {}
        self._everybody = Role.NONE
        for rule in rules:
            role = Role[rule.role.upper()]
            if rule.user == "*":
                self._everybody = max(self._everybody, role)
                continue
            kind, name, table = ("user", rule.user, self._users) if rule.user is not None else ("group", rule.group, self._groups)
            number = number_of(kind, name)
            table[number] = max(table.get(number, Role.NONE), role)

    @property
    def for_others(self) -> bool:
        """Whether anybody but the daemon's own user and root may use the channel."""
        return bool(self._users or self._groups or self._everybody)

    def role_of(self, caller: Caller) -> Role:
        if caller.uid in (0, os.geteuid()):
            return Role.WRITE
        roles = [self._groups.get(group, Role.NONE) for group in caller.groups]
        return max([self._everybody, self._users.get(caller.uid, Role.NONE), *roles])


def number_of(kind: str, name: str | int) -> int:
    """The number of a user or group. ConfigurationError if there is none of that name."""
    if isinstance(name, int):
        return name
    try:
        return pwd.getpwnam(name).pw_uid if kind == "user" else grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        raise ConfigurationError(f"there is no {kind} {name!r}") from None
