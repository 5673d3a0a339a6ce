"""The registry's end of its bridge to other hosts: a child process and a pair of sockets, read and written without waiting."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from kvoshim.errors import ProtocolError
from kvoshim.process.framing import frame
from kvoshim.registry.daemon import bridging

log = logging.getLogger("kvoshim.registry")

_READ_SIZE = 1 << 16
_OUT_MAX = 1 << 27  # bytes that the bridge may leave unread before it is given up
_END_S = 3.0  # for it to take its entries back from other hosts and end
_TEXT_MAX = 1000  # of what it said at its end


class Bridge:
    """take(message): what it says; lost(why): it has ended. OSError if it cannot be started."""

    def __init__(self, loop, take: Callable[[Any], None], lost: Callable[[str], None]) -> None:
        self._loop = loop
        self._take = take
        self._lost = lost
        self._since = time.monotonic()
        self._frames = bridging.of_bridge()
        self._out = bytearray()
        self._closed = False
        self._sock, theirs = socket.socketpair()
        # Not a pipe: nobody reads it while the bridge runs.
        self._said = open(os.memfd_create("kvoshim-said"), "r+b")  # noqa: SIM115  closed with the bridge
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", bridging.MODULE, "--fd", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                pass_fds=(theirs.fileno(),),
                cwd="/",
            )
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self._sock.close()
            self._said.close()
            raise
        finally:
            theirs.close()
        self._sock.setblocking(False)
        loop.add_reader(self._sock.fileno(), self._read)
        loop.add_reader(self._pidfd, self._ended)

    @property
    def pid(self) -> int:
        return self._process.pid

    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._since

    def send(self, message: Any) -> None:
        if self._closed:
            return
        waiting = bool(self._out)
        self._out += frame(message)
        if not waiting:
            self._write()
        if len(self._out) > _OUT_MAX:
            log.error("the bridge to other hosts takes nothing in: it is ended")
            self._process.kill()

    def _write(self) -> None:
        try:
            while self._out:
                del self._out[: self._sock.send(bytes(self._out[:_READ_SIZE]))]
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._sock.fileno(), self._write)
            return
        except OSError:
            self._out.clear()  # it is about to end
        self._loop.remove_writer(self._sock.fileno())

    def _read(self) -> None:
        try:
            data = self._sock.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._sock.fileno())  # its end is seen by the pidfd
            return
        try:
            for message in self._frames.feed(data):
                if self._closed:
                    return
                self._take(message)
        except ProtocolError as error:
            log.error("the bridge to other hosts speaks nonsense: %s", error)
            self._process.kill()

    def _ended(self) -> None:
        code = self._process.wait()
        text = self._last_words()
        self._release()
        self._lost(f"exit code {code}{f': {text}' if text else ''}")

    def _last_words(self) -> str:
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _TEXT_MAX))
        return self._said.read().decode("utf-8", "replace").strip()

    def _release(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._sock.close()
        self._said.close()

    def leave(self, last: Any) -> None:
        """Says this and has nothing to do with the bridge any more; it ends by itself."""
        self.send(last)
        self._take = self._lost = lambda _: None

    def close(self, last: Any) -> None:
        """Says this, and waits for the end, which takes a moment: other hosts are to forget what was registered here."""
        if self._closed:
            return
        self._sock.setblocking(True)
        self._sock.settimeout(_END_S)
        try:
            self._sock.sendall(bytes(self._out) + frame(last))
        except OSError:
            pass
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._release()
