"""Who fences, the sleeper everywhere or each for itself, checked by SPIN; each mutant of the model must be caught."""

import pytest
import spinlib


@pytest.mark.watchdog(600)
def test_nobody_sleeps_on_a_message(tmp_path):
    spinlib.holds(tmp_path, "fence.pml", [])


@pytest.mark.watchdog(600)
@pytest.mark.parametrize("mutant", ["LOOK_BEFORE_ARM", "NO_TURNS", "FENCED_FIRST"])
def test_the_check_catches(tmp_path, mutant):
    spinlib.fails(tmp_path, "fence.pml", [mutant])


def test_the_model_names_functions_that_exist():
    spinlib.functions_exist("fence.pml", 3)
