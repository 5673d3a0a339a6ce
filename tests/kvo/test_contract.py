"""The table of contract.py is complete: each row has tests that exist, or is said to be open, never both."""

import fnmatch
import re
from pathlib import Path

import contract

ROWS = contract.DELIVERY | contract.FEATURES


def _found(pattern):
    file, function = pattern.split("::")
    source = Path(__file__).with_name(file)
    return fnmatch.filter(re.findall(r"^(?:async )?def (test_\w+)", source.read_text(), re.M) if source.exists() else [], function)


def test_the_tests_of_each_row_exist():
    assert not [(row, pattern) for row, patterns in ROWS.items() for pattern in patterns.split() if not _found(pattern)]


def test_a_row_is_covered_or_open():
    covered = {row for row, patterns in ROWS.items() if patterns}
    assert set(ROWS) - covered == set(contract.OPEN) & set(ROWS)
    assert not covered & set(contract.OPEN)


def test_the_delivery_contract_has_fourteen_points():
    assert [int(row.split()[0]) for row in contract.DELIVERY] == list(range(1, 15))
