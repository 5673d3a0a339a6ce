"""The clients of this process: one for each scope and, where one is running, event loop."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading

from kvoshim.registry import seat
from kvoshim.registry.client.client import Client
from kvoshim.registry.client.drivers import LoopDriver, ThreadDriver, in_thread
from kvoshim.registry.client.link import Link

_clients: dict[tuple[str, int], Client] = {}
_lock = threading.RLock()


def scope_of(reach: str | seat.Scope | None) -> seat.Scope:
    """RegistryScopeError."""
    if reach is None:
        return seat.choose()
    return seat.Scope.parse(reach) if isinstance(reach, str) else reach


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread. A program without asyncio does not pay for its import."""
    if "asyncio" not in sys.modules:
        return None
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _key(reach: str | seat.Scope | None, loop: asyncio.AbstractEventLoop | None) -> tuple[str, int]:
    return "" if reach is None else scope_of(reach).text, id(loop) if loop is not None else 0


def _known(key: tuple[str, int]) -> Client | None:
    client = _clients.get(key)
    if client is not None and not client.usable():  # of a loop that was closed, with the same id
        del _clients[key]
        client.close()
        return None
    return client


def connected(scope: seat.Scope) -> Client | None:
    """A client that this process has for a scope already, if it is connected."""
    for one in list(_clients.values()):
        if one.scope == scope and one.usable() and one.link is not None:
            return one
    return None


def client(reach: str | seat.Scope | None = None) -> Client:
    """The client for a reach, connected. Waits until there is a registry. RegistryUnavailableError."""
    loop = running_loop()
    key = _key(reach, loop)
    found = _clients.get(key)
    if found is not None and found.usable():
        return found
    with _lock:
        found = _known(key)
        if found is None:
            link = Link(seat.connect(scope_of(reach)))
            found = _clients[key] = Client(link.scope, link, ThreadDriver() if loop is None else LoopDriver(loop))
        return found


async def client_soon(reach: str | seat.Scope | None = None) -> Client:
    """The same for coroutines: the loop does not wait."""
    loop = asyncio.get_running_loop()
    key = _key(reach, loop)
    found = _known(key)
    if found is None:
        link = Link(await in_thread(seat.connect, scope_of(reach)))
        found = _known(key)
        if found is not None:
            link.close()
            return found
        found = _clients[key] = Client(link.scope, link, LoopDriver(loop))
    return found


def close() -> None:
    """Ends all that this process has with registries. Using one afterwards begins anew."""
    with _lock:
        clients = list(_clients.values())
        _clients.clear()
    for one in clients:
        one.close()


def _after_fork_in_child() -> None:
    global _lock
    for one in _clients.values():
        one.abandon()
    _clients.clear()
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(close)
