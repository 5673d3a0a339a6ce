"""Fixtures of the benchmark's tests: the drivers compiled once, and nothing left behind by any test.

These tests ask whether the drivers work and the report is right. They never ask how fast anything is.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from kvoshim.bench import machine
from kvoshim.bench.build import build
from kvoshim.bench.drivers import Context
from kvoshim.bench.processes import installed_library

ROOT = Path(__file__).resolve().parents[2]
KVOSHIM = Path(sys.executable).with_name("kvoshim")


def children() -> set[int]:
    """Process ids of this process's descendants."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def folders() -> set[str]:
    """The runs' temporary folders."""
    return {path.name for path in Path(os.environ["TMPDIR"]).iterdir()}


@pytest.fixture(scope="session", autouse=True)
def temporary_folder():
    """A short TMPDIR of these tests' own, so that what others do at the same time is not taken for a leak."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="kb-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        patch.setenv("TMPDIR", folder)
        yield


@pytest.fixture(autouse=True)
def nothing_left():
    """Fails a test that leaves a descriptor, a process or a run's folder."""
    before = set(os.listdir("/proc/self/fd")), children(), folders()
    yield
    after = set(os.listdir("/proc/self/fd")), children(), folders()
    for what, old, new in zip(("descriptors", "processes", "folders"), before, after, strict=True):
        assert not new - old, f"left behind: {what} {sorted(new - old)}"


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """The folder that the drivers are compiled into."""
    return tmp_path_factory.mktemp("drivers")


@pytest.fixture(scope="session")
def programs(built) -> Path:
    """The compiled C drivers."""
    return build(ROOT, built)


@pytest.fixture
def context(programs):
    """Very short runs on the kernel's sockets."""
    return Context(programs, tuple(machine.cpus()), None, {}, 0.02)


@pytest.fixture
def shimmed(context):
    """Runs under the installed preload library."""
    library = installed_library()
    assert library is not None, "the package is not installed; run scripts/setup"
    return replace(context, library=library)


@pytest.fixture
def bench_command(tmp_path, built):
    """Runs the command line as an installed package does, with a cache of the tests; returns the finished process."""

    def run(*words: str, timeout: float = 120, **variables: str) -> subprocess.CompletedProcess:
        command = [KVOSHIM, "bench", *words]
        environment = os.environ | {"XDG_CACHE_HOME": str(built)} | variables
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    return run
