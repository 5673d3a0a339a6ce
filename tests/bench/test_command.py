"""The command line end to end, with the shortest of runs."""

import json
import os
import signal
import subprocess
import time

import psutil
import pytest

from kvoshim.bench.processes import installed_library

from .conftest import KVOSHIM, ROOT

SHORT = ("--repetitions", "2", "--seconds", "0.02")
# All runs worked; whether the demands hold depends on the machine, and is no test.
JUDGED = (0, 3)


def test_a_run_prints_the_table_and_writes_json(bench_command, tmp_path):
    target = tmp_path / "out.json"
    done = bench_command("--only", "c-rtt/8B", "--only", "control", *SHORT, "--json", str(target))
    assert done.returncode in JUDGED, done.stderr
    assert "c-rtt" in done.stdout and "Round trips" in done.stdout and "kernel / shim >= 100" in done.stdout
    assert "c-rtt/8B" in done.stderr and "c-rtt/8B" not in done.stdout, "progress belongs on standard error"
    document = json.loads(target.read_text())
    assert document["format"] == 2 and document["machine"]["cpus"] >= 1
    by_name = {(row["block"], row["placement"]): row for row in document["rows"]}
    row = by_name["c-rtt/8B", "0-0"]
    assert len(row["runs"]["kernel"]) == len(row["runs"]["R"]) == len(row["runs"]["L"]) == 2
    assert (
        row["medians"]["kernel"]["low"]
        <= row["medians"]["kernel"]["median"]
        <= row["medians"]["kernel"]["high"]
    )
    if installed_library() is not None:
        assert len(row["runs"]["shim"]) == 2 and "proof" in row["runs"]["shim"][0]
    control = by_name["control/8B", "0-0"]
    assert control["state"] == "ok" and control["ratios"]["faster"] > 0
    assert row["noise"] == control["noise"] >= 1
    assert {one["row"] for one in row["findings"]} == {"S2"}
    missed = [one for row in document["rows"] for one in row["findings"] if one["verdict"] == "misses"]
    assert done.returncode == (3 if missed else 0)
    for peer in ("pipe", "tcp"):
        assert len(row["runs"][peer]) == 2 and row["medians"][peer]["median"] > 0
    assert "spin" not in row["runs"]
    if len(os.sched_getaffinity(0)) > 1:
        assert "spin" in by_name["c-rtt/8B", "0-1"]["runs"]


def test_costs_have_tables_of_their_own(bench_command, tmp_path):
    target = tmp_path / "out.json"
    names = ("call-read", "core-lock", "c-idle", "idle-crowd/1000")
    words = [word for name in names for word in ("--only", name)]
    short = ("--checkout", str(ROOT), "--repetitions", "1", "--seconds", "0.02")
    done = bench_command(*words, *short, "--json", str(target), timeout=300)
    assert done.returncode in JUDGED, done.stderr
    for title in ("Single calls", "Idle connections", "Many idle connections"):
        assert title in done.stdout
    assert "shim - kernel <= 10 ns" in done.stdout and "time <= 15 ns" in done.stdout
    rows = {row["block"]: row for row in json.loads(target.read_text())["rows"]}
    assert rows["core-lock"]["state"] == "ok" and "kernel" not in rows["core-lock"]["runs"]
    crowd = rows["idle-crowd/1000"]
    if installed_library() is not None:
        assert crowd["state"] == "ok" and crowd["differences"]["memory"] > 0
        assert rows["call-read"]["differences"]["extra"] is not None


def test_a_kept_result_is_shown_again(bench_command, tmp_path):
    target = tmp_path / "out.json"
    first = bench_command("--only", "c-rtt/8B", *SHORT, "--json", str(target))
    again = bench_command("--from", str(target))
    assert again.returncode == first.returncode in JUDGED
    assert again.stdout == first.stdout


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}'])
def test_a_file_without_results_is_refused(bench_command, tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    done = bench_command("--from", "x.json")
    assert done.returncode == 2 and "x.json" in done.stderr and "Traceback" not in done.stderr


def test_what_needs_the_source_tree_is_named_where_there_is_none(bench_command):
    done = bench_command("--only", "core-lock", *SHORT)
    assert done.returncode == 0 and "core-lock SKIPPED: needs kvoshim's source tree" in done.stdout


def test_list_names_every_case(bench_command):
    done = bench_command("--list")
    assert done.returncode == 0
    assert {"c-rtt", "c-idle", "call-poll", "core-lock", "idle-crowd", "py-rtt", "redis-get-c1", "pgbench"} <= {
        line.split()[0] for line in done.stdout.splitlines()
    }


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["--only", "nonsense"], "--only nonsense: no such case"),
        (["--repetitions", "0"], "--repetitions must be at least 1"),
        (["--seconds", "-1"], "--seconds must be more than 0"),
        (["--quick", "--full"], "not allowed with"),
    ],
)
def test_a_bad_command_line_is_refused(bench_command, words, complaint):
    done = bench_command(*words)
    assert done.returncode == 2 and complaint in done.stderr and not done.stdout


def test_a_terminated_run_ends_its_programs(tmp_path, built):
    command = [KVOSHIM, "bench", "--only", "c-paced/8B", "--seconds", "50", "--repetitions", "1"]
    environment = os.environ | {"XDG_CACHE_HOME": str(built)}
    with open(tmp_path / "err", "wb") as err:
        bench = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=err)
    try:
        process = psutil.Process(bench.pid)
        deadline = time.monotonic() + 60
        while len([child for child in process.children() if child.name() in ("server", "client")]) < 2:
            assert bench.poll() is None and time.monotonic() < deadline, (tmp_path / "err").read_text()
            time.sleep(0.02)
        started = process.children(recursive=True)
        bench.send_signal(signal.SIGTERM)
        assert bench.wait(60) == 143
    finally:
        if bench.poll() is None:
            os.kill(bench.pid, signal.SIGKILL)
            bench.wait()
    gone, alive = psutil.wait_procs(started, timeout=30)
    assert not alive and len(gone) >= 2
