"""docs/services.md says what the code says."""

import pathlib
import re
import subprocess
import sys
from typing import get_args

import msgspec

from kvoshim.services.configd.settings import Limits, Settings
from kvoshim.services.core.operations import AnyOperation

HERE = pathlib.Path(__file__).parent
TEXT = (HERE.parents[1] / "docs" / "services.md").read_text()


def part(name: str) -> str:
    return TEXT.partition(f"<!-- {name} -->\n")[2].partition("<!-- end -->")[0]


def test_the_tests_that_are_named_exist():
    named = 0
    for line in TEXT.splitlines():
        file = None
        for word in re.findall(r"`([^`]+)`", line) if line.startswith("|") else ():
            if re.fullmatch(r"[\w/]*test_\w+\.py", word):
                file = HERE / word
                assert file.exists(), word
            elif word.startswith("test_"):
                assert f"def {word}(" in file.read_text(), f"{word} in {file.name}"
                named += 1
    assert named > 20


def test_every_row_of_the_repository_has_a_test():
    rows = part("rows of configd").splitlines()
    assert len(rows) == 10 and all("`test_" in row for row in rows)


def test_every_operation_is_described():
    tags = {kind.__struct_config__.tag for kind in get_args(AnyOperation)}
    assert set(re.findall(r"`([a-z-]+)`", "".join(line.split("|")[1] for line in part("operations").splitlines()))) == tags


def test_the_settings():
    table = part("settings")
    assert f"| `checkpoint-bytes` | {Settings().checkpoint_bytes} |" in table and f'| `publish` | "{Settings().publish}" |' in table
    for name, value in msgspec.structs.asdict(Limits()).items():
        assert f"`{name.replace('_', '-')}` {value:g}" in table or f"`{name.replace('_', '-')}` {value:.0f}" in table
    rows = set(re.findall(r"^\| `([a-z-]+)`", table, re.M))
    inherited = {"control-socket", "logging", "statistic-samples", "user-context"}
    assert rows == {name.replace("_", "-") for name in Settings.__struct_fields__} - inherited


def test_the_example_runs(stage):
    stage.start()
    code = TEXT.partition("```python\n")[2].partition("```")[0]
    words = [sys.executable, "-P", "-c", code]
    assert subprocess.run(words, env=stage.environment, text=True, capture_output=True, timeout=60, check=True).stdout == "4\n"
