"""Descriptors that an instance has beside its processes: its log's pipe, its notify socket, the newline channel, listening sockets,
and what it stores. The spawner keeps them all, so they outlive the service's restart and the restarter's."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from kvoshim.directories import private_directory
from kvoshim.errors import ConfigurationError, InvalidOrderError, SpawnerError
from kvoshim.services.spawner import notify
from kvoshim.services.spawner.client import SpawnerClient

BACKLOG = 1024
STORED_MAX = 64  # descriptors that one instance may have kept


def fetch(spawner: SpawnerClient, name: str) -> int | None:
    try:
        return spawner.fetch(name)
    except SpawnerError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def drop(spawner: SpawnerClient, name: str) -> None:
    try:
        spawner.drop(name)
    except SpawnerError as error:
        if error.errno != errno.ENOENT:
            raise


def notify_path(key: str) -> str:
    directory = os.path.join(private_directory(), "notify")
    os.makedirs(directory, 0o700, exist_ok=True)
    return os.path.join(directory, key)


def notify_socket(spawner: SpawnerClient, key: str, make: bool) -> socket.socket | None:
    """What the spawner keeps, else a new one. make: a new one in any case, so nothing is left in it of an earlier run."""
    name = f"notify:{key}"
    if not make:
        fd = fetch(spawner, name)
        return None if fd is None else socket.socket(fileno=fd)
    drop(spawner, name)
    sock = notify.bind(notify_path(key))
    try:
        spawner.hold(name, sock.fileno())
    except BaseException:
        sock.close()
        raise
    return sock


def newline_channel(spawner: SpawnerClient, key: str, make: bool) -> tuple[socket.socket, socket.socket | None] | None:
    """(ours, the service's). A pair of sockets, for what is in it can be looked at before it is taken."""
    name = f"newline:{key}"
    if not make:
        fd = fetch(spawner, name)
        return None if fd is None else (socket.socket(fileno=fd), None)
    drop(spawner, name)
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        spawner.hold(name, ours.fileno())
    except BaseException:
        ours.close()
        theirs.close()
        raise
    return ours, theirs


def listening(spawner: SpawnerClient, key: str, name: str, address: str) -> int:
    """A descriptor of the listening socket at this address ("/path", "@name" or "tcp:HOST:PORT"), the caller's to close: the one that
    the spawner keeps, or a new one. InvalidOrderError."""
    kept = f"sock:{key}:{name}:{address}"[:120]
    if (fd := fetch(spawner, kept)) is not None:
        return fd
    try:
        sock = _bind(address)
    except (OSError, ValueError) as error:
        raise InvalidOrderError(f"its socket {name!r} cannot be bound at {address}: {error}") from None
    with sock:
        spawner.hold(kept, sock.fileno())
        return sock.detach()


def _bind(address: str) -> socket.socket:
    if address.startswith("tcp:"):
        host, _, port = address.removeprefix("tcp:").rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        where: object = (host.strip("[]"), int(port))
    elif address.startswith(("/", "@")):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        where = "\0" + address[1:] if address.startswith("@") else address
    else:
        raise ValueError("an address is /path, @name or tcp:HOST:PORT")
    try:
        if isinstance(where, tuple):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif where[0] == "/" and os.path.exists(where):  # type: ignore[index]
            _take_place(str(where))
        sock.bind(where)
        sock.listen(BACKLOG)
        return sock
    except BaseException:
        sock.close()
        raise


def _take_place(path: str) -> None:
    """Removes a socket that nobody listens at; anything else stays."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            raise FileExistsError(f"{path} is there and no socket") from None
        else:
            raise OSError(errno.EADDRINUSE, "somebody listens there")


def store(spawner: SpawnerClient, key: str, name: str, fd: int, held: set[str]) -> None:
    """Keeps a descriptor for the service's next start. ConfigurationError: it has too many."""
    prefix = f"fd:{key}:"
    numbers = {int(one.removeprefix(prefix).split(":", 1)[0]) for one in held if one.startswith(prefix)}
    if len(numbers) >= STORED_MAX:
        raise ConfigurationError(f"a service may store {STORED_MAX} descriptors")
    number = next(n for n in range(STORED_MAX) if n not in numbers)
    full = f"{prefix}{number}:{name}"[:120]
    spawner.hold(full, fd)
    held.add(full)


def unstore(spawner: SpawnerClient, key: str, name: str, held: set[str]) -> None:
    for one in sorted(held):
        if one.startswith(f"fd:{key}:") and one.split(":", 3)[3] == name:
            drop(spawner, one)
            held.discard(one)


def stored(spawner: SpawnerClient, key: str, held: set[str]) -> list[tuple[str, int]]:
    """(name, descriptor) of what a service has stored; the caller's to close."""
    found = []
    for one in sorted(held):
        if one.startswith(f"fd:{key}:") and (fd := fetch(spawner, one)) is not None:
            found.append((one.split(":", 3)[3], fd))
    return found


def drop_all(spawner: SpawnerClient, key: str) -> None:
    """For an instance that is gone for good."""
    for name in spawner.list().held:
        if f":{key}" in name:
            drop(spawner, name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(notify_path(key))
