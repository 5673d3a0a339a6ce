"""The timed Python operations: each does what it says, and a second run is compared with the first."""

import subprocess
import sys
from pathlib import Path

from .conftest import ROOT

OPERATIONS = ROOT / "bench" / "operations" / "run.py"
SHORT = ("--benchmark-max-time=0.001", "--benchmark-min-rounds=1", "--benchmark-min-time=0.00001")


def operations(folder: Path, *words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, OPERATIONS, *map(str, words), "-p", "no:cacheprovider", f"--basetemp={folder}/t"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)


def test_every_operation_works(tmp_path):
    done = operations(tmp_path, "--storage", tmp_path / "kept", "--benchmark-disable")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_a_run_is_kept_and_the_next_is_compared_with_it(tmp_path):
    words = ("--storage", tmp_path / "kept", "-k", "recv_of_nothing", *SHORT)
    first, second = operations(tmp_path, *words), operations(tmp_path, *words)
    assert first.returncode == second.returncode == 0, first.stdout + second.stdout
    assert len(list((tmp_path / "kept").rglob("*.json"))) == 2
    assert "(0001_" not in first.stdout and "(0001_" in second.stdout and "(NOW)" in second.stdout
