"""Two runs side by side: a change counts only if it is more than equal runs differ."""

import json
import subprocess
import sys

import pytest

from kvoshim.bench.cases import BY_NAME
from kvoshim.bench.compare import FASTER, SAME, SLOWER, UNKNOWN, changes, different
from kvoshim.bench.judging import Results
from kvoshim.bench.model import CONTROL, KERNEL, SHIM, Block
from kvoshim.bench.results import document
from kvoshim.bench.verdict import Row

from .conftest import ROOT

MACHINE = {"cpu": "a CPU", "cpus": 2, "machine": "x86_64", "kernel": "6", "libc": "glibc 2"}


def run(*times: float, holds: bool = True) -> list[dict]:
    return [{"time_ns": time, "cpu_per_s": 1.0, "proof": {"holds": holds, "words": "1"}} for time in times]


def kept(shim: float, kernel: float = 4000, noise: float | None = 1.2, cpu: str = "a CPU", holds: bool = True) -> dict:
    """A run of one case in one placement."""
    row = Row(Block(BY_NAME["c-rtt"], 8), "0-0", {KERNEL: run(kernel), SHIM: run(shim, holds=holds)})
    groups = [[row]]
    if noise:
        groups.append([Row(Block(BY_NAME["control"], 8), "0-0", {KERNEL: run(1000), CONTROL: run(1000 * noise)})])
    about = {"machine": MACHINE | {"cpu": cpu}, "load": {}, "preset": {}, "notes": []}
    return json.loads(json.dumps(document(Results(groups), **about)))


def verdicts(first: dict, second: dict, subject: str = SHIM) -> list[str]:
    return [one.verdict for one in changes(first, second, subject)]


@pytest.mark.parametrize("after, verdict", [(1000, SAME), (1190, SAME), (840, SAME), (1210, SLOWER), (800, FASTER)])
def test_noise_is_no_difference(after, verdict):
    assert verdicts(kept(1000), kept(after)) == [verdict]


def test_the_noisier_run_counts():
    assert verdicts(kept(1000), kept(1400, noise=1.5)) == verdicts(kept(1000, noise=1.5), kept(1400)) == [SAME]


def test_what_the_kernel_changed_too_is_not_the_shims():
    assert verdicts(kept(1000), kept(1900, kernel=8000)) == [SAME]
    assert verdicts(kept(1000), kept(2100, kernel=8000)) == [SLOWER]


def test_between_machines_only_the_ratio_to_the_kernel_counts():
    first, second = kept(1000), kept(2000, kernel=8000, cpu="another CPU")
    (one,) = changes(first, second)
    assert one.change == 1 and one.verdict == SAME and different(first, second) == ["cpu: a CPU and another CPU"]
    assert verdicts(first, kept(2000, cpu="another CPU")) == [SLOWER]


def test_without_a_control_nothing_is_said():
    assert verdicts(kept(1000), kept(5000, noise=None)) == [UNKNOWN]


def test_what_was_not_accelerated_is_not_compared():
    assert verdicts(kept(1000), kept(5000, holds=False)) == []


def test_the_kernel_itself_can_be_compared():
    assert verdicts(kept(1000), kept(1000, kernel=8000), KERNEL)[0] == SLOWER


def compare(*words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "bench" / "compare.py", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_says_by_its_status_whether_something_is_slower(tmp_path):
    files = {name: tmp_path / f"{name}.json" for name in ("one", "same", "slow")}
    for (_name, path), shim in zip(files.items(), (1000, 1100, 3000), strict=True):
        path.write_text(json.dumps(kept(shim)))
    same, slow = compare(files["one"], files["same"]), compare(files["one"], files["slow"])
    assert same.returncode == 0 and SAME in same.stdout and "c-rtt" in same.stdout, same.stderr
    assert slow.returncode == 1 and SLOWER in slow.stdout


def test_what_cannot_be_compared_is_refused(tmp_path):
    (tmp_path / "wrong").write_text("{}")
    (tmp_path / "one").write_text(json.dumps(kept(1000)))
    assert compare(tmp_path / "one", tmp_path / "wrong").returncode == 2
    nothing = compare(tmp_path / "one", tmp_path / "one", "--subject", "pyzmq")
    assert nothing.returncode == 2 and "no row" in nothing.stderr
