"""Other transports carry every byte to the other process; one that is not installed is named, not left out."""

import importlib.util
import os

import pytest

from kvoshim.bench import peers
from kvoshim.bench.cases import BY_NAME
from kvoshim.bench.model import KERNEL, Block
from kvoshim.bench.peers import PEERS, missing, run_peer
from kvoshim.bench.processes import RunError
from kvoshim.bench.runner import Runner
from kvoshim.bench.verdict import Row

from .test_drivers import check_figures

OF_C = ("pipe", "tcp", "spin")
OF_PYTHON = tuple(name for name, peer in PEERS.items() if peer.words is None and not peer.over and name != "copy")
CASES = {
    "rtt": [(name, BY_NAME["c-rtt"]) for name in OF_C] + [(name, BY_NAME["py-rtt"]) for name in OF_PYTHON],
    "oneway": [(name, BY_NAME["c-large"]) for name in ("pipe", "tcp", "copy")]
    + [(name, BY_NAME["py-oneway"]) for name in OF_PYTHON],
}


@pytest.mark.parametrize("size", [8, 65536])
@pytest.mark.parametrize("mode, name, case", [(mode, *one) for mode, found in CASES.items() for one in found])
def test_every_peer_gives_figures(context, mode, name, case, size):
    if reason := missing(name):
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    placement = "any" if "any" in PEERS[name].placements else "0-1"
    if placement == "0-1" and len(context.cpus) < 2:
        pytest.skip("this process may use only one CPU")
    figures = run_peer(context, case, size, placement, name)
    check_figures(figures, size)
    assert figures["what"] == ("copy" if name == "copy" else mode) and figures["time_ns"] > 0


def test_both_ends_run_where_the_placement_says(context):
    server, client = peers.command_lines(context, BY_NAME["py-rtt"], 8, "0-0", "mmap", "/tmp/x")
    assert server[-2:] == client[-2:] == ["--cpu", str(context.cpus[0])]
    assert server[server.index("--yield-after") + 1] == "0"


def test_what_is_not_installed_is_noted_and_the_rest_runs(context, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "zmq" else real(name, *more))
    assert "pip install pyzmq" in missing("pyzmq")
    said = []
    block = Block(BY_NAME["py-rtt"], 8)
    with Runner(context, 1, said.append) as runner:
        row = Row(block, "any")
        monkeypatch.setattr(runner, "measure", lambda row, name, run: row.runs.setdefault(name, [{}]))
        runner.measure_peers(row)
    assert set(row.absent) == {"pyzmq"} and set(row.runs) == set(block.case.peers) - {"pyzmq"}


def test_a_peer_that_fails_says_so(context, monkeypatch):
    monkeypatch.setitem(PEERS, "mmap", PEERS["mp-pipe"])
    monkeypatch.setattr(peers, "DRIVER", "/nonexistent/driver.py")
    with pytest.raises(RunError, match="can't open file"):
        run_peer(context, BY_NAME["py-rtt"], 8, "any", "mmap")
    assert KERNEL not in PEERS
