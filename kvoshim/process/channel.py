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
from collections.abc import Callable

from kvoshim import socket
from kvoshim.errors import ConfigurationError
from kvoshim.process.access import Caller, Policy, Role, caller_of
from kvoshim.process.connection import Connection
from kvoshim.process.envelope import Answer, Request, Result
from kvoshim.process.model import ControlSocket

log = logging.getLogger("kvoshim.process")

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
        self.clients: set[Connection] = set()
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
        if path != self.path or not os.path.exists(path):  # somebody has tidied up
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
        self.clients.add(Connection(self, sock, caller))

    def close(self) -> None:
        """Sends what fits of the answers that are due, and closes everything."""
        if self._listener is not None:
            self._listen(False)
            self._listener.close()
            self._listener = None
        for client in list(self.clients):
            client.close()
