"""A token bucket: so much at once, so much a second in the long run."""

from __future__ import annotations

import time


class Bucket:
    """Full at the beginning. Rate and size are given with each question: a configuration may change them."""

    __slots__ = ("_used", "_since")

    def __init__(self) -> None:
        self._used = 0.0
        self._since = time.monotonic()

    def used(self, rate: float) -> float:
        """Tokens that are missing."""
        now = time.monotonic()
        self._used = max(0.0, self._used - (now - self._since) * rate)
        self._since = now
        return self._used

    def take(self, cost: float, rate: float, burst: float) -> bool:
        """Takes `cost` tokens if there are any left; a rate of 0 has no limit."""
        if not rate:
            return True
        if self.used(rate) + min(cost, burst) > burst:
            return False
        self._used += cost
        return True
