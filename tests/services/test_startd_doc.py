"""docs/services-startd.md says what the code says."""

import pathlib
import re

from kvoshim.cli import _svc
from kvoshim.services.core import manifests
from kvoshim.services.core.composing import compose
from kvoshim.services.core.restart import Policy
from kvoshim.services.core.wishes import METHODS, Log, Running, of_view

HERE = pathlib.Path(__file__).parent
TEXT = (HERE.parents[1] / "docs" / "services-startd.md").read_text()


def test_the_tests_that_are_named_exist():
    rows = TEXT.partition("<!-- rows of startd -->\n")[2].partition("<!-- end -->")[0].splitlines()
    assert len(rows) == 15
    for row in rows:
        file, named = None, 0
        for word in re.findall(r"`([^`]+)`", row):
            if word.endswith(".py"):
                file = (HERE / word).read_text()
            elif word.startswith("test_"):
                assert f"def {word}(" in file, word
                named += 1
        assert named, row


def test_verbs_methods_and_properties():
    words = set(re.findall(r"`([a-z-]+)[ `]", TEXT))
    assert set(_svc.VERBS) <= words
    assert set(METHODS) <= words
    for kind in (Policy, Running, Log):
        assert set(kind.__struct_encode_fields__) <= words


def test_the_example_is_a_manifest_that_can_run():
    one = manifests.parse(TEXT.partition("```json\n")[2].partition("```")[0])[0]
    view = compose({"manifest": one.definition}, {"manifest": one.instances["default"]})
    assert of_view(view).problem == ""
