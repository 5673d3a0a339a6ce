"""The registry for coroutines: as in kvoshim.registry, without ever holding up the event loop.

    async with await aio.register("engine", address="/run/engine.sock") as mine: ...
    async with await aio.watch("eng*") as search:
        async for event in search: ...
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from kvoshim.registry import _offer, wire
from kvoshim.registry.client import asking, pool
from kvoshim.registry.client.client import LOOK_S
from kvoshim.registry.client.intake import Call
from kvoshim.registry.client.mirror import Event
from kvoshim.registry.client.registration import Registration
from kvoshim.registry.client.search import Search
from kvoshim.registry.entry import Entry, Metadata, Pattern, check_name
from kvoshim.registry.seat import Scope


async def register(
    name: str, *, address: str = "", version: str = "", metadata: Metadata | None = None,
    replace: bool = False, allow_replacement: bool = False, queue: bool = True, reach: str | Scope | None = None,
    on_owned: Callable[[Registration], object] | None = None, on_lost: Callable[[Registration], object] | None = None,
    statistics: Callable[[], Mapping[str, Any]] | None = None,
) -> Registration:  # fmt: skip
    offer = _offer(name, address, version, metadata, replace, allow_replacement, queue)
    client = await pool.client_soon(reach)
    registration = Registration(client, offer, on_owned, on_lost, statistics)
    future = asyncio.get_running_loop().create_future()

    def finish(error) -> None:
        if not future.done():
            future.set_result(None) if error is None else future.set_exception(error)
        elif error is None:  # whoever wanted it was cancelled
            registration.close()

    client.join(registration, finish)
    await future
    client.reach(registration.at)
    return registration


async def _knowing(reach: str | Scope | None):
    """The client; if its registry has just died and it has looked at nothing yet, when there is another one."""
    client = await pool.client_soon(reach)
    while client.blind():
        await asyncio.sleep(LOOK_S)
    return client


async def find(pattern: str = "*", *, reach: str | Scope | None = None) -> list[Entry]:
    return (await _knowing(reach)).find(pattern)


async def owner(name: str, *, reach: str | Scope | None = None) -> Entry | None:
    found = await find(name, reach=reach)
    return found[0] if found and found[0].token and found[0].name == name else None


async def lookup(name: str, *, reach: str | Scope | None = None) -> list[Entry]:
    check_name(name)
    client = await pool.client_soon(reach)
    future = asyncio.get_running_loop().create_future()

    def finish(answer, error) -> None:
        if not future.done():
            future.set_result([] if answer is None else answer.entries) if error is None else future.set_exception(error)

    client.start(Call(lambda number: wire.Find(number, name), finish))
    return await future


async def watch(pattern: str = "*", callback: Callable[[Event], object] | None = None, *, reach: str | Scope | None = None) -> Search:
    client = await _knowing(reach)
    search = Search(client, Pattern(pattern), callback)
    client.watch(search)
    return search


async def ping(entry: Entry, timeout: float = 5.0, *, reach: str | Scope | None = None) -> float:
    begun = time.monotonic()
    await ask(entry, "ping", timeout, reach=reach)
    return time.monotonic() - begun


async def ask(
    entry: Entry, what: Literal["ping", "info", "statistics"] = "info", timeout: float = 5.0, *, reach: str | Scope | None = None
) -> dict[str, Any]:
    client = await pool.client_soon(reach)
    future = asyncio.get_running_loop().create_future()

    def finish(text: str, error) -> None:
        if not future.done():
            future.set_result(text) if error is None else future.set_exception(error)

    asking.begin(client, entry, what, finish)
    try:
        return json.loads(await asyncio.wait_for(future, timeout))
    except TimeoutError:
        raise asking.late(entry, timeout) from None
