"""The controller's end of the connection to the spawner.

The spawner never waits for anybody, so requests are asked and answered at once, on the loop's thread; what it says unasked meanwhile
is kept and comes in its order. Starting a process takes longer: spawn() only sends the order.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from kvoshim.errors import SpawnerError, SpawnerUnavailableError
from kvoshim.services.spawner import packets
from kvoshim.services.spawner.messages import (
    Done,
    End,
    Fetched,
    Held,
    Hello,
    Listed,
    Message,
    Order,
    Record,
    Refused,
    Signalled,
    Stop,
)  # fmt: skip
from kvoshim.services.spawner.wire import FDS_MAX, MESSAGE_MAX, Flag, Step, Type

_ROOM_S = 0.005


class Listing(NamedTuple):
    """All that the spawner knows. children: by token. held: names of kept descriptors."""

    children: dict[int, Record]
    held: frozenset[str]


class SpawnerClient:
    """path: of the spawner's socket. timeout_s: for the connection (a spawner serves one controller, the next one waits), and for
    each answer. SpawnerUnavailableError where that passes or the spawner is gone; after one, this object is of no more use.

    A forked child must not use it; nothing here is thread-safe.
    """

    def __init__(self, path: str, timeout_s: float = 10.0) -> None:
        self._timeout_s = timeout_s
        self._serials = itertools.cycle(range(1, 1 << 32))
        self._unasked: deque[Message] = deque()
        self._loop: Any = None
        self._handle: Callable[[Message], None] = lambda message: None
        self._lost: Callable[[SpawnerUnavailableError], None] = lambda error: None
        self._due: Any = None
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            self._sock.settimeout(timeout_s)
            self._sock.connect(path)
            self._sock.setblocking(False)
            first, _ = self._next(time.monotonic() + timeout_s)
            if not isinstance(first, Hello):
                raise SpawnerUnavailableError(f"what listens at {path} is no spawner: its first words are {type(first).__name__}")
            self.hello = first
        except OSError as error:
            self._sock.close()
            if isinstance(error, SpawnerUnavailableError):
                raise
            raise SpawnerUnavailableError(f"no spawner answers at {path}: {error}") from None

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        """The spawner goes on; another controller may connect."""
        if self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._loop = None
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._sock.close()

    def __enter__(self) -> SpawnerClient:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    # --- unasked messages ---------------------------------------------

    def attach(self, loop, handle: Callable[[Message], None], lost: Callable[[SpawnerUnavailableError], None]) -> None:
        """From now on, handle(message) is called on the loop for each Spawned, Failed, Exited, Stranger, Signalled, Stop, and
        Refused (of an order), and lost(error) once when the spawner is gone."""
        self._loop, self._handle, self._lost = loop, handle, lost
        loop.add_reader(self._sock.fileno(), self._readable)
        self._promise()

    def _promise(self) -> None:
        """What waits here already is no longer announced by the descriptor."""
        if self._loop is not None and self._unasked and self._due is None:
            self._due = self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._due = None
        for _ in range(len(self._unasked)):
            if not self._unasked or self._loop is None:  # a handler has closed this, or asked for them itself
                break
            try:
                self._handle(self._unasked.popleft())
            except Exception:
                self._promise()
                raise
        self._promise()

    def _readable(self) -> None:
        try:
            self._fill(64)
        except SpawnerUnavailableError as error:
            self._deliver()
            if self._loop is not None:
                self._loop.remove_reader(self._sock.fileno())
                self._loop = None
                self._lost(error)
            return
        if self._due is not None:
            self._due.cancel()
        self._deliver()

    def receive(self, timeout_s: float | None = None) -> Message | None:
        """The next message that was not asked for; None if there is none within that time (default: the object's)."""
        deadline = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        while not self._unasked:
            left = deadline - time.monotonic()
            if not self._wait(select.POLLIN, max(0.0, left)) and left <= 0:
                return None
            self._fill(64)
        return self._unasked.popleft()

    # --- the packets ---------------------------------------------

    def _wait(self, events: int, seconds: float) -> int:
        poller = select.poll()
        poller.register(self._sock.fileno(), events)
        found = poller.poll(seconds * 1000 + (seconds > 0))
        return found[0][1] if found else 0

    def _take(self) -> tuple[Message, list[int]] | None:
        """One packet if there is one."""
        try:
            data, fds, _, _ = socket.recv_fds(self._sock, MESSAGE_MAX, FDS_MAX)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise SpawnerUnavailableError(f"the connection to the spawner broke off: {error}") from None
        try:
            if not data:
                raise SpawnerUnavailableError("the spawner has ended, or has closed the connection")
            message = packets.decode(data)
        except SpawnerError:
            for fd in fds:
                os.close(fd)
            raise
        for fd in fds:
            os.set_inheritable(fd, False)
        if fds and not isinstance(message, Fetched):
            for fd in fds:
                os.close(fd)
            fds = []
        return message, fds

    def _fill(self, most: int) -> None:
        """Takes up to so many packets that nobody asked for."""
        for _ in range(most):
            taken = self._take()
            if taken is None:
                return
            message, fds = taken
            for fd in fds:  # an answer to a request that has timed out
                os.close(fd)
            if not isinstance(message, Done | End | Listed | Held | Fetched):
                self._unasked.append(message)

    def _next(self, deadline: float) -> tuple[Message, list[int]]:
        while (taken := self._take()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise SpawnerUnavailableError(
                    f"the spawner has not answered within {self._timeout_s:g} s: it may serve another controller"
                )
            self._wait(select.POLLIN, left)
        return taken

    def _send(self, packet: bytes, fds: list[int] | tuple[int, ...] = ()) -> None:
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                if fds:
                    socket.send_fds(self._sock, [packet], list(fds))
                else:
                    self._sock.send(packet)
                return
            except (BlockingIOError, InterruptedError):
                self._fill(64)  # it takes no more until we have taken what it says
                self._promise()
                if time.monotonic() > deadline:
                    raise SpawnerUnavailableError(f"the spawner takes nothing more for {self._timeout_s:g} s") from None
                self._wait(select.POLLIN | select.POLLOUT, _ROOM_S)
            except (BrokenPipeError, ConnectionResetError, ConnectionAbortedError) as error:
                raise SpawnerUnavailableError(f"the spawner has ended: {error}") from None
            except OSError as error:  # such as a descriptor that is closed
                raise SpawnerError(f"a request cannot be sent: {error}", error.errno or 0) from None

    def _answers(self, serial: int):
        """Yields the messages with this serial number; what else comes is for the handler."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            message, fds = self._next(deadline)
            if getattr(message, "serial", 0) == serial:
                yield message, fds
            elif isinstance(message, Done | End | Listed | Held | Fetched):
                for fd in fds:
                    os.close(fd)
            else:
                self._unasked.append(message)
                self._promise()

    def _ask(self, packet: bytes, serial: int, what: str, fds: tuple[int, ...] = ()) -> tuple[Message, list[int]]:
        self._send(packet, fds)
        message, got = next(self._answers(serial))
        if isinstance(message, Refused):
            raise SpawnerError(
                f"{what}: {os.strerror(message.errno)} ({message.step.meaning})", message.errno, message.step
            )
        return message, got

    # --- requests ---------------------------------------------

    def spawn(self, order: Order) -> int:
        """Sends an order; Spawned, Failed or Refused with its token will come. Returns its serial number, which a Refused has too.
        InvalidOrderError: it was not sent."""
        serial = next(self._serials)
        packet, fds = packets.spawn(order, serial)
        self._send(packet, fds)
        return serial

    def list(self) -> Listing:
        """All children, ended ones that were not acknowledged too, and all names of descriptors. News of before are left out: the
        listing has them."""
        serial = next(self._serials)
        self._send(packets.simple(Type.LIST, serial))
        children: dict[int, Record] = {}
        held: set[str] = set()
        first = True
        for message, _ in self._answers(serial):
            if first:  # what came before is in the listing; what comes from here on is news to it
                self._unasked = deque(m for m in self._unasked if isinstance(m, Refused | Signalled | Stop))
                first = False
            match message:
                case Listed(child):
                    children[child.token] = child
                case Held(name):
                    held.add(name)
                case Refused():
                    raise SpawnerError(f"listing: {os.strerror(message.errno)}", message.errno, message.step)
                case End():
                    break
        return Listing(children, frozenset(held))

    def acknowledge(self, token: int) -> None:
        """Lets the spawner forget a child that has ended, or was not started. SpawnerError: it runs (EBUSY), or is not known
        (ESRCH)."""
        serial = next(self._serials)
        self._ask(packets.acknowledge(token, serial), serial, f"acknowledging {token}")

    def signal(self, token: int, signo: int, whole_group: bool = False) -> None:
        """To a child, or all of its process group. SpawnerError: it has ended or is not known (ESRCH), or has no group (EINVAL)."""
        serial = next(self._serials)
        self._ask(packets.signal(token, signo, whole_group, serial), serial, f"signal {signo} to {token}")

    def hold(self, name: str, fd: int) -> None:
        """Gives the spawner a descriptor to keep; yours stays open. SpawnerError: the name is taken (EEXIST), or there is no
        room."""
        serial = next(self._serials)
        self._ask(packets.named(Type.HOLD, name, serial), serial, f"holding {name!r}", (fd,))

    def fetch(self, name: str) -> int:
        """A new descriptor of what is kept under this name, which stays kept; yours to close. SpawnerError (ENOENT)."""
        serial = next(self._serials)
        message, fds = self._ask(packets.named(Type.FETCH, name, serial), serial, f"fetching {name!r}")
        if len(fds) != 1:
            raise SpawnerError(f"fetching {name!r}: no descriptor came: this process may have too many open")
        return fds[0]

    def drop(self, name: str) -> None:
        """Ends the keeping of a descriptor. SpawnerError (ENOENT)."""
        serial = next(self._serials)
        self._ask(packets.named(Type.DROP, name, serial), serial, f"dropping {name!r}")

    def finish(self, status: int = 0) -> None:
        """Everything is stopped that was to be stopped in order: the spawner ends what is left, and itself. status: as wait() gives
        it, of the process that the spawner's exit code is to be that of (0: a success)."""
        serial = next(self._serials)
        self._ask(packets.finish(status, serial), serial, "finishing")


def runs(child: Record | None) -> bool:
    """Whether a child of a listing is there and has not ended."""
    return child is not None and not child.flags & Flag.ENDED


def reason(child: Record) -> str:
    """How a child ended, in words."""
    if child.alive:
        return f"runs, PID {child.pid}"
    if child.step is not None:
        return f"was not started: {Step(child.step).meaning}: {os.strerror(child.errno)}"
    if os.WIFSIGNALED(child.status):
        core = ", with a core dump" if child.flags & Flag.CORE else ""
        return f"was ended by signal {os.WTERMSIG(child.status)}{core}"
    return f"ended with code {os.waitstatus_to_exitcode(child.status)}"
