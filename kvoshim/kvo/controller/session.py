"""The notification manager's end of one client: bytes in and out, who it is, what it was given, what it has to be told."""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import select
import socket as kernel
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kvoshim import identity, socket
from kvoshim.errors import ProtocolError
from kvoshim.kvo import wire
from kvoshim.kvo.controller.links import Ear
from kvoshim.kvo.controller.quota import Account
from kvoshim.kvo.fdchannel import Channel
from kvoshim.process import Caller
from kvoshim.process.bucket import Bucket

if TYPE_CHECKING:
    from kvoshim.kvo.controller.entries import Registration

log = logging.getLogger("kvoshim.controller")

_READ_SIZE = 1 << 14
_NOTIFY_MAX = 4096  # changes in one message
_PENDING_MAX = 1 << 14  # changes that wait for a client's room, before it is told to look at everything instead
_OUT_MAX = 8 << 20  # bytes that a client may leave unread before it is given up


class Session:
    """A client's connection. Changes wait in `pending`, where a newer one of the same key takes the older
    one's place, until the client has room. Where there are too many, the client is told to compare all that it observes of a
    store: a slow client costs the controller little memory and misses no final value."""

    def __init__(self, sock: socket.socket, number: int, changed: set[Session], caller: Caller, account: Account) -> None:
        self.sock = sock
        self.number = number
        self._changed = changed  # sessions to be flushed
        self.caller = caller
        self.pid, self.uid = caller.pid, caller.uid
        self.account = account
        self.bucket = Bucket()
        self.start = identity.start_time(self.pid) if self.pid else 0
        self.pidfd = identity.peer_pidfd(sock, self.pid)
        self.since = time.monotonic()
        self.program = ""
        self.token = b""
        self.channel: Channel | None = None
        self.ear: Ear | None = None  # how it is rung by observables
        self.closed = False
        self.paused = 0  # times
        self.pending: dict[tuple[int, int], int] = {}  # (registration, slot) -> version
        self._unsure: set[str] = set()  # names of stores of which the client has to compare everything
        self.registrations: dict[int, Registration] = {}
        self.names: set[str] = set()  # claimed or published
        self.given: dict[str, bytes] = {}  # name -> instance of the store it holds
        self.reported: list[int] = []  # what it has counted, by its last report
        self._frames = wire.PROTOCOL.of_client()
        self._incoming: Iterator[wire.Message] = iter(())  # what was received and not looked at yet
        self._out: deque[bytes] = deque()
        self._out_size = 0
        self._descriptors: deque[tuple[int, int]] = (
            deque()
        )  # (ticket, fd) that did not fit into the channel yet
        self._ticket = 0

    def __str__(self) -> str:
        return f"client {self.number} ({self.program or 'unknown'}, PID {self.pid})"

    @property
    def greeted(self) -> bool:
        return bool(self.token)

    def greet(self, program: str) -> bytes:
        self.program = program
        self.token = secrets.token_bytes(16)
        return self.token

    def read(self) -> Iterator[wire.Message]:
        """The messages that have come, one by one, as long as there are any. ProtocolError; ConnectionError at the end.

        The descriptor's readiness is only to be trusted again when they have come to an end, so a caller that stops
        before comes back without waiting.
        """
        while True:
            for message in self._incoming:  # noqa: UP028  `yield from` would end it with this generator
                yield message
            try:
                data = self.sock.recv(_READ_SIZE)
            except BlockingIOError:
                return
            except InterruptedError:
                continue
            if not data:
                raise ConnectionError("closed by the client")
            self._incoming = self._frames.feed(data)

    def send(self, message: wire.Message) -> None:
        data = wire.frame(message)
        self._out.append(data)
        self._out_size += len(data)
        self._changed.add(self)

    def tell(self, registration: Registration, slot: int, version: int) -> None:
        """Notes a change that the client has to be told of."""
        if registration.name in self._unsure:
            return
        self.pending[registration.number, slot] = version
        self._changed.add(self)
        if len(self.pending) > _PENDING_MAX:
            for number in {number for number, _ in self.pending}:
                if number in self.registrations:
                    self._unsure.add(self.registrations[number].name)
            self.pending.clear()

    def let_look(self, name: str) -> None:
        """Changes of this name may not have been announced: the client has to compare all that it observes of it."""
        self._unsure.add(name)
        self._changed.add(self)

    def send_descriptor(self, fd: int) -> int:
        """Sends a copy of `fd` over the channel; returns its ticket."""
        if self.channel is None:
            raise ProtocolError("the descriptor channel is not open")
        self._ticket += 1
        self._descriptors.append((self._ticket, os.dup(fd)))
        self._flush_descriptors()
        return self._ticket

    def open_channel(self, sock: kernel.socket, table_fd: int) -> None:
        self.channel = Channel(sock)
        self.channel.send(0, table_fd)

    def listen(self, ear: Ear) -> int:
        """Takes over how the client is rung from now on; returns the ticket of its end of the socket."""
        self.ear = ear
        ticket = self.send_descriptor(ear.hearing)
        ear.sent()
        return ticket

    def stop_hearing(self) -> None:
        if self.ear is not None:
            self.ear.close()
            self.ear = None

    def _flush_descriptors(self) -> None:
        while self._descriptors:
            ticket, fd = self._descriptors[0]
            try:
                self.channel.send(ticket, fd)
            except BlockingIOError:
                return  # tried again with the next flush: the client takes them one by one
            except OSError as error:
                log.warning("%s: a descriptor cannot be sent: %s", self, error)
            self._descriptors.popleft()
            os.close(fd)

    @property
    def descriptors_wait(self) -> bool:
        return bool(self._descriptors)

    def flush(self) -> bool:
        """Sends what there is, of many changes a part; True if the stream has no room for the rest. OSError if the connection
        is broken."""
        if self._descriptors:
            self._flush_descriptors()
        told = False
        while True:
            while self._out:
                data = self._out[0]
                try:
                    sent = self.sock.send(data)
                except BlockingIOError:
                    if self._out_size > _OUT_MAX:
                        raise ConnectionError(f"{self._out_size} bytes of answers were not read") from None
                    return True
                self._out_size -= sent
                if sent < len(data):
                    self._out[0] = data[sent:]
                else:
                    self._out.popleft()
            if told or not (self.pending or self._unsure):
                return False
            told = True
            while self._unsure:
                self.send(wire.Look(self._unsure.pop()))
            changes = list(itertools.islice(self.pending, _NOTIFY_MAX))
            if changes:
                self.send(wire.Notify([(*change, self.pending.pop(change)) for change in changes]))
                if log.isEnabledFor(logging.DEBUG):
                    log.debug("%s is told of %d changes", self, len(changes))

    def process_ended(self) -> bool:
        """Whether the client's process is dead, even if a descendant still holds its connection open."""
        if self.pidfd < 0:
            return False
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        self.closed = True
        self.stop_hearing()
        self.sock.close()
        if self.channel is not None:
            self.channel.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        while self._descriptors:
            os.close(self._descriptors.popleft()[1])
