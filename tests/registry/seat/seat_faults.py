"""What can be wrong with a directory: file systems that are read-only, full, hang, or vanish. Real ones, mounted
by root below the test's own directory, and unmounted at its end."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

OTHER = 70002  # a user that is none of this machine's

_libc = ctypes.CDLL(None, use_errno=True)
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MNT_DETACH = 1, 32, 4096, 2


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has other users at hand")
with_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")


def _mount(kind: str, target: Path, flags: int = 0, options: str = "") -> None:
    if _libc.mount(kind.encode(), bytes(target), kind.encode(), flags, options.encode()):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(target))


def _unmount(target: Path) -> None:
    if _libc.umount2(bytes(target), _MNT_DETACH):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(target))


@contextlib.contextmanager
def tmpfs(target: Path, options: str = "size=1m") -> Iterator[None]:
    """A file system of its own."""
    _mount("tmpfs", target, 0, f"{options},mode=700")
    try:
        yield
    finally:
        _unmount(target)


@contextlib.contextmanager
def read_only(target: Path) -> Iterator[None]:
    """The same directory, through a mount that cannot be written to: it may be in use."""
    _mount(str(target), target, _MS_BIND)
    try:
        _mount("none", target, _MS_REMOUNT | _MS_BIND | _MS_RDONLY)
        yield
    finally:
        _unmount(target)


def fill(directory: Path) -> Path:
    """Leaves no byte; returns the file that took them."""
    path = directory / "ballast"
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return path


@contextlib.contextmanager
def hanging(target: Path) -> Iterator[None]:
    """A file system whose server says nothing: whatever is asked of it waits, until the end of the context, which lets all fail."""
    server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        _mount("fuse", target, 0, f"fd={server},rootmode=40000,user_id=0,group_id=0")
    except BaseException:
        os.close(server)
        raise
    try:
        yield
    finally:
        os.close(server)
        _unmount(target)
