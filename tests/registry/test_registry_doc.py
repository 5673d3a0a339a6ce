"""docs/registry.md says what the code says."""

import pathlib
import re
import subprocess
import sys

import msgspec

from kvoshim.registry.daemon.settings import Limits, Settings, UserLimits

HERE = pathlib.Path(__file__).parent
DOC = HERE.parents[1] / "docs" / "registry.md"


def test_the_tests_that_are_named_exist():
    text = DOC.read_text().partition("## Tests")[2]
    named = 0
    for line in text.splitlines():
        file = None
        for word in re.findall(r"`([^`]+)`", line):
            if word.endswith(".py"):
                file = HERE / word
                assert file.exists(), word
            elif word.startswith("test_"):
                assert f"def {word}(" in file.read_text(), f"{word} in {file.name}"
                named += 1
    assert named > 10


def test_the_settings():
    table = DOC.read_text().partition("<!-- settings -->\n")[2].partition("<!-- end -->")[0]
    for name in ("settle_s", "suspect_s"):
        assert f"| `{name.replace('_', '-')}` | {getattr(Settings(), name)} |" in table
    for limits in (Limits(), UserLimits()):
        for name, value in msgspec.structs.asdict(limits).items():
            if isinstance(value, int | float):
                assert f"`{name.replace('_', '-')}` {value:g}" in table
    rows = set(re.findall(r"^\| `([a-z-]+)`", table, re.M))
    inherited = {"control-socket", "logging", "statistic-samples", "user-context"}
    assert rows == {name.replace("_", "-") for name in Settings.__struct_fields__} - inherited


def test_the_example_runs(stage):
    code = DOC.read_text().partition("```python\n")[2].partition("```")[0]
    code = code.replace("print(event.kind, event.entry)", "print(event.kind); break  #")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=stage.environment, text=True, capture_output=True, timeout=60, check=True
    )
    assert done.stdout.split("\n")[0].startswith("1 True ") and done.stdout.endswith("\nend\n")
