"""The latest message beside the tail, checked by SPIN over its whole state space; each mutant must be caught."""

import pytest
import spinlib


@pytest.mark.watchdog(600)
def test_what_is_taken_is_what_was_sent(tmp_path):
    spinlib.holds(tmp_path, "latest.pml", [])


@pytest.mark.watchdog(600)
@pytest.mark.parametrize("mutant", ["NO_ZERO", "NO_SECOND_LOOK", "NO_POSITION"])
def test_the_check_catches(tmp_path, mutant):
    spinlib.fails(tmp_path, "latest.pml", [mutant], "assertion violated")


def test_the_model_names_functions_that_exist():
    spinlib.functions_exist("latest.pml", 2)
