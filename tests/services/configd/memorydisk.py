"""A disk in memory that can lose power. It knows what is on the medium and what only the system has in its cache."""

import errno
import os
from dataclasses import dataclass, field
from random import Random

from kvoshim.services.configd.disk import Disk

SECTOR = 64  # bytes that reach the medium together; smaller than a real one, so that short files are torn, too


@dataclass
class Inode:
    """cached: what a reader sees. durable: what is on the medium. pending: what was done since, oldest first: (offset, bytes) or a
    size that it was cut to."""

    cached: bytes = b""
    durable: bytes = b""
    pending: list = field(default_factory=list)

    def apply(self, change) -> None:
        self.cached = changed(self.cached, change)
        self.pending.append(change)


def changed(data: bytes, change) -> bytes:
    if isinstance(change, int):
        return data[:change].ljust(change, b"\0")
    offset, new = change
    data = data.ljust(offset, b"\0")
    return data[:offset] + new + data[offset + len(new) :]


class MemoryDisk(Disk):
    """before(what): called before each thing that changes anything, with the disk as it is; what it raises happens instead."""

    def __init__(self) -> None:
        self.inodes: dict[int, Inode] = {}
        self.cached: dict[str, int] = {}  # path -> inode
        self.history: dict[str, list] = {}  # path -> what it may be after a loss of power: an inode or None; the first is durable
        self.directories = {"/"}
        self.handles: dict[int, int] = {}
        self.locked: set[str] = set()
        self.before = lambda what, interrupted=None: None
        self._next = 0

    def copy(self) -> "MemoryDisk":
        """As a process finds it that starts after this one was killed."""
        new = MemoryDisk()
        new.inodes = {number: Inode(one.cached, one.durable, list(one.pending)) for number, one in self.inodes.items()}
        new.cached, new.directories = dict(self.cached), set(self.directories)
        new.history = {path: list(history) for path, history in self.history.items()}
        new._next = self._next
        return new

    def without_power(self, random: Random) -> "MemoryDisk":
        """As it may be after a loss of power: of what was not synced, each name and each sector has come through or not."""
        new = MemoryDisk()
        new.directories, new._next = set(self.directories), self._next
        for path in sorted({*self.cached, *self.history}):
            number = random.choice(self.history[path]) if path in self.history else self.cached[path]
            if number is None:
                continue
            if number not in new.inodes:
                content = self._after_loss(self.inodes[number], random)
                new.inodes[number] = Inode(content, content)
            new.cached[path] = number
        return new

    @staticmethod
    def _after_loss(inode: Inode, random: Random) -> bytes:
        data = inode.durable
        mood = random.random()  # nearly nothing, nearly everything, or anything has come through
        for change in inode.pending:
            if isinstance(change, int):
                if random.random() < mood:
                    data = changed(data, change)
                continue
            offset, new = change
            at = 0
            while at < len(new):
                end = min(len(new), at + SECTOR - (offset + at) % SECTOR)
                if random.random() < mood:
                    data = changed(data, (offset + at, new[at:end]))
                at = end
        return data

    # --- Disk ---------------------------------------------

    def read(self, path: str) -> bytes:
        if path not in self.cached:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self.inodes[self.cached[path]].cached

    def names(self, directory: str) -> list[str]:
        return sorted(os.path.basename(path) for path in self.cached if os.path.dirname(path) == directory)

    def create(self, path: str) -> int:
        self.before("create")
        if path in self.cached:
            self.inodes[self.cached[path]].apply(0)
        else:
            self._next += 1
            self.inodes[self._next] = Inode()
            self._name(path, self._next)
        return self.open(path)

    def open(self, path: str) -> int:
        self._next += 1
        self.handles[self._next] = self.cached[path]
        return self._next

    def write(self, handle: int, offset: int, data: bytes) -> None:
        inode = self.inodes[self.handles[handle]]
        self.before("write", (inode, offset, data))
        inode.apply((offset, bytes(data)))

    def truncate(self, handle: int, size: int) -> None:
        self.before("truncate")
        self.inodes[self.handles[handle]].apply(size)

    def sync(self, handle: int) -> None:
        inode = self.inodes[self.handles[handle]]
        self.before("sync", inode)
        inode.durable, inode.pending = inode.cached, []

    def close(self, handle: int) -> None:
        self.handles.pop(handle)

    def make_directory(self, path: str) -> None:
        while path not in self.directories:
            self.directories.add(path)
            path = os.path.dirname(path)

    def rename(self, old: str, new: str) -> None:
        self.before("rename")
        number = self.cached[old]
        self._name(old, None)
        self._name(new, number)

    def remove(self, path: str) -> None:
        self.before("remove")
        self.read(path)
        self._name(path, None)

    def sync_directory(self, path: str) -> None:
        self.before("sync directory")
        for name in [name for name in self.history if os.path.dirname(name) == path]:
            del self.history[name]

    def lock(self, path: str) -> int:
        if path not in self.cached:
            self._next += 1
            self.inodes[self._next] = Inode()
            self._name(path, self._next)
        return self.open(path)

    def _name(self, path: str, number: int | None) -> None:
        self.history.setdefault(path, [self.cached.get(path)]).append(number)
        if number is None:
            self.cached.pop(path, None)
        else:
            self.cached[path] = number
