"""Real servers, where they are installed: started, loaded and ended by the benchmark itself."""

import os
from contextlib import closing

import pytest

from kvoshim.bench.applications import mariadb, postgres, redis, web
from kvoshim.bench.applications.load import lacking
from kvoshim.bench.cases import BY_NAME, CASES
from kvoshim.bench.model import KERNEL, SHIM
from kvoshim.bench.processes import RunError
from kvoshim.bench.runner import APPLICATIONS

REDIS = [case for case in CASES if case.program == "redis"]
COST = {"seconds": 2.0, "cpu_client_s": 0.5, "cpu_server_s": 1.5}


def need(case) -> None:
    if reason := APPLICATIONS[case.program].missing(case):
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)


def check(figures: dict) -> None:
    assert figures["messages_per_s"] > 0 and figures["time_ns"] == pytest.approx(1e9 / figures["messages_per_s"])
    assert figures["cpu_server_s"] > 0 and figures["cpu_client_s"] > 0
    assert figures["cpu_per_op_s"] == pytest.approx(figures["cpu_per_s"] / figures["messages_per_s"])


@pytest.mark.servers
@pytest.mark.parametrize("case", REDIS, ids=lambda case: case.name)
def test_redis_gives_figures(context, case):
    need(case)
    figures = redis.run(context, case, case.sizes[0], "any", KERNEL)
    check(figures)
    assert figures["what"] == case.mode.upper() and 0 < figures["median_ns"] <= figures["p99_ns"]


@pytest.mark.servers
@pytest.mark.parametrize("name, server", [("pgbench", postgres.Postgres), ("mariadb", mariadb.MariaDB)])
def test_a_database_gives_figures_twice_from_one_folder(context, name, server):
    case = BY_NAME[name]
    need(case)
    with closing(server()) as database:
        for placement in ("any", "0-0"):
            check(database.run(context, case, 0, placement, KERNEL))
        assert database.folder.exists()
    assert database.folder is None


@pytest.mark.servers
@pytest.mark.parametrize("name", ["web-uvicorn", "web-gunicorn", "web-uwsgi", "memcached-c1", "memcached-c50"])
def test_an_application_gives_figures(context, name):
    case = BY_NAME[name]
    need(case)
    figures = APPLICATIONS[case.program].run(context, case, case.sizes[0], "any", KERNEL)
    check(figures)
    assert 0 < figures["median_ns"] <= figures["p99_ns"]


@pytest.mark.servers
@pytest.mark.parametrize("name", ["web-uvicorn", "web-gunicorn", "memcached-c50", "redis-get-c1"])
def test_an_application_is_accelerated(shimmed, name):
    case = BY_NAME[name]
    need(case)
    figures = APPLICATIONS[case.program].run(shimmed, case, case.sizes[0], "any", SHIM)
    assert figures["proof"]["holds"], figures["proof"]


@pytest.mark.servers
@pytest.mark.parametrize("name, server", [("pgbench", postgres.Postgres), ("mariadb", mariadb.MariaDB)])
def test_a_database_is_accelerated(shimmed, name, server):
    need(BY_NAME[name])
    with closing(server()) as database:
        figures = database.run(shimmed, BY_NAME[name], 0, "any", SHIM)
    assert figures["proof"]["holds"], figures["proof"]


def test_what_is_lacking_is_named_with_its_package(monkeypatch):
    assert lacking({"sh": "dash"}, ("json",)) is None
    found = lacking({"no-such-program": "some-package"}, ("no_such_module",))
    assert "no-such-program is not installed (Debian: some-package)" in found and "pip install no_such_module" in found
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert "no user 'no-such-user'" in lacking({}, user="no-such-user")


@pytest.mark.parametrize(
    "text", ["", "Could not connect\n", "tps = 12.5\nnumber of failed transactions: 3 (1%)\n"]
)
def test_a_report_without_clean_figures_is_an_error(text):
    with pytest.raises(RunError, match="no clean report"):
        postgres.read(text, COST)
    with pytest.raises(RunError, match="no clean report"):
        mariadb.read(text, COST)
    with pytest.raises(RunError, match="no clean report"):
        web.read(text, COST)
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


def test_a_report_of_failed_requests_gives_no_figures():
    clean = "  Latency Distribution\n     50%  100.00us\n     99%    2.00ms\nRequests/sec:  50000.00\n"
    figures = web.read(clean, COST)
    assert (figures["median_ns"], figures["p99_ns"], figures["time_ns"]) == (100_000, 2_000_000, 20_000)
    for wrong in ("  Non-2xx or 3xx responses: 3\n", "  Socket errors: connect 0, read 7, write 0, timeout 0\n"):
        with pytest.raises(RunError, match="Non-2xx|Socket errors"):
            web.read(wrong + clean, COST)
    clean = "    transactions:   100    (2000.00 per sec.)\n    ignored errors:   0  (0.00 per sec.)\n    99th percentile:  0.50\n"
    assert mariadb.read(clean, COST)["p99_ns"] == 500_000
    with pytest.raises(RunError, match="no clean report"):
        mariadb.read(clean.replace("errors:   0", "errors:   2"), COST)
