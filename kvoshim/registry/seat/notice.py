"""Being told when a file comes into a directory: a thousand who wait for a port file would keep the processor from who writes it, if
each of them looked ten times a second."""

from __future__ import annotations

import ctypes
import os
import select

_MOVED_TO, _NONBLOCK, _CLOEXEC = 0x80, os.O_NONBLOCK, os.O_CLOEXEC


class Notice:
    """OSError if the directory is not there, or this user has too many of these."""

    def __init__(self, directory: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(_NONBLOCK | _CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        if libc.inotify_add_watch(self._fd, os.fsencode(directory), _MOVED_TO) < 0:
            error = ctypes.get_errno()
            self.close()
            raise OSError(error, os.strerror(error), directory)

    def wait(self, seconds: float) -> None:
        """Returns when a file was renamed into the directory since the last time, or after so long."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if poll.poll(seconds * 1000):
            try:
                os.read(self._fd, 65536)
            except BlockingIOError:
                pass

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
