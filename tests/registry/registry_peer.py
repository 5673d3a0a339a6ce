"""A process that uses the registry as it is told, one JSON line a command. See registry_harness.Peer. With the argument "asyncio" it
is a program of coroutines, whose event loop does all."""

import asyncio
import json
import os
import sys
import threading
import time

from kvoshim import registry
from kvoshim.registry import aio
from kvoshim.registry.client import pool

_out = threading.Lock()
registrations: dict[str, registry.Registration] = {}
searches: list = []


def say(message: dict) -> None:
    with _out:
        print(json.dumps(message), flush=True)


def told(event) -> None:
    entry = event.entry
    say({"event": {"kind": event.kind, "time": time.monotonic()} | ({} if entry is None else plain(entry))})


def plain(entry) -> dict:
    return {field: getattr(entry, field) for field in entry.__struct_fields__} | {"owner": entry.owner}


def state(registration) -> dict:
    return plain(registration.entry) | {"owner": registration.owner, "token": registration.token}


def owned(registration) -> None:
    say({"event": {"kind": "owned", "name": registration.name, "token": registration.token, "pid": os.getpid()}})


def lost(registration) -> None:
    error = registration.error
    say({"event": {"kind": "lost", "name": registration.name, "pid": os.getpid(), "error": None if error is None else str(error)}})


def busy(seconds: float) -> None:
    time.sleep(seconds)


class Plain:
    def register(self, name, options, label=None):
        mine = registry.register(name, on_owned=owned, on_lost=lost, statistics=lambda: {"answer": 42}, **options)
        registrations[label or name] = mine
        return state(mine)

    def state(self, label):
        return state(registrations[label])

    def update(self, label, options):
        registrations[label].update(**options)
        return state(registrations[label])

    def close(self, label):
        registrations.pop(label).close()

    def wait_owner(self, label, timeout):
        return registrations[label].wait_owner(timeout)

    def find(self, pattern, reach=None):
        return [plain(entry) for entry in registry.find(pattern, reach=reach)]

    def watch(self, pattern, reach=None):
        searches.append(registry.watch(pattern, told, reach=reach))

    def ask(self, name, what, timeout=30.0):
        return registry.ask(registry.owner(name), what, timeout)

    def leave(self):
        pool.close()

    def become(self, user):
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)

    def threads(self):
        return sorted(thread.name for thread in threading.enumerate())

    def descriptors(self):
        return len(os.listdir("/proc/self/fd"))

    def cpu(self):
        return time.process_time()

    def busy(self, seconds):
        busy(seconds)

    def fork(self):
        """What a forked child may do: it has registrations and searches of its own, its parent's stay."""
        pid = os.fork()
        if not pid:
            code = 1
            try:
                for mine in registrations.values():
                    mine.close()
                with registry.register("child"):
                    code = 0 if [entry.name for entry in registry.find("child")] == ["child"] else 2
                pool.close()
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Coroutines(Plain):
    async def register(self, name, options, label=None):
        mine = await aio.register(name, on_owned=owned, on_lost=lost, statistics=lambda: {"answer": 42}, **options)
        registrations[label or name] = mine
        return state(mine)

    async def find(self, pattern, reach=None):
        return [plain(entry) for entry in await aio.find(pattern, reach=reach)]

    async def watch(self, pattern, reach=None):
        search = await aio.watch(pattern, reach=reach)

        async def follow():
            async for event in search:
                told(event)

        searches.append(asyncio.create_task(follow()))

    async def ask(self, name, what, timeout=30.0):
        return await aio.ask(await aio.owner(name), what, timeout)


def failure(error: Exception) -> dict:
    return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    commands = Plain()
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        try:
            say({"result": getattr(commands, command)(*arguments)})
        except Exception as error:
            say(failure(error))


async def main_of_coroutines() -> None:
    commands = Coroutines()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command, *arguments = json.loads(line)
        try:
            result = getattr(commands, command)(*arguments)
            say({"result": await result if asyncio.iscoroutine(result) else result})
        except Exception as error:
            say(failure(error))
    pool.close()
    for task in searches:
        await task


if "asyncio" in sys.argv[1:]:
    asyncio.run(main_of_coroutines())
else:
    main()
