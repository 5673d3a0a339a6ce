"""Redis and PostgreSQL, where they are installed: real servers, started and ended by the benchmark itself."""

import pytest

from bench import applications
from bench.cases import CASES, KERNEL
from bench.processes import RunError

REDIS = [case for case in CASES if case.program == "redis"]
PGBENCH = next(case for case in CASES if case.program == "pgbench")


def need(case) -> None:
    reason = applications.missing(case)
    if reason:
        pytest.skip(reason)


@pytest.mark.servers
@pytest.mark.parametrize("case", REDIS, ids=lambda case: case.name)
def test_redis_gives_figures(context, case):
    need(case)
    figures = applications.run_redis(context, case, case.sizes[0], "any", KERNEL)
    assert figures["what"] == case.mode.upper()
    assert figures["time_ns"] == pytest.approx(1e9 / figures["messages_per_s"])
    assert 0 < figures["median_ns"] <= figures["p99_ns"]


@pytest.mark.servers
def test_postgres_gives_figures_twice_from_one_cluster(context):
    need(PGBENCH)
    postgres = applications.Postgres()
    try:
        for placement in ("any", "0-0"):
            assert postgres.run(context, PGBENCH, 0, placement, KERNEL)["messages_per_s"] > 0
    finally:
        postgres.close()


@pytest.mark.parametrize(
    "text", ["", "Could not connect\n", "tps = 12.5\nnumber of failed transactions: 3 (1%)\n"]
)
def test_a_report_without_clean_figures_is_an_error(text):
    with pytest.raises(RunError, match="no clean report"):
        applications.pgbench_figures(text)
    with pytest.raises(RunError, match="printed no table"):
        applications.redis_figures(text)


def test_reports_are_read():
    report = (
        "number of failed transactions: 0 (0.000%)\nlatency average = 0.02 ms\ntps = 48211.5 (without …)\n"
    )
    assert applications.pgbench_figures(report)["messages_per_s"] == 48211.5
    columns = ["test", "rps", *(f"{name}_latency_ms" for name in ("avg", "min", "p50", "p95", "p99", "max"))]
    row = ["GET", "50000.00", "0.01", "0.01", "0.015", "0.02", "0.031", "0.9"]
    lines = [",".join(f'"{word}"' for word in words) for words in (columns, row)]
    figures = applications.redis_figures("\n".join(lines))
    assert figures["time_ns"] == 20_000 and figures["p99_ns"] == pytest.approx(31_000)
