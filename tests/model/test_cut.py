"""The cut-over from the kernel socket to the rings, checked by SPIN over its whole state space; each mutant must be caught."""

import pytest
import spinlib

# S: a thread that sends, R: one that receives, T: one that does both, L: one that only takes back what can be.
DOWN = ["CLIENT=R", "SERVER=S", "CLIENT_SENDS=0", "SERVER_SENDS=2"]
TALK = ["CLIENT=T", "SERVER=T", "CLIENT_SENDS=1", "SERVER_SENDS=1"]
CLIENT_THREADS = ["CLIENT=SR", "SERVER=S", "CLIENT_SENDS=1", "SERVER_SENDS=1", "STRONG"]
SERVER_THREADS = ["CLIENT=R", "SERVER=SL", "CLIENT_SENDS=0", "SERVER_SENDS=1", "WITHDRAW", "STRONG"]
FAITHFUL = {
    "client sends": [], "both fence": ["HEAVY", "WITHDRAW", *DOWN], "client ends late": ["PATIENT"],
    "offer taken back": ["WITHDRAW"], "server sends": DOWN, "both send": TALK,
    "two threads of the client": CLIENT_THREADS, "two threads of the server": SERVER_THREADS,
}
MUTANTS = {
    "NO_SWAP": ["WITHDRAW"], "FLAG_BEFORE_CUT": [], "FLAG_BEFORE_LOOK": [], "NO_COUNT": [], "NO_SECOND_LOOK": [],
    "NO_MEMBARRIER": ["PATIENT", "CLIENT_SENDS=3"], "NOT_ARMED": [], "NO_CUT_CHECK": SERVER_THREADS,
    "PENDING_UNLOCKED": CLIENT_THREADS,
}


@pytest.mark.watchdog(600)
@pytest.mark.parametrize("variant", FAITHFUL)
def test_every_byte_keeps_its_place(tmp_path, variant):
    spinlib.holds(tmp_path, "cut.pml", FAITHFUL[variant])


@pytest.mark.watchdog(600)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_check_catches(tmp_path, mutant):
    spinlib.fails(tmp_path, "cut.pml", [mutant, *MUTANTS[mutant]])


def test_the_model_names_functions_that_exist():
    spinlib.functions_exist("stream.pml", 25)
