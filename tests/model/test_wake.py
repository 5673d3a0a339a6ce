"""The wake-up protocol, checked by SPIN over its whole state space; each mutant of the model must be caught."""

import pytest
import spinlib

TWO_READERS = ["READERS=2", "MESSAGES=1", "SIZE=1"]
FAITHFUL = {
    "one reader": [], "both fence": ["HEAVY"], "two readers": TWO_READERS,
    "two writers": ["WRITERS=2", "MESSAGES=1"], "waits unseen": ["UNSEEN"],
    "bells fill the socket": ["ROOM=1"],
    "bells fill the socket, two readers": ["ROOM=1", *TWO_READERS],
    "bells fill the socket, both fence, two readers": ["ROOM=1", "HEAVY", *TWO_READERS],
    "bells fill the socket, waits unseen": ["ROOM=1", "UNSEEN"],
    "bells nearly fill the socket, waits unseen": ["ROOM=2", "UNSEEN"],
}
MUTANTS = {
    "NO_SECOND_LOOK": [], "NO_MEMBARRIER": [], "NO_FENCE": [], "NO_SLEEPER_FENCE": ["HEAVY"], "LOOK_BEFORE_ARM": [],
    "DRAIN_ALL": TWO_READERS,
    "NO_SWAP": [], "RING_FIRST": [], "TAIL_FIRST": [], "FORGET": ["UNSEEN"],
    "NO_LOOK_BEFORE_DRAIN": ["ROOM=1", "UNSEEN"], "NO_RETRY": ["ROOM=1", "UNSEEN"],
}


@pytest.mark.watchdog(600)
@pytest.mark.parametrize("variant", FAITHFUL)
def test_no_wake_up_is_lost(tmp_path, variant):
    spinlib.holds(tmp_path, "wake.pml", FAITHFUL[variant])


@pytest.mark.watchdog(600)
@pytest.mark.parametrize("variant", ["one reader", "waits unseen"])
def test_every_message_arrives(tmp_path, variant):
    spinlib.holds(tmp_path, "wake.pml", FAITHFUL[variant], live=True)


@pytest.mark.watchdog(600)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_check_catches(tmp_path, mutant):
    spinlib.fails(tmp_path, "wake.pml", [mutant, *MUTANTS[mutant]])


def test_the_model_names_functions_that_exist():
    spinlib.functions_exist("wake.pml", 13)
