"""The sanitizers find planted bugs in a program under the library, and no others in a few runs of the stress program.
scripts/sanitize without --quick has them look at all tests of the core and of sharing."""

import os
import shutil
import subprocess

import pytest
import shimlib


@pytest.mark.watchdog(900)
@pytest.mark.skipif(not shutil.which("gcc") and "CI" not in os.environ, reason="the sanitizers are gcc's")
@pytest.mark.parametrize("kind", ["address", "thread"])
def test_planted_bugs_are_found_and_no_others(kind):
    done = subprocess.run(["scripts/sanitize", kind, "--quick"], cwd=shimlib.ROOT, env=shimlib.plain_env(), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout[-8000:]
    assert "the planted bugs are found" in done.stdout and " passed" in done.stdout
