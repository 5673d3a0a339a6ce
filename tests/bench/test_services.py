"""Each way to keep programs alive gives figures, in every mode that a case asks for; the large cases in small."""

import os

import pytest

from kvoshim.bench import services
from kvoshim.bench.cases import CASES
from kvoshim.bench.model import SHIM
from kvoshim.bench.peers import PEERS, missing

OURS = [case for case in CASES if case.program == "services"]
RUNS = [(case, name) for case in OURS for name in (SHIM, *case.peers)]


@pytest.mark.watchdog(240)
@pytest.mark.parametrize("case, name", RUNS, ids=lambda value: value if isinstance(value, str) else value.name)
def test_every_case_gives_figures(context, case, name):
    if name in PEERS and (reason := missing(name)):
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    figures = services.run(context, case, min(case.sizes[0], 20), "any", name)
    assert figures["what"] == case.mode
    if case.shape == "idle":
        assert figures["cpu_s"] >= 0 and figures["spawner_bytes"] > 100_000 and figures["startd_bytes"] > 1_000_000
    else:
        assert figures["time_ns"] > 0 and figures["count"] >= 1
