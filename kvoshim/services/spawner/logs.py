"""What a service prints: through a pipe that the spawner keeps, into a file that is rotated by size.

    service --stdout, stderr--> pipe (both ends kept by the spawner) --read end--> startd: Capture -> service.log, service.log.1, ...

Both ends are kept, so a service's pipe lives as long as the service does, over its restarts and startd's: a new startd fetches the
read end and goes on where the old one stopped. Nothing is lost but what one write of the log file has torn when startd is killed
between reading and writing (at most READ_SIZE bytes). While nobody reads, the pipe takes PIPE_SIZE bytes; then the service waits in
write(), as it would on a slow disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable

from kvoshim.errors import SpawnerError
from kvoshim.services.spawner.client import SpawnerClient

PIPE_SIZE = 1 << 20
READ_SIZE = 1 << 16
_RETRY_S = 1.0


class LogFile:
    """A file that is renamed to PATH.1 (and PATH.1 to PATH.2 ...) when the next write would make it larger than `size`; `keep` old
    ones stay, 0: it begins anew. Cuts behind a line where there is one. A line that is longer than the file may be is cut.

    A full disk or a directory that is gone costs what cannot be written (`lost` bytes), never the daemon; it is tried again each
    second, and the file then says how much is missing.
    """

    def __init__(self, path: str, size: int = 10 << 20, keep: int = 5, clock: Callable[[], float] = time.monotonic) -> None:
        if size < 1 or keep < 0:
            raise ValueError(f"a log of {size} bytes and {keep} old ones cannot be kept")
        self.path = path
        self.size = size
        self.keep = keep
        self.lost = 0
        self.problem = ""  # why nothing can be written now
        self._clock = clock
        self._fd = -1
        self._length = 0
        self._untold = 0
        self._retry = 0.0

    def write(self, data: bytes | memoryview) -> None:
        """All of it, or what can be; never raises OSError."""
        view = memoryview(data)
        if self.problem and self._clock() < self._retry:
            self._lose(len(view))
            return
        try:
            while view:
                self._open()
                if self._untold:
                    told = b"[%d bytes of output are missing here: %s]\n" % (self._untold, self.problem.encode())
                    self._length += os.write(self._fd, told)
                    self._untold, self.problem = 0, ""
                view = view[self._write(view) :]
            self.problem = ""
        except OSError as error:
            self.problem = error.strerror or str(error)
            self._retry = self._clock() + _RETRY_S
            self._lose(len(view))
            self._close()

    def _lose(self, count: int) -> None:
        self.lost += count
        self._untold += count

    def _open(self) -> None:
        if self._fd < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            self._fd = os.open(self.path, flags, 0o600)
            self._length = os.fstat(self._fd).st_size

    def _write(self, view: memoryview) -> int:
        """Writes a part; returns its length, 0 after a rotation."""
        room = self.size - self._length
        part = view
        if len(view) > room:
            cut = bytes(view[: max(room, 0)]).rfind(b"\n") + 1
            if not cut and self._length:
                self._rotate()
                return 0
            part = view[: cut or room]
        written = os.write(self._fd, part)
        self._length += written
        return written

    def _rotate(self) -> None:
        self._close()
        for number in range(self.keep, 0, -1):
            older = f"{self.path}.{number - 1}" if number > 1 else self.path
            try:
                os.rename(older, f"{self.path}.{number}")
            except FileNotFoundError:
                continue
        if not self.keep:
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                pass

    def reopen(self) -> None:
        """The next write opens the path anew: somebody has renamed the file."""
        self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    close = _close


class Capture:
    """Moves a service's output from its pipe into its log. read_end: becomes this object's. Readable: call pump().
    ended: nobody can write any more, since the pipe was dropped; do not wait for it then."""

    def __init__(self, read_end: int, log: LogFile) -> None:
        self._fd = read_end
        self.log = log
        self.ended = False
        os.set_blocking(read_end, False)

    def fileno(self) -> int:
        return self._fd

    def pump(self) -> bool:
        """One portion, so that a service that floods its log waits and nobody else does. False: there is no more now."""
        try:
            data = os.read(self._fd, READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return False
        self.ended = not data
        self.log.write(data)
        return len(data) == READ_SIZE

    def drain(self, most: int = PIPE_SIZE) -> None:
        """What is in the pipe now, up to `most` bytes: at the end of a service, or of startd."""
        for _ in range(most // READ_SIZE):
            if not self.pump():
                return

    def close(self) -> None:
        """The pipe stays with the spawner."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.log.close()


def pipe_names(service: str) -> tuple[str, str]:
    """Under which names the spawner keeps the two ends. service: a short name, such as the token of the instance."""
    return f"log-r:{service}", f"log-w:{service}"


def open_pipe(spawner: SpawnerClient, service: str) -> tuple[int, int]:
    """(read end, write end) of a service's pipe, yours to close: the one that the spawner keeps, or a new one that it keeps from now
    on. The write end is for the order's fds 1 and 2."""
    names = pipe_names(service)
    found: list[int] = []
    try:
        for name in names:
            found.append(spawner.fetch(name))
        return found[0], found[1]
    except SpawnerError as error:
        for fd in found:
            os.close(fd)
        if error.errno != errno.ENOENT:
            raise
    ends = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:  # the user has too many large ones: the usual size will do
            pass
        if found:
            spawner.drop(names[0])  # a startd was killed between the two
        for name, fd in zip(names, ends, strict=True):
            spawner.hold(name, fd)
    except BaseException:
        for fd in ends:
            os.close(fd)
        raise
    return ends


def drop_pipe(spawner: SpawnerClient, service: str) -> None:
    """For a service that is gone for good."""
    for name in pipe_names(service):
        try:
            spawner.drop(name)
        except SpawnerError as error:
            if error.errno != errno.ENOENT:
                raise
