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


def test_the_document_has_all_of_it_with_links_that_lead_somewhere():
    document = Path(__file__).parents[2] / "docs" / "kvo.md"
    written = document.read_text().partition("<!-- contract: printed by tests/kvo/contract.py -->\n")[2].partition("<!-- end -->")[0]
    assert written == contract.tables()
    links = re.findall(r"\]\((.*?)\)", written)
    assert len(links) >= len(ROWS)
    assert not [link for link in links if not (document.parent / link).is_file()]
    assert all(row in written for row in ROWS)


def test_nothing_is_left_out_without_a_reason_nor_promised_as_well():
    assert all(len(why) > 20 for why in contract.LEFT_OUT.values())
    assert not contract.LEFT_OUT.keys() & (ROWS.keys() | contract.OPEN.keys())


def test_the_delivery_contract_has_fourteen_points():
    assert [int(row.split()[0]) for row in contract.DELIVERY] == list(range(1, 15))
