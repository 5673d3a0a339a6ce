"""One connection of the control channel: commands in, answers out."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from kvoshim import socket
from kvoshim.errors import ConfigurationError, ControlError
from kvoshim.process import jsontext
from kvoshim.process.access import Caller, Role
from kvoshim.process.envelope import Answer, Frames, Request, Result

if TYPE_CHECKING:
    from kvoshim.process.channel import Channel

log = logging.getLogger("kvoshim.process")

_READ_SIZE = 1 << 16
_READER_SHARE = 16  # a caller that may only read has this part of a command's bytes
_ROOM_S = 0.005  # between tries to write into a full ring


class Connection:
    """Holds at most one command and one answer; as long as the answer is not taken, nothing more is read."""

    def __init__(self, channel: Channel, sock: socket.socket, caller: Caller) -> None:
        self.caller = caller
        self.since = time.time()
        self._channel = channel
        self._loop = channel.loop
        self._sock = sock
        self._frames = Frames(0)
        self._commands: deque[bytes | ControlError] = deque()
        self._out = memoryview(b"")
        self._reading = self._writing = False
        self._ended = False  # the client sends no more
        self._deadline = None
        self._next = None  # the call that does the next command
        self._retry = None  # the call that tries to write again
        self._listen(True)

    @property
    def role(self) -> Role:
        """By the rules in force now."""
        return self._channel.policy.role_of(self.caller)

    def _listen(self, on: bool) -> None:
        if on and not self._reading:
            self._loop.add_reader(self._sock.fileno(), self._read)
        elif not on and self._reading:
            self._loop.remove_reader(self._sock.fileno())
        self._reading = on

    # --- in ---------------------------------------------

    def _read(self) -> None:
        limit = self._channel.settings.command_bytes
        self._frames.limit = limit if self.role is Role.WRITE else limit // _READER_SHARE
        try:
            data = self._sock.recv(_READ_SIZE)
            for command in self._frames.feed(data):
                self._commands.append(command)
                self._has_moved()
        except (BlockingIOError, InterruptedError):
            return
        except ControlError as error:
            self._commands.append(error)
            self._ended = True
        except OSError as error:
            log.info("control connection of %s broke off: %s", self.caller, error)
            self.close()
            return
        else:
            self._ended = not data
        self._go_on()

    def _go_on(self) -> None:
        """Sees to it that what comes next will happen: an answer is sent, a command done, more read, or the end."""
        self._set_deadline()
        self._listen(not (self._out or self._commands or self._ended))
        if self._commands and not self._out and self._next is None:
            self._next = self._loop.call_soon(self._do)
        elif self._ended and not self._commands and not self._out:
            self.close()

    def _has_moved(self) -> None:
        """A command is whole, or an answer taken: the next one has its own time."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _set_deadline(self) -> None:
        """A command must become whole, and an answer be taken, in time; a connection may be idle for ever."""
        waiting = bool(self._out) or self._frames.partial and not self._ended
        if waiting and self._deadline is None:
            self._deadline = self._loop.call_later(self._channel.settings.timeout_s, self._overdue)
        elif not waiting:
            self._has_moved()

    def _overdue(self) -> None:
        self._deadline = None
        log.warning("control connection of %s closed: it was too slow", self.caller)
        if not self._out:
            problem = f"no whole command came within {self._channel.settings.timeout_s:g} s"
            self._out = memoryview(Answer(Result.ERROR, problem).encode())
        self.close()

    # --- out ---------------------------------------------

    def _do(self) -> None:
        self._next = None
        command = self._commands.popleft()
        answer = Answer(Result.ERROR, str(command)) if isinstance(command, ControlError) else self._answer(command)
        try:
            self._out = memoryview(answer.encode())
        except (TypeError, ValueError, RecursionError):
            log.exception("an answer is no JSON")
            self._out = memoryview(Answer(Result.ERROR, "the answer is no JSON: this is a bug of the daemon").encode())
        self._write()

    def _answer(self, data: bytes) -> Answer:
        try:
            value = jsontext.parse(jsontext.decode(data, "command"), "command").value
            request = msgspec.convert(value, Request)
            if (role := self.role) is Role.NONE:
                raise ControlError(f"user {self.caller.uid} may not use this control channel any more")
            return self._channel.execute(request, self.caller, role)
        except ControlError as error:
            return self._refusal(str(error), error.result)
        except (ConfigurationError, msgspec.ValidationError) as error:
            return self._refusal(str(error), Result.ERROR)
        except Exception as error:
            log.exception("a command of %s could not be done", self.caller)
            return self._refusal(f"{type(error).__name__}: {error}", Result.ERROR)

    def _refusal(self, text: str, result: int) -> Answer:
        return Answer(result, self._channel.clean(text))

    def _write(self) -> None:
        try:
            while self._out:
                self._out = self._out[self._sock.send(self._out) :]
        except (BlockingIOError, InterruptedError):
            self._await_room()
        except OSError as error:
            log.info("control connection of %s broke off: %s", self.caller, error)
            self._out = memoryview(b"")
            self.close()
            return
        else:
            self._has_moved()
            self._await_writer(False)
        self._go_on()

    def _await_writer(self, on: bool) -> None:
        if on and not self._writing:
            self._loop.add_writer(self._sock.fileno(), self._write)
        elif not on and self._writing:
            self._loop.remove_writer(self._sock.fileno())
        self._writing = on

    def _await_room(self) -> None:
        """A selector that does not know rings calls a full one writable, always: then time must tell."""
        if self._writing:
            self._await_writer(False)
            self._retry = self._loop.call_later(_ROOM_S, self._write)
        else:
            self._await_writer(True)

    def close(self) -> None:
        if self._sock.fileno() < 0:
            return
        for handle in (self._deadline, self._next, self._retry):
            if handle is not None:
                handle.cancel()
        self._listen(False)
        self._await_writer(False)
        if self._out:
            try:
                self._sock.send(self._out)
            except OSError:
                pass
        self._sock.close()
        self._channel.clients.discard(self)
