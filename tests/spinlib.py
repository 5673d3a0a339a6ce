"""Models for SPIN: building a verifier, running it, and what it found."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "model"
ROOT = Path(__file__).parents[1]
MEMORY = 2000  # MB, at most


def checked(folder: Path, model: str, defines: list[str], live: bool = False) -> str:
    """What the verifier of the model prints. live: all messages arrive, else: assertions and deadlock."""
    if not shutil.which("spin"):
        message = "spin not found; run scripts/install-servers"
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(message + " (CI is set: nothing may be skipped)")
        pytest.skip(message)
    subprocess.run(["spin", *[f"-D{d}" for d in defines], "-a", HERE / model], cwd=folder, check=True,
                   capture_output=True, timeout=100)
    options = ["-DCOLLAPSE", *(["-DNFAIR=8"] if live else ["-DSAFETY", "-DNOCLAIM"])]
    # Without optimisation: compiling a verifier takes the compiler far longer than the search it would save.
    subprocess.run(["cc", "-O0", "-w", f"-DMEMLIM={MEMORY}", *options, "-o", "pan", "pan.c"], cwd=folder, check=True,
                   timeout=300)
    run = subprocess.run(["./pan", "-n", "-m2000000", *(["-a", "-f"] if live else [])], cwd=folder, capture_output=True,
                         text=True, timeout=300)
    assert "max search depth too small" not in run.stdout and "errors:" in run.stdout, run.stdout + run.stderr
    return run.stdout


def holds(folder: Path, model: str, defines: list[str], live: bool = False) -> None:
    """The whole state space was searched, and nothing was found."""
    out = checked(folder, model, defines, live)
    assert "errors: 0" in out and "Search not completed" not in out, out


def fails(folder: Path, model: str, defines: list[str], why: str = "invalid end state|assertion violated") -> None:
    """The check finds the fault of a mutant."""
    out = checked(folder, model, defines)
    assert "errors: 1" in out and re.search(why, out), out
    assert (folder / f"{model}.trail").exists()


def functions_exist(model: str, least: int) -> None:
    """The table at a model's head maps steps to functions: one that is renamed is renamed there too."""
    text = (HERE / model).read_text()
    rows = re.findall(r"^ \* (\w+) +(\w+(?:, \w+)*) +(\w+\.pxd(?:, \w+\.pxd)*)", text, re.M)
    assert len(rows) >= least
    for step, functions, files in rows:
        source = "".join((ROOT / "pyx/kvoshim" / f).read_text() for f in files.split(", "))
        for function in functions.split(", "):
            assert re.search(rf"^cdef inline [\w* ]*\b{function}\(", source, re.M), f"{function} is not in {files}"
        assert re.search(rf"^inline {step}\(|/\* {step}\b[^\n]*\*/", text, re.M), step
