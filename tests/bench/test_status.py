"""What the command leaves behind it: the exit status, the kept file, the description of the machine."""

import argparse
import json

import pytest

from kvoshim.bench import command, machine
from kvoshim.bench.cases import BY_NAME
from kvoshim.bench.judging import Results
from kvoshim.bench.model import KERNEL, SHIM, Block
from kvoshim.bench.verdict import Row
from kvoshim.cli import bench

ABOUT = {
    "machine": {"cpu": "a CPU", "cpus": 2},
    "load": {"load_before": 0.0, "load_after": 0.0, "stolen_share": 0.0, "seconds": 1.0},
    "preset": {"name": "default", "repetitions": 1, "seconds": 0.1},
    "notes": [],
}


def outcome(kernel: float, shim: float, holds: bool = True, **more) -> command.Outcome:
    """c-connect must take at most 1.5 times as long."""
    proof = {"holds": holds, "words": "1", "client": 1, "server": 1}
    runs = {
        name: [{"time_ns": time, "cpu_per_s": 1.0, "proof": proof}] for name, time in ((KERNEL, kernel), (SHIM, shim))
    }
    row = Row(Block(BY_NAME["c-connect"], 8), "any", runs)
    return command.Outcome(Results([[row]]), ABOUT, **more)


@pytest.fixture
def status(monkeypatch, tmp_path, capsys):
    """The exit status of a command line whose measurement has this outcome."""

    def run(result: command.Outcome, *words: str) -> int:
        parser = argparse.ArgumentParser()
        bench.configure(parser)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(command, "build", lambda checkout: tmp_path)
        monkeypatch.setattr(command, "measure", lambda *_: result)
        monkeypatch.setattr(command.signal, "signal", lambda *_: None)
        return command.run(parser.parse_args(words))

    return run


def test_the_status_says_whether_the_demands_hold(status, capsys):
    assert status(outcome(1000, 1400)) == 0
    assert status(outcome(1000, 1600)) == 3
    said = capsys.readouterr()
    assert "missed demands: 1, of c-connect/8B any" in said.err and "misses 0/1" in said.out


def test_a_failed_run_counts_more_than_a_missed_demand(status):
    assert status(outcome(1000, 1600, failed=True)) == 1


def test_an_interrupted_run_is_no_verdict(status):
    assert status(outcome(1000, 1600, interrupted=True)) == 130


def test_whole_runs_are_kept_in_the_source_tree(status, tmp_path):
    kept = tmp_path / "bench" / "results"
    assert status(outcome(1000, 1400), "--checkout", ".") == 0
    (first,) = kept.iterdir()
    assert first.name.endswith("-default.json") and json.loads(first.read_text())["machine"]["cpu"] == "a CPU"
    first.unlink()
    for words in (("--only", "c-connect"), ("--seconds", "1"), ("--repetitions", "1")):
        assert status(outcome(1000, 1400), "--checkout", ".", *words) == 0
    assert status(outcome(1000, 1400, interrupted=True), "--checkout", ".") == 130
    assert not list(kept.iterdir())


@pytest.mark.parametrize("name, where", [("x.json", "bench/results/x.json"), ("./x.json", "x.json"), ("a/x.json", "a/x.json")])
def test_a_bare_name_is_kept_with_the_others(status, tmp_path, name, where):
    assert status(outcome(1000, 1400), "--checkout", ".", "--json", name) == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / where]


def test_without_a_source_tree_nothing_is_kept_unasked(status, tmp_path):
    assert status(outcome(1000, 1400)) == 0 and not list(tmp_path.iterdir())
    assert status(outcome(1000, 1400), "--json", "x.json") == 0 and (tmp_path / "x.json").exists()


def test_the_machine_is_described():
    found = machine.describe()
    assert found["cpu"] and found["kernel"] and found["cpus"] == len(machine.cpus()) and found["time"]
    assert found["versions"]["kvoshim"] and isinstance(found["virtual"], bool) and found["caches"]
    json.dumps(found)


def test_what_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", ("kvoshim", "no-such-package"))
    monkeypatch.setattr(machine, "PROGRAMS", {"x": ("no-such-program",), "sh": ("sh", "-c", "echo 1.2; exit 3")})
    assert set(machine.versions()) == {"kvoshim"}
