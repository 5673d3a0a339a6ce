"""The wake-up protocol, checked by SPIN over its whole state space; each mutant of the model must be caught."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FAITHFUL = {
    "one reader": [], "both fence": ["HEAVY"], "two readers": ["READERS=2", "MESSAGES=1", "SIZE=1"],
    "two writers": ["WRITERS=2", "MESSAGES=1"], "waits unseen": ["UNSEEN"],
    "bells fill the socket": ["ROOM=1"],
}
MUTANTS = {
    "NO_SECOND_LOOK": [], "NO_MEMBARRIER": [], "NO_FENCE": ["HEAVY"], "NO_SLEEPER_FENCE": ["HEAVY"],
    "DRAIN_ALL": ["READERS=2", "MESSAGES=1", "SIZE=1"],
    "NO_SWAP": [], "RING_FIRST": [], "TAIL_FIRST": [], "FORGET": ["UNSEEN"],
    "NO_LOOK_AFTER_DRAIN": ["ROOM=1"],
}


def checked(folder: Path, defines: list[str], live: bool = False) -> str:
    """What the verifier of the model prints. live: all messages arrive, else: assertions and deadlock."""
    if not shutil.which("spin"):
        message = "spin not found; run scripts/install-servers"
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(message + " (CI is set: nothing may be skipped)")
        pytest.skip(message)
    subprocess.run(["spin", *[f"-D{d}" for d in defines], "-a", HERE / "wake.pml"], cwd=folder, check=True,
                   capture_output=True, timeout=60)
    options = ["-DNFAIR=8"] if live else ["-DSAFETY", "-DNOCLAIM"]
    subprocess.run(["cc", "-O1", "-w", *options, "-o", "pan", "pan.c"], cwd=folder, check=True, timeout=100)
    run = subprocess.run(["./pan", "-n", "-m2000000", *(["-a", "-f"] if live else [])], cwd=folder, capture_output=True,
                         text=True, timeout=110)
    assert "max search depth too small" not in run.stdout and "errors:" in run.stdout, run.stdout + run.stderr
    return run.stdout


@pytest.mark.parametrize("variant", FAITHFUL)
def test_no_wake_up_is_lost(tmp_path, variant):
    out = checked(tmp_path, FAITHFUL[variant])
    assert "errors: 0" in out and "Search not completed" not in out, out


@pytest.mark.parametrize("variant", ["one reader", "waits unseen"])
def test_every_message_arrives(tmp_path, variant):
    out = checked(tmp_path, FAITHFUL[variant], live=True)
    assert "errors: 0" in out and "Search not completed" not in out, out


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_check_catches(tmp_path, mutant):
    out = checked(tmp_path, [mutant, *MUTANTS[mutant]])
    assert "errors: 1" in out and re.search("invalid end state|assertion violated", out), out
    assert (tmp_path / "wake.pml.trail").exists()


def test_the_model_names_functions_that_exist():
    """The table at the model's head maps steps to functions: one that is renamed is renamed there too."""
    text = (HERE / "wake.pml").read_text()
    rows = re.findall(r"^ \* (\w+) {2,}(\w+(?:, \w+)*) {2,}(\w+\.pxd(?:, \w+\.pxd)*)", text, re.M)
    assert len(rows) >= 13
    for step, functions, files in rows:
        source = "".join((ROOT / "pyx/kvoshim" / f).read_text() for f in files.split(", "))
        for function in functions.split(", "):
            assert re.search(rf"^cdef inline [\w* ]*\b{function}\(", source, re.M), f"{function} is not in {files}"
        assert re.search(rf"^inline {step}\(|/\* {step}\(\) \*/", text, re.M), step
