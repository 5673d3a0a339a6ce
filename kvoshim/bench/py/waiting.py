"""What the transports of notify.py wait for."""

import select
import time
from collections.abc import Callable

READY_S = 20
Take = Callable[[bytes], None]


def until(condition: Callable[[], object], seconds: float = READY_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("a transport is not ready")
        time.sleep(0.005)


def ended() -> bool:
    """Whether standard input has."""
    return bool(select.select([0], [], [], 0)[0])
