"""What a process counts of its deliveries. The controller asks for it (Count) and adds up what all clients report."""

from __future__ import annotations

from kvoshim._delivery import Counts
from kvoshim.kvo import wire

BUCKETS = len(Counts().buckets)  # of latencies


class Tally(Counts):
    """Counted where changes are taken in, one thread at a time; totals that never fall."""

    def totals(self) -> list[int]:
        return [self.delivered, self.merged, self.missed, self.latency_us, *self.buckets]

    def report(self, base: list[int]) -> wire.Report:
        """What has come since `base`, former totals(); []: since the beginning."""
        now = self.totals()
        return wire.Report([one - before for one, before in zip(now, base, strict=True)] if base else now)


class Totals:
    """The controller's sum over all clients. What a client that was killed had not reported yet is not in it."""

    def __init__(self) -> None:
        self._sums = [0] * (4 + BUCKETS)

    def take(self, before: list[int], now: list[int]) -> bool:
        """Adds what a client has reported beyond its last report ([]: its first); False if it is no such report."""
        before = before or [0] * len(now)
        if len(now) != len(self._sums) or any(one < former for one, former in zip(now, before)):
            return False
        self._sums = [total + one - former for total, one, former in zip(self._sums, now, before)]
        return True

    @property
    def delivered(self) -> int:
        return self._sums[0]

    @property
    def merged(self) -> int:
        return self._sums[1]

    @property
    def missed(self) -> int:
        return self._sums[2]

    @property
    def latency_us(self) -> int:
        """The sum of all latencies."""
        return self._sums[3]

    @property
    def buckets(self) -> list[int]:
        return self._sums[4:]

    def quantile(self, share: float) -> int:
        """A bound in us that this share of the latencies is below; 0 if there are none."""
        buckets = self.buckets
        left = share * sum(buckets)
        for number, count in enumerate(buckets):
            left -= count
            if count and left <= 0:
                return 1 << number
        return 0
