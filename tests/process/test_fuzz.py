"""Some seconds of what scripts/fuzz-control does for long, from fixed seeds. scripts/test runs it beside the other tests."""

import random

import fuzz
import pytest
from process_harness import until


@pytest.mark.parametrize("one", [fuzz.parse_one, fuzz.cut_one])
def test_inputs(one):
    dice = random.Random(20)
    for _ in range(30_000):
        one(dice)


def test_a_daemon_under_random_commands(place):
    place.write(logging={"level": "warning"})
    daemon = place.start()
    dice = random.Random(21)
    fuzz.flood(dice, daemon.path, 100)
    until(lambda: daemon.call("status-get")["control"]["clients"] == 1)
    before = fuzz.held(daemon.process.pid)
    answers = sum(fuzz.flood(dice, daemon.path, 100) for _ in range(60))
    assert answers > 300
    until(lambda: fuzz.held(daemon.process.pid)[1] <= before[1], "no descriptor is kept")
    assert "Traceback" not in daemon.log(), daemon.log()[-3000:]
    assert fuzz.held(daemon.process.pid)[0] < before[0] + (32 << 20)
