"""The control channel's server: a Unix stream socket, on the project's own transport, many clients at a time.

One command is done at a time, on the loop's thread, in turns: a client that sends many at once waits behind the
others. A client holds at most one command and one answer in memory; as long as it does not take its answer, nothing
more is read from it. What is wrong with one connection ends that connection.
"""

from __future__ import annotations

import errno
import logging
import os
import socket as kernel
import stat
import time
from collections import deque
from collections.abc import Callable

import msgspec

from kvoshim import socket
from kvoshim.errors import ConfigurationError, ControlError
from kvoshim.process import jsontext
from kvoshim.process.access import Caller, Policy, Role, caller_of
from kvoshim.process.envelope import Answer, Frames, Request, Result
from kvoshim.process.model import ControlSocket

log = logging.getLogger("kvoshim.process")

_READ_SIZE = 1 << 16
_READER_SHARE = 16  # a caller that may only read has this part of a command's bytes
_RETRY_S = 0.1  # after want of descriptors
_PATH_MAX = 107  # bytes of a Unix socket's path

Execute = Callable[[Request, Caller, Role], Answer]


def _clear(path: str) -> None:
    """Removes what a killed daemon has left. OSError (EADDRINUSE, from bind) remains for what is in use."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
        with kernel.socket(kernel.AF_UNIX, kernel.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except FileNotFoundError:
        pass
    except ConnectionRefusedError:  # nobody listens there any more
        os.unlink(path)
    except BlockingIOError:
        pass  # somebody does, and is busy


class Listener:
    """A bound socket. Removes its path when closed, unless another has taken it."""

    def __init__(self, path: str, mode: int) -> None:
        self.path = path
        if len(os.fsencode(path)) > _PATH_MAX:
            raise ConfigurationError(f"the control socket's path {path!r} is longer than {_PATH_MAX} bytes")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _clear(path)
            mask = os.umask(0o777 & ~mode)
            try:
                self.sock.bind(path)
            finally:
                os.umask(mask)
            self.sock.listen(128)
            self.sock.setblocking(False)
            self._inode = os.stat(path).st_ino
        except OSError as error:
            self.sock.close()
            raise ConfigurationError(f"the control socket {path} cannot be bound: {error.strerror}") from None

    def close(self) -> None:
        self.sock.close()
        try:
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)
        except OSError:
            pass


class Channel:
    """execute: does a command. clean: masks secrets in a text."""

    def __init__(self, loop, execute: Execute, clean: Callable[[str], str]) -> None:
        self.loop = loop
        self.execute = execute
        self.clean = clean
        self.settings = ControlSocket()
        self.policy = Policy(())
        self.clients: set[Client] = set()
        self.refused = 0
        self._listener: Listener | None = None
        self._listening = False

    @property
    def path(self) -> str:
        return self._listener.path if self._listener else ""

    def configure(self, settings: ControlSocket, path: str) -> None:
        """Listens at `path` by these settings; connections stay. ConfigurationError; all stays as it was then."""
        policy = Policy(settings.access)
        mode = 0o666 if policy.for_others else 0o600
        if path != self.path:
            listener = Listener(path, mode)
            self._listen(False)
            if self._listener:
                self._listener.close()
            self._listener = listener
            self._listen(True)
        else:
            os.chmod(path, mode)
        self.settings, self.policy = settings, policy

    def _listen(self, on: bool) -> None:
        if on and not self._listening:
            self.loop.add_reader(self._listener.sock.fileno(), self._accept)
        elif not on and self._listening:
            self.loop.remove_reader(self._listener.sock.fileno())
        self._listening = on

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                    raise
                log.error("no further control connection can be taken for now: %s", error)
                self._listen(False)
                self.loop.call_later(_RETRY_S, lambda: self._listener and self._listen(True))
                return
            try:
                sock.setblocking(False)
                self._admit(sock)
            except OSError as error:
                log.info("a control connection broke off: %s", error)
                sock.close()

    def _admit(self, sock: socket.socket) -> None:
        caller = caller_of(sock)
        role = self.policy.role_of(caller)
        readers = sum(self.policy.role_of(client.caller) < Role.WRITE for client in self.clients)
        refusal = ""
        if role is Role.NONE:
            refusal = f"user {caller.uid} may not use this control channel"
        elif len(self.clients) >= self.settings.clients:
            refusal = f"{self.settings.clients} connections are open already"
        elif role is Role.READ and readers >= self.settings.clients // 2:
            refusal = f"{readers} connections of callers that may only read are open already"
        if refusal:
            self.refused += 1
            log.warning("control connection of %s refused: %s", caller, refusal)
            try:
                sock.send(Answer(Result.ERROR, refusal).encode())
            finally:
                sock.close()
            return
        self.clients.add(Client(self, sock, caller))

    def close(self) -> None:
        """Sends what fits of the answers that are due, and closes everything."""
        if self._listener is not None:
            self._listen(False)
            self._listener.close()
            self._listener = None
        for client in list(self.clients):
            client.close()


class Client:
    """One connection."""

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
            if not self._writing:
                self._loop.add_writer(self._sock.fileno(), self._write)
                self._writing = True
        except OSError as error:
            log.info("control connection of %s broke off: %s", self.caller, error)
            self._out = memoryview(b"")
            self.close()
            return
        else:
            self._has_moved()
            if self._writing:
                self._loop.remove_writer(self._sock.fileno())
                self._writing = False
        self._go_on()

    def close(self) -> None:
        if self._sock.fileno() < 0:
            return
        for handle in (self._deadline, self._next):
            if handle is not None:
                handle.cancel()
        self._listen(False)
        if self._writing:
            self._loop.remove_writer(self._sock.fileno())
        if self._out:
            try:
                self._sock.send(self._out)
            except OSError:
                pass
        self._sock.close()
        self._channel.clients.discard(self)
