"""File systems that do not answer: a call on a home directory over the network may hang for minutes. It is made in a thread
that is left alone when its time is over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class Patience:
    """For the calls on one place. While one hangs, no other is begun."""

    def __init__(self) -> None:
        self._hanging: threading.Thread | None = None

    def call(
        self, function: Callable[..., Result], *arguments, seconds: float, discard: Callable[[Result], None] | None = None
    ) -> Result:
        """function(*arguments); what it raises is raised. TimeoutError if it takes too long: what it returns then, in its own
        time, goes to `discard`."""
        if self._hanging is not None and self._hanging.is_alive():
            raise TimeoutError("the file system has not answered yet")
        lock, given_up = threading.Lock(), False
        result: list[Result] = []
        error: list[BaseException] = []

        def work() -> None:
            try:
                value = function(*arguments)
            except BaseException as problem:
                error.append(problem)
                return
            with lock:
                if not given_up:
                    result.append(value)
                    return
            if discard is not None:
                discard(value)

        thread = threading.Thread(target=work, name="kvoshim-home", daemon=True)
        thread.start()
        thread.join(seconds)
        with lock:
            given_up = not result and not error
        if given_up:
            self._hanging = thread
            raise TimeoutError(f"the file system did not answer within {seconds:g} s")
        if error:
            raise error[0]
        return result[0]
