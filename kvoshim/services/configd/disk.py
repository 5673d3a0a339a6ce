"""All that the repository does to a disk, in one place that tests replace: with one that loses power, is full, or lies.

Every method raises OSError when the system refuses. What was written is on the disk only once sync() has returned, and a name only
once sync_directory() has.
"""

from __future__ import annotations

import fcntl
import os


class Disk:
    """The real one. A handle is a descriptor."""

    # --- looking ---------------------------------------------

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def names(self, directory: str) -> list[str]:
        """What the directory holds; nothing if there is none."""
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            return []

    # --- files ---------------------------------------------

    def create(self, path: str) -> int:
        """Opens an empty file, whatever was there before."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def open(self, path: str) -> int:
        """Opens a file that is there, for writing."""
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def write(self, handle: int, offset: int, data: bytes) -> None:
        """All of the data, at this place."""
        view = memoryview(data)
        while view:
            written = os.pwrite(handle, view, offset)
            offset += written
            view = view[written:]

    def truncate(self, handle: int, size: int) -> None:
        os.ftruncate(handle, size)

    def sync(self, handle: int) -> None:
        os.fdatasync(handle)

    def close(self, handle: int) -> None:
        os.close(handle)

    # --- names ---------------------------------------------

    def make_directory(self, path: str) -> None:
        """Also those above it; nothing if it is there. Each new name is on the disk when this returns."""
        parent = os.path.dirname(path)
        if not os.path.isdir(path):
            if not os.path.isdir(parent):
                self.make_directory(parent)
            os.mkdir(path, 0o700)
            self.sync_directory(parent)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def sync_directory(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    # --- who may write ---------------------------------------------

    def lock(self, path: str) -> int:
        """A handle that keeps others out while it is open. BlockingIOError: another process has it."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return fd


def write_file(disk: Disk, path: str, data: bytes) -> None:
    """A whole file in one step: under its name is either what was before or all of this. On the disk when this returns."""
    temporary = f"{path}.new"
    handle = disk.create(temporary)
    try:
        disk.write(handle, 0, data)
        disk.sync(handle)
    finally:
        disk.close(handle)
    disk.rename(temporary, path)
    disk.sync_directory(os.path.dirname(path))
