"""The account of one measured stretch, as the C drivers print it (c/common.h)."""

import resource
from time import perf_counter_ns

QUANTILES = (0, 1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.9, 99.99, 100)


def used() -> tuple[int, int]:
    """CPU nanoseconds and voluntary context switches of this process since it began."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return int((usage.ru_utime + usage.ru_stime) * 1e9), usage.ru_nvcsw


def used_since(start: tuple[int, int]) -> tuple[int, int]:
    """The same since an earlier reading."""
    return tuple(end - before for end, before in zip(used(), start, strict=True))


def account(
    size: int, count: int, begin: int, near: tuple[int, int], far: tuple[int, int], times: list[float]
) -> dict[str, object]:
    """The figures of `count` operations that began at `begin` and end now. near, far: what used_since says here and at the
    other side. times: nanoseconds of one operation."""
    wall = perf_counter_ns() - begin
    times = sorted(times)

    def quantile(percent: float) -> float:
        return times[int((len(times) - 1) * percent / 100)]

    return {
        "size": size,
        "count": count,
        "seconds": wall / 1e9,
        "median_ns": quantile(50),
        "p99_ns": quantile(99),
        "p999_ns": quantile(99.9),
        "min_ns": times[0],
        "mean_ns": wall / count,
        "messages_per_s": count * 1e9 / wall,
        "bytes_per_s": count * size * 1e9 / wall,
        "cpu_client_s": near[0] / 1e9,
        "cpu_server_s": far[0] / 1e9,
        "switches_client": near[1],
        "switches_server": far[1],
        "quantiles_ns": [quantile(percent) for percent in QUANTILES],
    }
