"""The counts of scripts/instructions: within their limits, and a library that runs more instructions is found out."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvoshim.bench.processes import RunError, installed_library

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build" / "release"
LIBRARY = "pyx/libkvoshim.so"


@pytest.fixture(autouse=True)
def valgrind():
    """These tests need it; where CI is set it must be there."""
    if not shutil.which("valgrind"):
        message = "valgrind not found; run scripts/install-servers"
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(message + " (CI is set: nothing may be skipped)")
        pytest.skip(message)


@pytest.fixture
def instructions():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("bench_instructions", ROOT / "bench" / "instructions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def counted(*words: str | Path) -> subprocess.CompletedProcess:
    """Counts as scripts/instructions does, after its set-up."""
    command = [sys.executable, ROOT / "bench" / "instructions.py", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)


def verdicts(output: str) -> dict[str, str]:
    """By operation."""
    return {
        found[1]: found[2] for found in re.finditer(r"^(.+?) +\d+ +[\d-]+  (ok|PASSED|NO LIMIT)$", output, re.MULTILINE)
    }


def wasteful(folder: Path) -> Path:
    """The preload library with one change in a copy of a source: send() counts to twenty first."""
    source = (ROOT / "pyx" / "preload" / "io.c").read_text()
    begin = "EXPORT ssize_t send(int fd, const void *buffer, size_t n, int flags) {\n"
    assert begin in source
    changed, object_file, library = folder / "io.c", folder / "io.o", folder / "libkvoshim.so"
    changed.write_text(source.replace(begin, begin + "  for (volatile int i = 0; i < 20; i++) continue;\n"))
    ninja = Path(sys.executable).with_name("ninja")
    listed = subprocess.run([ninja, "-C", BUILT, "-t", "commands", LIBRARY], capture_output=True, text=True, check=True)
    commands = [shlex.split(line) for line in listed.stdout.splitlines()]
    built = next(word for command in commands for word in command if word.endswith("preload_io.c.o"))
    compiling = next(command for command in commands if built in command and "-c" in command)
    linking = next(command for command in commands if built in command and "-c" not in command)
    replaced = {built: f"{object_file}", f"{built}.d": f"{object_file}.d", compiling[-1]: f"{changed}", LIBRARY: f"{library}"}
    for command in (compiling[:-1] + [f"-I{ROOT / 'pyx' / 'preload'}", compiling[-1]], linking):
        words = [replaced.get(word, word) for word in command]
        subprocess.run(words, cwd=BUILT, check=True, capture_output=True, timeout=100)
    return library


def test_every_operation_is_within_its_limit():
    done = counted()
    assert done.returncode == 0, done.stdout + done.stderr
    found = verdicts(done.stdout)
    assert len(found) > 15 and set(found.values()) == {"ok"}, done.stdout


def test_a_planted_regression_is_found(tmp_path):
    done = counted("--library", wasteful(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr
    found = verdicts(done.stdout)
    assert {name for name, verdict in found.items() if verdict == "PASSED"} >= {"send 8 B", "send 64 B", "send, not ours"}
    assert found["recv 8 B"] == found["write 8 B"] == "ok", done.stdout


def test_each_case_needs_a_limit_and_each_limit_a_case(instructions):
    rows = instructions.rows
    assert [row.verdict for row in rows({"a": 5, "b": 5, "c": 5}, {"a": 5, "b": 4})] == ["ok", "PASSED", "NO LIMIT"]
    with pytest.raises(KeyError, match="d"):
        rows({"a": 5}, {"a": 5, "d": 1})


def test_a_connection_that_stays_plain_is_not_counted(instructions, monkeypatch):
    monkeypatch.setattr(instructions, "WARM_UP", "1000000")
    with pytest.raises(RunError, match="of 4 connections . were accelerated"):
        instructions.run_driver(instructions.program(), installed_library(), 3)
