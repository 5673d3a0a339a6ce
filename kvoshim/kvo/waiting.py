"""Waiting for a value."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from kvoshim.kvo.change import VALUED, Change


def wait_for(observer, target: str | int, key: str, predicate: Callable[[Any], object] | None, timeout: float | None) -> Any:
    """See Observer.wait_for(). What the predicate raises goes to the caller."""
    done = threading.Event()
    outcome: list[tuple[Any, BaseException | None]] = []

    def look(change: Change) -> None:
        if done.is_set() or change.kind not in VALUED or change.kind == "deletion":
            return
        try:
            if predicate is None or predicate(change.new):
                outcome.append((change.new, None))
                done.set()
        except BaseException as error:
            outcome.append((None, error))
            done.set()

    with observer.observe(target, key, look) as token:
        token._observation.client.wait(done, timeout)
    if not outcome:
        raise TimeoutError(f"{key!r} of {target!r} did not come to what was waited for within {timeout:g} s")
    value, error = outcome[0]
    if error is not None:
        raise error
    return value
