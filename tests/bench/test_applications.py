"""Redis and PostgreSQL, where they are installed: real servers, started and ended by the benchmark itself."""

import pytest

from kvoshim.bench.applications import postgres, redis
from kvoshim.bench.cases import CASES
from kvoshim.bench.model import KERNEL
from kvoshim.bench.processes import RunError
from kvoshim.bench.runner import APPLICATIONS

REDIS = [case for case in CASES if case.program == "redis"]
PGBENCH = next(case for case in CASES if case.program == "pgbench")


COST = {"seconds": 2.0, "cpu_client_s": 0.5, "cpu_server_s": 1.5}


def need(case) -> None:
    reason = APPLICATIONS[case.program].missing(case)
    if reason:
        pytest.skip(reason)


@pytest.mark.servers
@pytest.mark.parametrize("case", REDIS, ids=lambda case: case.name)
def test_redis_gives_figures(context, case):
    need(case)
    figures = redis.run(context, case, case.sizes[0], "any", KERNEL)
    assert figures["what"] == case.mode.upper()
    assert figures["time_ns"] == pytest.approx(1e9 / figures["messages_per_s"])
    assert 0 < figures["median_ns"] <= figures["p99_ns"]


@pytest.mark.servers
def test_postgres_gives_figures_twice_from_one_cluster(context):
    need(PGBENCH)
    server = postgres.Postgres()
    try:
        for placement in ("any", "0-0"):
            assert server.run(context, PGBENCH, 0, placement, KERNEL)["messages_per_s"] > 0
    finally:
        server.close()


@pytest.mark.parametrize(
    "text", ["", "Could not connect\n", "tps = 12.5\nnumber of failed transactions: 3 (1%)\n"]
)
def test_a_report_without_clean_figures_is_an_error(text):
    with pytest.raises(RunError, match="no clean report"):
        postgres.read(text, COST)
    with pytest.raises(RunError, match="printed no table"):
        redis.read(text, COST)


def test_reports_are_read():
    report = (
        "number of failed transactions: 0 (0.000%)\nlatency average = 0.02 ms\ntps = 48211.5 (without …)\n"
    )
    assert postgres.read(report, COST)["messages_per_s"] == 48211.5
    columns = ["test", "rps", *(f"{name}_latency_ms" for name in ("avg", "min", "p50", "p95", "p99", "max"))]
    row = ["GET", "50000.00", "0.01", "0.01", "0.015", "0.02", "0.031", "0.9"]
    lines = [",".join(f'"{word}"' for word in words) for words in (columns, row)]
    figures = redis.read("\n".join(lines), COST)
    assert figures["cpu_per_s"] == 1 and figures["cpu_per_op_s"] == pytest.approx(1 / 50_000)
    assert figures["time_ns"] == 20_000 and figures["p99_ns"] == pytest.approx(31_000)
