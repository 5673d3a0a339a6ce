"""Who takes in what the registry says, answers in the process's name, and runs the callbacks.

* ThreadDriver: a background thread, one for each registry that the process uses. The default.
* LoopDriver: the asyncio event loop that was running where the registry was used first; no thread. A process that answers a ping
  so shows that its loop runs. Only while a registry is looked for is there a thread: that may take a while, and the loop is not to
  wait.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvoshim.registry.client.link import Link

if TYPE_CHECKING:
    from kvoshim.registry.client.client import Client

log = logging.getLogger("kvoshim.registry")

_JOIN_S = 15.0


class ThreadDriver:
    def begin(self, client: Client) -> None:
        self._client = client
        self._thread = threading.Thread(target=client.run, name="kvoshim-registry", daemon=True)
        self._thread.start()

    def here(self) -> bool:
        """Whether this thread is the one that takes in."""
        return threading.current_thread() is self._thread

    def usable(self) -> bool:
        return self._thread.is_alive()

    def lost(self, link: Link) -> None:
        """The connection is about to be closed."""

    def found(self, link: Link) -> None:
        """There is another one."""

    def look_for_another(self) -> None:
        """The registry is lost: the thread finds that by itself."""

    def poke(self) -> None:
        """There are callbacks to be run."""
        self._client.nudge()

    def end(self) -> None:
        if not self.here():
            self._thread.join(_JOIN_S)


class LoopDriver:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()

    def begin(self, client: Client) -> None:
        self._client = client
        self.found(client.link)

    def here(self) -> bool:
        return threading.get_ident() == self._thread

    def usable(self) -> bool:
        return not self._loop.is_closed()

    def found(self, link: Link) -> None:
        self._loop.add_reader(link.sock.fileno(), self._client.ready)
        self._loop.call_soon(self._client.ready)  # some of it may have been received with the greeting

    def lost(self, link: Link) -> None:
        if self._loop.is_closed():
            return
        if self.here():
            self._loop.remove_reader(link.sock.fileno())
            return
        # Another thread closes: the loop must let go of the descriptor before its number is free again.
        done = threading.Event()
        fd = link.sock.fileno()
        try:
            self._loop.call_soon_threadsafe(lambda: (self._loop.remove_reader(fd), done.set()))
            done.wait(_JOIN_S)
        except RuntimeError:  # the loop was closed just now
            pass

    def look_for_another(self) -> None:
        threading.Thread(target=self._look, name="kvoshim-registry-search", daemon=True).start()

    def _look(self) -> None:
        link = self._client.find_link()
        if link is not None:
            try:
                self._loop.call_soon_threadsafe(self._client.adopt_or_close, link)
            except RuntimeError:
                link.close()

    def poke(self) -> None:
        self._loop.call_soon_threadsafe(self._client.ready)

    def end(self) -> None:
        pass


async def in_thread(function: Callable[..., Any], *arguments) -> Any:
    """What may wait long, beside the event loop, in a thread that ends with it."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def work() -> None:
        result = error = None
        try:
            result = function(*arguments)
        except BaseException as problem:
            error = problem

        def finish() -> None:
            if not future.cancelled():
                future.set_exception(error) if error is not None else future.set_result(result)

        try:
            loop.call_soon_threadsafe(finish)
        except RuntimeError:
            pass

    threading.Thread(target=work, name="kvoshim-registry-search", daemon=True).start()
    return await future
