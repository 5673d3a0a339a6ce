"""Direct delivery, checked by SPIN over its whole state space; each mutant of the model must be caught."""

import pytest
import spinlib

PARTS = ["PARTS", "LINKED"]
FAITHFUL = {
    "the link begins": [], "the link is there": ["LINKED"], "the owner hears late": ["SLOW"],
    "the controller takes the link back": PARTS, "it begins and is taken back": ["PARTS", "CHANGES=1"],
}
MUTANTS = {
    "NO_OWNER_FENCE": ["CHANGES=1"], "NO_RING_FENCE": [], "NO_FLAG_FENCE": [], "NO_SLEEPER_FENCE": [], "NO_SECOND_LOOK": [],
    "NO_LOOK": ["CHANGES=1"], "NO_COMPARE": ["CHANGES=1", *PARTS], "LINK_LATE": ["LINKED"],
}


@pytest.mark.watchdog(600)
@pytest.mark.parametrize("variant", FAITHFUL)
def test_the_last_value_is_always_seen(tmp_path, variant):
    spinlib.holds(tmp_path, "ring.pml", FAITHFUL[variant])


@pytest.mark.watchdog(600)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_check_catches(tmp_path, mutant):
    spinlib.fails(tmp_path, "ring.pml", [mutant, *MUTANTS[mutant]])


def test_the_model_names_functions_that_exist():
    spinlib.functions_exist("ring.pml", 7)
