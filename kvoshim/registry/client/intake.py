"""How a client takes in what its registry says, and answers in the process's name."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable
from typing import Any

from kvoshim.errors import KvoshimError
from kvoshim.registry import wire
from kvoshim.registry.client.drivers import LoopDriver
from kvoshim.registry.client.link import LinkLost

log = logging.getLogger("kvoshim.registry")

_CALM_S = 0.01  # after what should not happen


class Call:
    """A request. build(number): its message; None: it has become pointless, `done` is called without an answer."""

    def __init__(self, build: Callable[[int], wire.Message | None], done: Callable[[Any, KvoshimError | None], None]) -> None:
        self.build = build
        self.done = done


class Intake:
    """Part of Client."""

    def later(self, function: Callable, *arguments) -> None:
        """Calls it where the client takes in, and not amid something else."""
        self._later.append((function, arguments))
        if not self.driver.here() or isinstance(self.driver, LoopDriver):
            self.driver.poke()

    def _run_later(self) -> None:
        while self._later:
            function, arguments = self._later.popleft()
            try:
                function(*arguments)
            except Exception:
                log.exception("a callback failed")

    def nudge(self) -> None:
        """Lets the thread that waits for the registry hear something."""
        link = self.link
        if link is not None:
            with self._lock:
                self._number += 1
                self._calls[self._number] = Call(lambda number: None, lambda answer, error: None)
            self._say(link, wire.Sync(self._number))

    def take_in(self, timeout: float | None) -> None:
        """Takes in once, where that is this thread's job."""
        link = self.link
        if link is None:
            self._attempt()
            return
        try:
            for message in link.receive(timeout):
                self._dispatch(message)
        except LinkLost as error:
            self._lose(error)

    def take_in_until(self, condition: Callable[[], bool], timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not condition() and not self._closing.is_set():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self.take_in(left)

    def run(self) -> None:
        """The thread of a ThreadDriver."""
        while not self._closing.is_set():
            link = self.link
            try:
                if link is not None:
                    for message in link.receive():
                        self._dispatch(message)
                elif self.gone is None:
                    self.search_on()
                else:
                    break
                self._run_later()
            except LinkLost as error:
                if not self._closing.is_set():
                    self._lose(error)
            except Exception:
                log.exception("what the registry said could not be handled")
                self._closing.wait(_CALM_S)
        link, self.link = self.link, None
        if link is not None:
            link.close()
            link.reader.close()

    def ready(self) -> None:
        """The event loop of a LoopDriver has something for us."""
        if self._closing.is_set() or self.forked:
            return
        link = self.link
        if link is not None:
            try:
                while messages := link.receive(0):
                    for message in messages:
                        self._dispatch(message)
            except LinkLost as error:
                self._lose(error)
                self.driver.look_for_another()
            except Exception:
                log.exception("what the registry said could not be handled")
        self._run_later()

    def _dispatch(self, message: wire.Message) -> None:
        if isinstance(message, wire.Changed):
            with self._lock:
                if self._mirror is not None:
                    self._tell(self._mirror.catch_up())
        elif isinstance(message, wire.Asked):
            self._answer(message)
        elif isinstance(message, wire.Owned | wire.Lost):
            registration = self._registrations.get(message.receipt.id)
            if registration is None:
                return
            if isinstance(message, wire.Owned):
                registration.owned(message.receipt)
            else:
                if message.gone:
                    self._registrations.pop(message.receipt.id, None)
                registration.lost(message.receipt, message.gone)
        elif isinstance(message, wire.Settled):
            with self._lock:
                if self.link is not None:
                    self.link.settled = True
                if self._mirror is not None:
                    self._tell(self._mirror.settle())
        elif isinstance(message, wire.Whole):
            with self._lock:
                if self.link is not None:
                    self.link.whole = True
                if self._mirror is not None:
                    self._tell(self._mirror.complete())
        elif isinstance(message, wire.Failed):
            error = wire.PROTOCOL.error(message.code, message.text)
            if not message.request:
                log.error("the registry does not want this process: %s", error)
            self._finish(message.request, None, error)
        else:
            self._finish(message.request, message, None)

    def _finish(self, number: int, answer: wire.Message | None, error: KvoshimError | None) -> None:
        with self._lock:
            call = self._calls.pop(number, None)
        if call is not None:
            call.done(answer, error)

    # --- being asked ---------------------------------------------

    def _answer(self, asked: wire.Asked) -> None:
        registration = self._registrations.get(asked.id)
        self.counts["pings" if asked.what == "ping" else "questions"] += 1
        answer: dict[str, Any] = {}
        if asked.what == "info":
            answer = {"kvoshim": _version(), "registrations": len(self._registrations), "searches": len(self._searches)}
        elif asked.what == "statistics":
            answer = {**self.counts, "since": self._since}
            if registration is not None:
                try:
                    answer["program"] = dict(registration.statistics())
                except Exception as error:
                    answer["error"] = f"{type(error).__name__}: {error}"
        try:
            text = json.dumps(answer, default=str)
        except (TypeError, ValueError, RecursionError) as error:
            text = json.dumps({"error": f"what the program counts is no JSON: {error}"[:1000]})
        if len(text) > wire.TEXT_MAX:
            text = json.dumps({"error": f"what the program counts takes {len(text)} characters; {wire.TEXT_MAX} are allowed"})
        link = self.link
        if link is not None:
            self._say(link, wire.Reply(asked.number, text))


@functools.cache
def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("kvoshim")
