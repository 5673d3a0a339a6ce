"""Fixtures of the benchmark's tests: the drivers compiled once, and nothing left behind by any test.

These tests ask whether the drivers work and the report is right. They never ask how fast anything is.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_bench() -> None:
    """Makes `import bench` work without the root on sys.path, where it would shadow the installed kvoshim."""
    if "bench" not in sys.modules:
        folder = ROOT / "bench"
        spec = importlib.util.spec_from_file_location(
            "bench", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules["bench"] = module
        spec.loader.exec_module(module)


load_bench()


def children() -> set[int]:
    """Process ids of this process's descendants."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def folders() -> set[str]:
    """The runs' temporary folders."""
    return {path.name for path in Path("/tmp").glob("kvoshim-bench-*") if path.stat().st_uid == os.geteuid()}


@pytest.fixture(autouse=True)
def nothing_left():
    """Fails a test that leaves a descriptor, a process or a run's folder."""
    before = set(os.listdir("/proc/self/fd")), children(), folders()
    yield
    after = set(os.listdir("/proc/self/fd")), children(), folders()
    for what, old, new in zip(("descriptors", "processes", "folders"), before, after, strict=True):
        assert not new - old, f"left behind: {what} {sorted(new - old)}"


@pytest.fixture(scope="session")
def programs(tmp_path_factory) -> Path:
    """The compiled C drivers."""
    from bench.build import build

    return build(tmp_path_factory.mktemp("drivers"))


@pytest.fixture
def context(programs):
    """Very short runs on the kernel's sockets."""
    from bench import machine
    from bench.drivers import Context

    return Context(programs, tuple(machine.cpus()), None, {}, 0.02)


@pytest.fixture
def bench_command():
    """Runs the command line as scripts/bench does, after its set-up; returns the finished process."""

    def run(*words: str, timeout: float = 120) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "bench", *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)

    return run
