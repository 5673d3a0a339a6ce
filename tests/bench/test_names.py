"""Each way to find programs by name gives figures, in every mode that a case asks for; the large cases in small."""

import os

import pytest

from kvoshim.bench import names
from kvoshim.bench.cases import CASES
from kvoshim.bench.model import SHIM
from kvoshim.bench.peers import PEERS, missing
from kvoshim.bench.processes import RunError

OURS = [case for case in CASES if case.program == "names"]
RUNS = [(case, name) for case in OURS for name in (SHIM, *case.peers)]


@pytest.mark.watchdog(240)
@pytest.mark.parametrize("case, name", RUNS, ids=lambda value: value if isinstance(value, str) else value.name)
def test_every_case_gives_figures(context, case, name, monkeypatch):
    monkeypatch.setattr(names, "SEARCHES", 8)
    monkeypatch.setattr(names, "PROCESSES", 2)
    if name in PEERS and (reason := missing(name)):
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    figures = names.run(context, case, min(case.sizes[0], 20), "any", name)
    assert figures["what"] == case.mode
    if case.shape == "idle":
        assert figures["cpu_s"] >= 0 and figures["count"] >= 3
    else:
        assert figures["time_ns"] > 0 and figures["count"] >= 1


def test_a_driver_that_fails_says_so(context, monkeypatch):
    monkeypatch.setattr("kvoshim.bench.names.DRIVER", "/nonexistent/driver.py")
    with pytest.raises(RunError, match="nonexistent"):
        names.run(context, OURS[0], 0, "any", SHIM)
