"""What the timed operations work on: both ends in one thread, so that nothing is waited for and nobody else is timed."""

import importlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest


@pytest.fixture(params=["socket", "kvoshim.socket"])
def pair(request: pytest.FixtureRequest):
    """Two connected ends, of the standard module and of ours."""
    module = importlib.import_module(request.param)
    here, there = module.socketpair()
    with here, there:
        yield here, there


@pytest.fixture(scope="module")
def controller():
    """The socket of a controller that runs for these operations alone."""
    with tempfile.TemporaryDirectory(prefix="kvo-") as folder:
        path = Path(folder) / "c"
        command = [sys.executable, "-m", "kvoshim", "controller", "--socket", str(path)]
        process = subprocess.Popen(command, env={**os.environ, "KVOSHIM_STATS": "off"}, cwd=folder)
        try:
            deadline = time.monotonic() + 30
            while not path.exists():
                assert process.poll() is None and time.monotonic() < deadline, "the controller does not start"
                time.sleep(0.01)
            yield path
        finally:
            process.terminate()
            process.wait(30)
