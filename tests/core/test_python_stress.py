"""The same hunt through kvoshim.socket: two processes, threads that send and receive with random sizes, timeouts and ways of
waiting; every byte is a function of its position."""

import subprocess
import sys
from pathlib import Path

import pytest

END = Path(__file__).with_name("python_end.py")
LIMIT = 60  # seconds


def run(path, server, client, seed):
    ends = {}
    for role, kind in (("server", server), ("client", client)):
        ends[role] = subprocess.Popen([sys.executable, END, role, path, kind[0], kind[1], str(seed)], text=True,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if role == "server":
            assert ends[role].stdout.readline() == "listening\n"
    said = {}
    try:
        for role, process in ends.items():
            said[role], errors = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, f"{role}: {errors}"
    finally:
        for process in ends.values():
            if process.poll() is None:
                process.kill()
                process.communicate()
    return {role: dict(word.split("=") for word in text.split()) for role, text in said.items()}


WAYS = ["blocking", "timeout", "select", "poll", "selectors"]


@pytest.mark.parametrize("module", ["kvoshim", "standard"])
@pytest.mark.parametrize(("server", "client"), list(zip(WAYS, WAYS[2:] + WAYS[:2], strict=True)))
def test_no_byte_and_no_wake_up_is_lost(tmp_path, server, client, module):
    totals = run(str(tmp_path / "s"), (module, server), ("kvoshim", client), 7)
    assert totals["server"]["sent"] == totals["client"]["received"]
    assert totals["client"]["sent"] == totals["server"]["received"]
    assert int(totals["client"]["sent"]) > 0
    for end in totals.values():
        assert int(end["switched"]) == (1 if module == "kvoshim" else 0)
