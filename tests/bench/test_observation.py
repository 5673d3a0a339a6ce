"""Each way to tell of changes gives figures, in every mode that a case asks for."""

import os

import pytest

from kvoshim.bench.cases import CASES
from kvoshim.bench.model import SHIM
from kvoshim.bench.observation import command_line, run
from kvoshim.bench.peers import PEERS, missing
from kvoshim.bench.processes import RunError

OURS = [case for case in CASES if case.program == "observation"]
RUNS = [(case, name) for case in OURS for name in (SHIM, *case.peers)]


@pytest.mark.watchdog(240)
@pytest.mark.parametrize("case, name", RUNS, ids=lambda value: value if isinstance(value, str) else value.name)
def test_every_case_gives_figures(context, case, name):
    if name in PEERS and (reason := missing(name)):
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    figures = run(context, case, case.sizes[0], "any", name)
    assert figures["time_ns"] > 0 and figures["count"] >= 10 and figures["what"] == case.mode
    assert figures["cpu_per_s"] > 0
    if case.api == "many" and name == SHIM:
        assert 100 < figures["bytes_per_observation"] < 4096  # its row in the table alone has a few hundred
    if case.mode in ("rate", "every"):
        assert figures["callbacks_per_s"] > 0
        assert case.mode == "rate" or figures["delivered"] == 1


def test_publisher_and_observers_run_where_the_placement_says(context):
    case = next(case for case in OURS if case.name == "kvo-asleep")
    assert "--cpus" not in command_line(context, case, 64, "any", SHIM, "/tmp/x")
    if len(context.cpus) > 1:
        assert command_line(context, case, 64, "0-1", "wake", "/tmp/x")[-2:] == ["--cpus", f"{context.cpus[0]},{context.cpus[1]}"]


def test_a_transport_that_fails_says_so(context, monkeypatch):
    monkeypatch.setattr("kvoshim.bench.observation.DRIVER", "/nonexistent/driver.py")
    with pytest.raises(RunError, match="nonexistent"):
        run(context, OURS[0], 64, "any", SHIM)
