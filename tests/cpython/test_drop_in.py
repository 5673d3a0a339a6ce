"""CPython's own socket tests, with kvoshim.socket in place of the socket module: over its drop-in name, and patched in."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import shimlib

#: Tests that may deviate, each with its reason.
DEVIATIONS = {".BasicTCPTest.testDetach": "a connection that is detached after its peer has closed loses what it has not read"}

#: Ends of connections that switch at least: two for each test on a connected pair.
SWITCHED = 300


@pytest.fixture
def cpython_tests():
    if importlib.util.find_spec("test") is None or importlib.util.find_spec("test.test_socket") is None:
        why = f"{sys.executable} comes without CPython's tests (Debian: apt-get install libpython3.11-testsuite)"
        if os.environ.get("CI") in ("1", "true", "yes"):
            pytest.fail(f"CI is set, nothing may be skipped: {why}")
        pytest.skip(why)


@pytest.mark.parametrize("how", ["module", "patch"])
def test_cpythons_socket_tests(cpython_tests, how):
    done = subprocess.run([sys.executable, "-P", Path(__file__).with_name("driver.py"), how], env=shimlib.plain_env(),
                          capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    failed = {name.rpartition("test_socket")[2]: text for name, text in result["failed"].items()}
    assert failed.keys() <= DEVIATIONS.keys(), "\n".join(failed.values())
    assert result["ran"] > 150 and len(result["skipped"]) < 5, result
    assert result["switched"] >= SWITCHED
