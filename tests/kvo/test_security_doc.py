"""docs/security.md names every threat, and tests that exist."""

import fnmatch
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TEXT = (HERE.parents[1] / "docs" / "security.md").read_text()
ROWS = [line.strip("|").split(" | ") for line in TEXT.splitlines() if line.startswith("| **") or line.startswith("| …")]
# The first considerations of the design that the system is made by.
THREATS = [
    "Unauthorized access to shared memory", "Data integrity violations in shared memory", "Denial of service of the controller",
    "Spoofing of notifications", "Information disclosure through shared memory", "Input validation failures",
    "Race conditions and synchronisation",
]  # fmt: skip


def test_every_threat_has_its_row():
    named = [match[1] for row in ROWS if (match := re.match(r"\s*\*\*(.*?)\*\*", row[0]))]
    assert named[: len(THREATS)] == THREATS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip(" *")[:40])
def test_the_tests_of_each_row_exist(row):
    assert len(row) == 3 and len(row[1]) > 40
    tests = re.findall(r"`(test_\w+\.py)::([\w*]+)`", row[2])
    assert tests and row[2].count("`") == 2 * len(tests)
    assert [Path(link).name for link in re.findall(r"`\]\((\.\./tests/kvo/test_\w+\.py)\)", row[2])] == [file for file, _ in tests]
    for file, function in tests:
        names = re.findall(r"^(?:async )?def (test_\w+)", (HERE / file).read_text(), re.M)
        assert fnmatch.filter(names, function), f"{file} has no {function}"


def test_the_other_documents_lead_here():
    assert "security.md" in (HERE.parents[1] / "docs" / "kvo.md").read_text()
