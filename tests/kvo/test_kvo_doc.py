"""docs/kvo.md runs, and promises what is tested."""

import re
import subprocess
import sys
from pathlib import Path

import contract
import pytest
from kvo_harness import WAIT_S

TEXT = (Path(__file__).parents[2] / "docs" / "kvo.md").read_text()
BLOCKS = [block for block in re.findall(r"```python\n(.*?)```", TEXT, re.S) if re.search(r"kvoshim\.(Observable|publish)\(", block)]


@pytest.mark.parametrize("number", range(3))
def test_the_publishing_examples_run(place, number):
    place.controller()
    prelude = "import kvoshim\nfrom dataclasses import dataclass, field\n"
    after = "\nprint(sorted(kvoshim.Observer().snapshot('engine')))\n"
    done = subprocess.run([sys.executable, "-P", "-c", prelude + BLOCKS[number] + after], env=place.environment, timeout=WAIT_S,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "'rpm'" in done.stdout


def test_there_are_as_many_examples_as_are_run():
    assert len(BLOCKS) == 3


def test_each_point_of_the_contract_is_in_the_text_with_its_test():
    points = re.findall(r"^(\d+)\. .*?\(`(test_point_\d\d)`\)", TEXT, re.S | re.M)
    assert points == [(str(number), f"test_point_{number:02d}") for number in range(1, 15)]
    assert len(contract.DELIVERY) == 14


def test_every_module_is_in_the_table():
    folder = Path(__file__).parents[2] / "kvoshim" / "kvo"
    named = set(re.findall(r"`(?:kvoshim/kvo/)?(\w+)\.py`", TEXT))
    missing = {path.stem for path in folder.glob("*.py")} - named - {"__init__", "handle", "paths"}
    assert not missing
