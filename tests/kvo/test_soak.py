"""A minute of what scripts/soak-kvo does for ten. scripts/test runs it beside the other tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.watchdog(400)
@pytest.mark.parametrize("seconds,options", [("60", ()), ("20", ("--standby", "--others") if os.geteuid() == 0 else ("--standby",))])
def test_everybody_is_killed_again_and_again(nothing_mapped, seconds, options):
    soak = Path(__file__).with_name("soak.py")
    done = subprocess.run([sys.executable, "-P", str(soak), seconds, *options], text=True, capture_output=True, timeout=380,
                          env={**os.environ, "PYTHONPATH": str(soak.parent)})
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    print(done.stdout)
