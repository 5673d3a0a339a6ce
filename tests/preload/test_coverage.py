"""The table of snippet_coverage.py is complete, and the suite as large as it says it is."""

import fnmatch
import re

import snippetlib
from snippet_coverage import ROWS

NAMES = snippetlib.names(".c") + snippetlib.names(".py")


def _found(pattern):
    if ".py::" not in pattern:
        return fnmatch.filter(NAMES, pattern)
    file, function = pattern.split("::")
    source = snippetlib.SOURCES.parents[1] / file
    return fnmatch.filter(re.findall(r"^def (test_\w+)", source.read_text(), re.M) if source.exists() else [], function)


def test_each_row_has_cases_and_each_case_exists():
    wrong = [(row, p) for row, patterns in ROWS.items() for p in patterns.split() or [""] if not _found(p)]
    assert not wrong


def test_each_snippet_belongs_to_a_row():
    covered = {name for patterns in ROWS.values() for p in patterns.split() for name in _found(p)}
    assert set(NAMES) <= covered


def test_the_suite_is_as_large_as_promised(record_property):
    variants = sum(2 * len(snippetlib.directives(n).modes) if snippetlib.source(n).suffix == ".c" else 1 for n in NAMES)
    record_property("scenes", len(NAMES))
    print(f"{len(NAMES)} scenes, {variants} cases")
    assert len(NAMES) >= 150 and variants >= 300
