"""The registry: processes find each other by name, are told of each other, and are missed when they die. See docs/registry.md.

    from kvoshim import registry

    with registry.register("engine", address="/run/engine.sock", version="1.2.0") as mine: ...
    for entry in registry.find("eng*"): ...
    for event in registry.watch("eng*"): ...

`aio` has the same for coroutines. Layers of this package, each imports only what is below it:

    aio, this file           what programs use
    client                   connection, registrations, searches
    daemon                   the registry's process
    wire, catalogue, entry   messages; the rules of names, as plain data
    seat                     where the registry is, and who becomes it
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from kvoshim.registry.entry import Entry, Metadata, Offer, Pattern, check_name, check_offer
from kvoshim.registry.seat import Scope, configure

if TYPE_CHECKING:
    from kvoshim.registry.client.mirror import Event
    from kvoshim.registry.client.registration import Registration
    from kvoshim.registry.client.search import Search

__all__ = [
    "Entry", "Event", "Registration", "Scope", "Search", "ask", "configure", "find", "lookup", "owner", "ping", "register", "watch",
]  # fmt: skip
_HOMES = {"Event": "mirror", "Registration": "registration", "Search": "search"}


def __getattr__(name: str):
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"kvoshim.registry.client.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_pool = None  # the module of clients, once it is needed


def _client(reach: str | Scope | None):
    global _pool
    if _pool is None:
        from kvoshim.registry.client import pool

        _pool = pool
    return _pool.client(reach)


def register(
    name: str, *, address: str = "", version: str = "", metadata: Metadata | None = None,
    replace: bool = False, allow_replacement: bool = False, queue: bool = True, reach: str | Scope | None = None,
    on_owned: Callable[[Registration], object] | None = None, on_lost: Callable[[Registration], object] | None = None,
    statistics: Callable[[], Mapping[str, Any]] | None = None,
) -> Registration:  # fmt: skip
    """Registers this process under a name, until it is closed or the process ends.

    The first instance of a name owns it, others wait in line. queue=False: do not wait, raise NameInUseError. replace: take the name
    from an owner that allows it (allow_replacement). reach: "user", "host", or a scope; default: this process's own scope.

    on_owned, on_lost: called with the registration when it comes to the name, and when it is replaced or ended by others.
    statistics: gives what others are shown who ask for the program's figures.

    InvalidEntryError, NameInUseError, LimitError; AccessDeniedError if the registry refuses the offer; RegistryUnavailableError.
    """
    from kvoshim.registry.client.registration import Registration

    offer = _offer(name, address, version, metadata, replace, allow_replacement, queue)
    client = _client(reach)
    registration = Registration(client, offer, on_owned, on_lost, statistics)
    client.register(registration)
    return registration


def _offer(name, address, version, metadata, replace, allow_replacement, queue) -> Offer:
    metadata = {} if metadata is None else metadata
    offer = Offer(name, address, version, metadata, bool(allow_replacement), bool(replace), bool(queue))
    check_offer(offer)
    return msgspec.structs.replace(offer, metadata=dict(metadata))  # the caller may change theirs


def find(pattern: str = "*", *, reach: str | Scope | None = None) -> list[Entry]:
    """The entries whose names match a glob, by name, each name's owner first. Read from shared memory. InvalidEntryError,
    RegistryUnavailableError."""
    return _client(reach).find(pattern)


def lookup(name: str, *, reach: str | Scope | None = None) -> list[Entry]:
    """The first entries of a name, the owner first, as the registry answers: for who does not trust what it has in memory. One name,
    no pattern. InvalidEntryError, RegistryUnavailableError."""
    check_name(name)
    return _client(reach).lookup(name)


def owner(name: str, *, reach: str | Scope | None = None) -> Entry | None:
    """The entry of the name's owner, if it has one."""
    found = _client(reach).find(name)
    return found[0] if found and found[0].token and found[0].name == name else None


def watch(pattern: str = "*", callback: Callable[[Event], object] | None = None, *, reach: str | Scope | None = None) -> Search:
    """A continuous search: what is there ("present"), an end marker ("end"), then "added", "removed" and "changed". Iterate over it,
    with `for` or `async for`; wait for its descriptor; or give a callback."""
    from kvoshim.registry.client.search import Search

    search = Search(client := _client(reach), Pattern(pattern), callback)
    client.watch(search)
    return search


def ping(entry: Entry, timeout: float = 5.0, *, reach: str | Scope | None = None) -> float:
    """Seconds that the registered process took to answer, by way of the registry. NoAnswerError; UnknownNameError if it is no more."""
    import time

    begun = time.monotonic()
    ask(entry, "ping", timeout, reach=reach)
    return time.monotonic() - begun


def ask(
    entry: Entry, what: Literal["ping", "info", "statistics"] = "info", timeout: float = 5.0, *, reach: str | Scope | None = None
) -> dict[str, Any]:
    """What the registered process tells of itself: "info" of its library, "statistics" of its registration, with what the program
    counts. NoAnswerError; UnknownNameError."""
    from kvoshim.registry.client.asking import ask as ask_it

    return json.loads(ask_it(_client(reach), entry, what, timeout))
