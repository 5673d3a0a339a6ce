"""pyx/wake.ld lays together what runs at each wake of an observer. What it names has to be there: a name that is not is passed
over by the linker in silence."""

import fnmatch
import re
import subprocess
from pathlib import Path

import pytest

import kvoshim

MODULES = Path(kvoshim.__file__).parent
PATTERNS = re.findall(r"\*\(\.text\.(\S+)\)", (Path(__file__).parents[2] / "pyx" / "wake.ld").read_text())


def functions(module: str) -> dict[str, int]:
    """Names and addresses of all functions in an extension module."""
    (path,) = MODULES.glob(f"{module}.*.so")
    symbols = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
    return {name: int(at, 16) for at, kind, name in re.findall(r"^(\w+) (\w) (\w+)$", symbols, re.M) if kind in "tT"}


@pytest.fixture(scope="module")
def everything():
    return {module: functions(module) for module in ("_look", "_bell", "_monitor", "_delivery", "_store", "_values", "_memory")}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_there_is_what_is_named(everything, pattern):
    assert [name for names in everything.values() for name in fnmatch.filter(names, pattern)]


def test_it_lies_together(everything):
    """Nothing else is among it: of each module, what is named is one stretch. (No linker has to be able to do that; the one of
    the distributions that are tested can.)"""
    for module, names in everything.items():
        wanted = {name for pattern in PATTERNS for name in fnmatch.filter(names, pattern)}
        first, last = min(names[name] for name in wanted), max(names[name] for name in wanted)
        strangers = [name for name, at in names.items() if first < at < last and name not in wanted]
        assert not strangers, f"{module}: {strangers}"
