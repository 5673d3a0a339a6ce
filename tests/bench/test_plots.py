"""Drawings: made from a kept run, one file of each kind for what was measured, none for what was not."""

import importlib.util
import os
import sys
from xml.etree import ElementTree

import pytest

from kvoshim.bench import plots
from kvoshim.bench.cases import BY_NAME
from kvoshim.bench.judging import Results
from kvoshim.bench.model import KERNEL, PLACEMENTS, QUANTILES, RING, SHIM, Block
from kvoshim.bench.results import document
from kvoshim.bench.verdict import Row

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None and not os.environ.get("CI"), reason="matplotlib is not installed"
)
ABOUT = {
    "machine": {"cpu": "a CPU", "cpus": 2, "kernel": "6", "time": "2026-01-02T03:04:05+0000"},
    "preset": {"name": "quick", "repetitions": 2, "seconds": 0.1},
}


def run(time: float, holds: bool = True) -> dict:
    cost = {"cpu_per_op_s": time / 1e9, "cpu_per_s": 1.0}
    return {"time_ns": time, "quantiles_ns": [time + at for at in QUANTILES], "proof": {"holds": holds}} | cost


def made_up(*names: str, holds: bool = True) -> dict:
    """A kept run in which the shim takes 10 ns more for each size, the kernel 1000."""
    groups = []
    for case in map(BY_NAME.get, names):
        for number, size in enumerate(case.sizes, 1):
            subjects = {KERNEL: 1000 * number, SHIM: 10 * number, RING: 5 * number} | dict.fromkeys(case.peers, 500.0)
            groups.append(
                [
                    Row(Block(case, size), placement, {name: [run(time, holds)] * 2 for name, time in subjects.items()})
                    for placement in PLACEMENTS
                ]
            )
    return document(Results(groups), **ABOUT)


def test_points_are_sizes_and_medians_of_what_may_be_compared():
    points = plots.Kept(made_up("c-rtt")).points("0-1", ("c-rtt",), lambda row, one: one["median"])
    assert points[SHIM] == [(8, 10), (64, 20), (1024, 30), (65536, 40)]
    assert points["pipe"] == [(size, 500) for size in (8, 64, 1024, 65536)]
    unproved = plots.Kept(made_up("c-rtt", holds=False)).points("0-1", ("c-rtt",), lambda row, one: one["median"])
    assert SHIM not in unproved and KERNEL in unproved


def test_distributions_are_quantiles():
    found = plots.Kept(made_up("c-rtt")).distributions("any", "c-rtt/8B")
    assert found[KERNEL] == [(1000 + at, at) for at in QUANTILES]


@pytest.fixture(scope="module", autouse=True)
def fonts(tmp_path_factory):
    """matplotlib keeps the files of its fonts open: that is no leak of a test's."""
    if importlib.util.find_spec("matplotlib"):
        plots.draw(made_up("c-rtt", "c-think"), tmp_path_factory.mktemp("fonts"))


@needs_matplotlib
def test_everything_that_was_measured_is_drawn(tmp_path):
    cases = {"c-rtt", "py-rtt", "c-oneway-take", "c-large", "py-oneway", "c-think", "load-all", "load-one"} & set(BY_NAME)
    files = plots.draw(made_up(*sorted(cases)), tmp_path / "new")
    assert {path.suffix for path in files} == {".svg", ".png"}
    wanted = {name for name in plots.DRAWINGS if not name.startswith("connections") or "load-all" in cases}
    assert {path.stem for path in files} == wanted
    for path in files:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
        else:
            assert ElementTree.parse(path).getroot().tag.endswith("svg")


@needs_matplotlib
def test_what_was_not_measured_is_not_drawn(tmp_path):
    assert {path.stem for path in plots.draw(made_up("c-rtt"), tmp_path)} == {"latency-c", "distribution-c"}
    assert plots.draw(made_up("c-connect"), tmp_path) == []


@needs_matplotlib
def test_the_command_draws_while_it_measures_and_from_a_file(bench_command, tmp_path):
    words = ("--only", "c-think/50us", "--repetitions", "1", "--seconds", "0.02")
    done = bench_command(*words, "--json", "x.json", "--plot", "p")
    assert done.returncode in (0, 3) and (tmp_path / "p" / "thinking.svg").exists(), done.stderr
    again = bench_command("--from", "x.json", "--plot", "q")
    assert again.returncode in (0, 3) and (tmp_path / "q" / "thinking.png").exists(), again.stderr


def test_without_matplotlib_nothing_is_measured_first(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match="pip install matplotlib"):
        plots.check()
