"""A moment of what scripts/soak-kvo does for ten minutes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.watchdog(240)
@pytest.mark.parametrize("options", [(), ("--standby", "--others") if os.geteuid() == 0 else ("--standby",)])
def test_everybody_is_killed_again_and_again(nothing_mapped, options):
    soak = Path(__file__).with_name("soak.py")
    done = subprocess.run([sys.executable, "-P", str(soak), "20", *options], text=True, capture_output=True, timeout=220,
                          env={**os.environ, "PYTHONPATH": str(soak.parent)})
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    print(done.stdout)
