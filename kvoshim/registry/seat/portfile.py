"""The port file: where a registry listens, and the cookie by which it is known. One line of JSON; its file says by itself
what may be believed:

    missing      nobody is the registry
    becoming     empty, or without its final end of line: somebody is becoming the registry, or died while doing so (the lock tells)
    unusable     too long, no text of ours, no file, a link, another user's, or open to others: to be replaced
    valid        a line with its end

It is replaced by rename and holds the cookie itself, so a reader gets address and cookie of one registry, never of two.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
from typing import Annotated, NamedTuple

import msgspec

from kvoshim.errors import RegistryPlaceError

FILE_MAX = 8192  # bytes
ADDRESS_MAX = 107  # of a Unix socket's path
COOKIE_BYTES = 32


class State(enum.StrEnum):
    MISSING = "missing"
    BECOMING = "becoming"
    UNUSABLE = "unusable"
    VALID = "valid"


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a port file says. boot: of the machine's run; facts: what else the registry wants known (a route between hosts)."""

    address: str
    cookie: str
    pid: Annotated[int, msgspec.Meta(gt=0, lt=1 << 31)]
    start: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    boot: str
    facts: dict[str, str] = {}
    version: int = 1

    def __hash__(self) -> int:
        return hash((self.address, self.cookie))

    def __post_init__(self) -> None:
        if self.version < 1 or len(bytes.fromhex(self.cookie)) != COOKIE_BYTES:
            raise ValueError("no record of a registry")
        if not self.address.startswith("/") or "\0" in self.address or len(os.fsencode(self.address)) > ADDRESS_MAX:
            raise ValueError("the address is no path of a socket")


_decoder = msgspec.json.Decoder(Record)


class Reading(NamedTuple):
    """signature: of the file that was read; another one has another. why: what is wrong with it."""

    state: State
    record: Record | None = None
    why: str = ""
    signature: tuple[int, ...] = ()


def boot_id() -> str:
    """Names this run of this machine; "" if the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def signature(path: str) -> tuple[int, ...]:
    """() if there is no such file."""
    try:
        return _signature(os.lstat(path))
    except OSError:
        return ()


def _signature(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size


def read(path: str, owner: int, public: bool = False) -> Reading:
    """What the port file says. owner: the only user whose file is believed; public: others may read it. Never raises for what
    is in the file; a file that cannot be read is unusable."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)  # not held up by a FIFO
    except (FileNotFoundError, NotADirectoryError):
        return Reading(State.MISSING)
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else str(error.strerror)
        return Reading(State.UNUSABLE, None, why, signature(path))
    try:
        facts = os.fstat(fd)
        found = _signature(facts)
        if why := _distrusted(facts, owner, public):
            return Reading(State.UNUSABLE, None, why, found)
        try:
            data = _contents(fd)
        except OSError as error:
            return Reading(State.UNUSABLE, None, str(error.strerror), found)
    finally:
        os.close(fd)
    return _judge(data, found)


def _distrusted(facts: os.stat_result, owner: int, public: bool) -> str:
    if not stat.S_ISREG(facts.st_mode):
        return "it is no file"
    if facts.st_uid != owner:
        return f"it belongs to user {facts.st_uid}"
    if facts.st_mode & (0o022 if public else 0o077):
        return f"others may use it (mode {stat.S_IMODE(facts.st_mode):o})"
    return ""


def _contents(fd: int) -> bytes:
    data = b""
    while len(data) <= FILE_MAX and (more := os.read(fd, FILE_MAX + 1 - len(data))):
        data += more
    return data


def _judge(data: bytes, found: tuple[int, ...]) -> Reading:
    if len(data) > FILE_MAX:
        return Reading(State.UNUSABLE, None, f"it is longer than {FILE_MAX} bytes", found)
    if not data.endswith(b"\n"):
        return Reading(State.BECOMING, None, "it is empty" if not data else "it has no final end of line", found)
    try:
        return Reading(State.VALID, _decoder.decode(data), "", found)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Reading(State.UNUSABLE, None, "it holds no record of a registry", found)


def line(record: Record) -> bytes:
    """A record as it stands in the file."""
    return msgspec.json.encode(record) + b"\n"


def replace(path: str, data: bytes, mode: int = 0o600) -> None:
    """Puts a file of this content in the place of whatever is there; only for who holds the place's lock. RegistryPlaceError."""
    directory, name = os.path.split(path)
    new = os.path.join(directory, f".{name}.new")  # one name: what a killed writer leaves, the next one takes
    try:
        _remove(new)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(fd, mode)
            left = memoryview(data)
            while left:
                left = left[os.write(fd, left) :]
        finally:
            os.close(fd)  # some file systems tell only here that there is no room
        _rename(new, path)
    except OSError as error:
        try:
            os.unlink(new)
        except OSError:
            pass
        raise RegistryPlaceError(f"{path} cannot be written: {error.strerror}") from error


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _rename(new: str, path: str) -> None:
    try:
        os.rename(new, path)
    except IsADirectoryError:
        os.rmdir(path)  # an empty one stands for nothing; OSError for one with something in it
        os.rename(new, path)


def remove(path: str, cookie: str, owner: int, public: bool) -> None:
    """Removes the file if it is the record with this cookie, or empty. OSError only where it cannot be looked at."""
    reading = read(path, owner, public)
    ours = reading.record is not None and reading.record.cookie == cookie
    if ours or reading.state is State.BECOMING:
        _remove(path)
