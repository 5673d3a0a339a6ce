"""docs/shim.md names each intercepted call once, with tests that exist."""

import re

import snippetlib
from test_exports import ROOT, listed


def _rows():
    text = (ROOT / "docs/shim.md").read_text()
    return re.findall(r"^\| (`.*?) \| .* \| ([^|]*) \|$", text, re.M)


def test_each_intercepted_call_is_in_the_table_once():
    calls = [call for names, _ in _rows() for call in re.findall(r"`(\w+)`", names)]
    assert sorted(calls) == sorted(listed())


def test_the_tests_it_names_exist():
    snippets = set(snippetlib.names(".c"))
    named = [test for _, tests in _rows() for test in tests.split(", ")]
    assert named and not [t for t in named if t not in snippets and not (ROOT / "tests" / t).is_file()]
