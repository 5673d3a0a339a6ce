"""The PID file: locked as long as its process lives, so a second daemon of the same place is refused, whatever a
crash has left behind."""

from __future__ import annotations

import fcntl
import os

from kvoshim.process.launch import AlreadyRunningError, PidFileError


class PidFile:
    """Takes the file, or raises AlreadyRunningError (somebody else holds it) or PidFileError. release() removes it."""

    def __init__(self, path: str, what: str) -> None:
        self.path = path
        self._fd = self._take(path, what)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    @staticmethod
    def _take(path: str, what: str) -> int:
        while True:
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            except OSError as error:
                raise PidFileError(f"the PID file {path} cannot be opened: {error.strerror}") from None
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    return fd
            except BlockingIOError:
                pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
                os.close(fd)
                raise AlreadyRunningError(f"{what} already runs{f', PID {pid}' if pid else ''}: {path} is locked") from None
            except FileNotFoundError:
                pass
            os.close(fd)  # removed by its former owner between our open and our lock: try the new one

    def release(self) -> None:
        """Removes the file and lets go of the lock; in this order, so nobody locks a file that goes away."""
        if self._fd < 0:
            return
        try:
            if os.path.samestat(os.fstat(self._fd), os.stat(self.path)):  # else it was taken from us
                os.unlink(self.path)
        except OSError:
            pass
        os.close(self._fd)
        self._fd = -1
