"""One directory in which a registry can be found: the port file and, beside it, the lock that its holder keeps for life and
the lock that is held while somebody starts one. Lock files are never deleted: who locked a deleted one would hold nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from kvoshim.errors import RegistryPlaceError
from kvoshim.registry.seat import portfile
from kvoshim.registry.seat.patience import Patience

HOME_S = 2.0  # for a home directory to answer
LOOK_S = 0.1  # the same where others wait meanwhile
_TRIES = 5  # for a lock that others only look at


@dataclass(frozen=True)
class Place:
    """make: the directories that may be made if they are missing, outermost first. owner: the only user who is believed
    here. public: others may read it. far: it may lie on another machine, and hang."""

    directory: str
    name: str
    owner: int
    make: tuple[str, ...] = ()
    public: bool = False
    far: bool = False

    @property
    def path(self) -> str:
        """The port file."""
        return os.path.join(self.directory, self.name)

    @property
    def lock_path(self) -> str:
        return os.path.join(self.directory, f".{self.name}.lock")

    @property
    def start_path(self) -> str:
        return os.path.join(self.directory, f".{self.name}.start")

    def patiently(self, function: Callable, *arguments, discard=None):
        """function(*arguments), which uses this directory. RegistryPlaceError if that does not answer."""
        if not self.far:
            return function(*arguments)
        try:
            return _patience(self.directory).call(function, *arguments, seconds=_seconds.get(), discard=discard)
        except TimeoutError as error:
            raise RegistryPlaceError(f"{self.directory}: {error}") from None

    # --- looking ---------------------------------------------

    def read(self) -> portfile.Reading:
        """What the port file says. RegistryPlaceError if the directory does not answer."""
        return self.patiently(portfile.read, self.path, self.owner, self.public)

    def signature(self) -> tuple[int, ...]:
        return self.patiently(portfile.signature, self.path)

    def holder(self) -> int:
        """The PID of who holds the lock, -1 if that is not known, 0 if nobody of this machine does."""
        pid = self.patiently(self._holder)
        return 0 if pid and self.of_another_machine() else pid

    def of_another_machine(self) -> bool:
        """Whether what was announced here is the registry of another machine that calls itself as this one does."""
        if not self.far:
            return False
        record = self.read().record
        return record is not None and record.boot != portfile.boot_id()

    def _holder(self) -> int:
        try:
            fd = os.open(self.lock_path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return 0
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return 0
        except BlockingIOError:
            text = os.pread(fd, 32, 0).strip()
            return int(text) if text.isdigit() else -1
        except OSError:
            return 0
        finally:
            os.close(fd)

    # --- holding ---------------------------------------------

    def prepare(self) -> None:
        """Makes the directory where that is ours to do. RegistryPlaceError if it cannot be used or trusted."""
        try:
            if self.far and (home := os.stat(os.path.dirname(self.make[0]))).st_uid != self.owner:
                raise RegistryPlaceError(f"the home directory belongs to user {home.st_uid}")
            for directory in self.make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(directory, 0o755 if self.public else 0o700)
            facts = self._facts()
        except OSError as error:
            raise RegistryPlaceError(f"{self.directory} cannot be used: {error.strerror}") from error
        if why := self._distrusted(facts):
            raise RegistryPlaceError(f"{self.directory} is not to be trusted: {why}; remove it, or take others' rights from it")

    def flaw(self) -> str:
        """What is wrong with the directory as it is; "" for nothing. Makes nothing."""

        def look() -> str:
            try:
                return self._distrusted(self._facts()) or ("" if os.access(self.directory, os.W_OK) else "it cannot be written to")
            except OSError as error:
                return str(error.strerror)

        try:
            return self.patiently(look)
        except RegistryPlaceError as error:
            return str(error)

    def _facts(self) -> os.stat_result:
        # One's own directory may lie elsewhere; below /tmp, a link may be anybody's.
        return os.stat(self.directory) if self.far else os.lstat(self.directory)

    def _distrusted(self, facts: os.stat_result) -> str:
        if not stat.S_ISDIR(facts.st_mode):
            return "it is no directory"
        if facts.st_uid != self.owner:
            return f"it belongs to user {facts.st_uid}"
        if facts.st_mode & (0o022 if self.far or self.public else 0o077):
            return f"others may use it (mode {stat.S_IMODE(facts.st_mode):o})"
        return ""

    def take(self) -> int | None:
        """A descriptor that holds the lock; None if another holds it. RegistryPlaceError."""
        return self.patiently(self._take, discard=lambda fd: None if fd is None else os.close(fd))

    def _take(self) -> int | None:
        self.prepare()
        while True:
            fd = self._open(self.lock_path)
            try:
                if not _lock(fd):
                    os.close(fd)
                    return None
                if os.path.samestat(os.fstat(fd), os.stat(self.lock_path)):
                    with contextlib.suppress(OSError):  # only says who it is
                        os.ftruncate(fd, 0)
                        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
                    return fd
            except FileNotFoundError:
                pass  # the directory has been cleared in between
            except OSError as error:
                os.close(fd)
                raise RegistryPlaceError(f"{self.lock_path} cannot be locked: {error.strerror}") from error
            os.close(fd)
            self.prepare()

    @contextlib.contextmanager
    def starting(self) -> Iterator[bool]:
        """Whether it is this process, for now, that may start a registry here. RegistryPlaceError."""
        self.prepare()
        fd = self._open(self.start_path)
        try:
            try:
                first = _lock(fd, 1)
            except OSError as error:
                raise RegistryPlaceError(f"{self.start_path} cannot be locked: {error.strerror}") from error
            yield first
        finally:
            os.close(fd)

    def _open(self, path: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise RegistryPlaceError(f"the lock {path} cannot be opened: {error.strerror}") from error
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != self.owner:
            os.close(fd)
            raise RegistryPlaceError(f"the lock {path} is no file of user {self.owner}; remove it")
        return fd


_seconds: ContextVar[float] = ContextVar("seconds", default=HOME_S)


@contextlib.contextmanager
def hurry() -> Iterator[None]:
    """For a daemon, which must not hold up its clients: what does not answer is asked again some other time."""
    token = _seconds.set(LOOK_S)
    try:
        yield
    finally:
        _seconds.reset(token)


@functools.lru_cache(maxsize=64)
def _patience(directory: str) -> Patience:
    return Patience()


def _lock(fd: int, tries: int = _TRIES) -> bool:
    """Takes the lock without waiting for its holder. Somebody may hold it for a moment to see whether it is free."""
    for left in reversed(range(tries)):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if left:
                time.sleep(0.002)
    return False
