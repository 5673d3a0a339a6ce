"""What the spawner and its controller say to each other, as values."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from kvoshim.services.spawner.wire import Flag, Step


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A process to be started.

    token: names it for good, 1 to 2^64 - 1; the spawner refuses one that it knows. program: a file's path; args: from argv[0] on.
    env: all of its environment; a LISTEN_PID that is wire.LISTEN_PID becomes its PID, for sd_listen_fds. directory: "" is the
    spawner's own. ids: (user, group, groups), None: the spawner's own. umask: None: the spawner's own. limits: (resource, soft,
    hard) of setrlimit. session: its own session; else group: its own process group. die_too: it is killed when the spawner ends.
    cgroup: descriptor of the cgroup.procs of a control group to start in, or None. fds: descriptor there -> descriptor here; where
    0 is not given, it is /dev/null; 1 and 2 then are the spawner's.
    """

    token: int
    program: str
    args: tuple[str, ...]
    env: Mapping[str, str] = {}
    directory: str = ""
    ids: tuple[int, int, tuple[int, ...]] | None = None
    umask: int | None = None
    limits: tuple[tuple[int, int, int], ...] = ()
    session: bool = True
    group: bool = False
    die_too: bool = False
    cgroup: int | None = None
    fds: Mapping[int, int] = {}


class Record(msgspec.Struct, frozen=True):
    """A child: one that was started, or one that was to be. start: clock ticks since boot; ended: seconds of CLOCK_BOOTTIME, 0.0: it
    has not. user_s, system_s: seconds of CPU time; max_rss_kib: its largest size. status: as os.wait() gives it. errno, step: of a
    program that was not started, else 0 and None."""

    token: int
    pid: int
    start: int
    flags: Flag
    status: int = 0
    ended: float = 0.0
    user_s: float = 0.0
    system_s: float = 0.0
    max_rss_kib: int = 0
    errno: int = 0
    step: Step | None = None

    @property
    def alive(self) -> bool:
        return not self.flags & Flag.ENDED


class Hello(msgspec.Struct, frozen=True):
    """The spawner's first words. pid, start: who it is. pid_1: of its PID namespace. stopping: it has begun to end."""

    pid: int
    start: int
    pid_1: bool
    stopping: bool


class Spawned(msgspec.Struct, frozen=True):
    """The program runs."""

    child: Record


class Failed(msgspec.Struct, frozen=True):
    """The program was not started: child.errno and child.step. Kept until it is acknowledged."""

    child: Record


class Exited(msgspec.Struct, frozen=True):
    """The child has ended. Kept until it is acknowledged."""

    child: Record


class Listed(msgspec.Struct, frozen=True):
    child: Record
    serial: int


class Held(msgspec.Struct, frozen=True):
    name: str
    serial: int


class End(msgspec.Struct, frozen=True):
    serial: int


class Done(msgspec.Struct, frozen=True):
    serial: int


class Fetched(msgspec.Struct, frozen=True):
    name: str
    serial: int


class Refused(msgspec.Struct, frozen=True):
    """A request that has changed nothing. token: that of the order, if it was one."""

    serial: int
    token: int
    errno: int
    step: Step


class Stranger(msgspec.Struct, frozen=True):
    """A process that nobody ordered was left to the spawner, and has ended."""

    pid: int
    status: int


class Signalled(msgspec.Struct, frozen=True):
    """A signal has come to the spawner; the controller says what it means."""

    signo: int


class Stop(msgspec.Struct, frozen=True):
    """The spawner is to end by this signal: stop everything in order, then finish(). within_s: it waits no longer."""

    signo: int
    within_s: float


Message = Hello | Spawned | Failed | Exited | Listed | Held | End | Done | Fetched | Refused | Stranger | Signalled | Stop
