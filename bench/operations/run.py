#!/usr/bin/env python3
"""scripts/operations: times single Python operations with pytest-benchmark, keeps the run, compares it with the one before.

    run.py [--storage DIR] [pytest's arguments, as -k recv or --benchmark-compare-fail=median:20%]
"""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
STORAGE = HERE.parent / "results" / "operations"


def arguments(storage: Path, more: list[str]) -> list[str]:
    """pytest's command line. There is something to compare with from the second run on."""
    words = [str(HERE), "-q", f"--rootdir={HERE.parents[1]}", f"--benchmark-storage=file://{storage}", "--benchmark-autosave"]
    words += ["--benchmark-group-by=func", "--benchmark-columns=min,median,iqr,rounds", "--benchmark-sort=name"]
    if any(storage.rglob("*.json")):
        words.append("--benchmark-compare")
    return words + more


def main(words: list[str]) -> int:
    """pytest's exit status."""
    storage = STORAGE
    if words[:1] == ["--storage"] and len(words) > 1:
        storage, words = Path(words[1]).resolve(), words[2:]
    return int(pytest.main(arguments(storage, words)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
