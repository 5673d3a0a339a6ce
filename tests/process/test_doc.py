"""docs/process.md says what the code says."""

import pathlib
import re
import subprocess
import sys

from kvoshim.process import Exit, builtin
from kvoshim.process.command import commands_of
from kvoshim.process.model import ControlSocket, Logging, plain

DOC = pathlib.Path(__file__).parents[2] / "docs" / "process.md"


def command_rows():
    """The table of commands, from their records."""
    for one in sorted(commands_of(builtin), key=lambda one: one.name):
        arguments = ", ".join(
            f"`{each['name']}`" + ("" if each["required"] else "?") + f": {each['type']}" for each in one.parameters()
        )
        arguments = arguments or ("`{module: section}`, `hash`?" if one.arguments is dict else "")
        returns = "" if one.returns == "nothing" else f" Gives {one.returns}."
        yield f"| `{one.name}` | {one.access} | {arguments} | {one.brief}{returns} |"


def test_the_commands():
    table = DOC.read_text().partition("<!-- commands -->\n")[2].partition("<!-- end -->")[0]
    assert table.splitlines() == list(command_rows())


def test_the_exit_codes():
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|$", DOC.read_text(), re.M)
    assert [(str(code.value), code.meaning) for code in Exit] == [(code, text) for code, text in rows]


def test_the_options():
    from daemons import KINDS

    help_text = subprocess.run(
        [sys.executable, "-P", str(pathlib.Path(__file__).with_name("daemons.py")), next(iter(KINDS)), "--help"],
        capture_output=True, text=True, timeout=30, check=True,
    ).stdout  # fmt: skip
    options = set(re.findall(r"^  .*?(--[a-z-]+)", help_text, re.M)) - {"--help"}
    rows = re.findall(r"^\| (`-.*?) \|", DOC.read_text(), re.M)
    assert options == {option for row in rows for option in re.findall(r"--[a-z-]+", row)}
    for code in Exit:
        assert code.meaning in " ".join(help_text.split())


def test_the_keys_and_their_defaults():
    text = DOC.read_text()
    for section, model in (("control-socket", ControlSocket), ("logging", Logging)):
        for key, default in plain(model()).items():
            row = re.search(rf"^\| `{section}` / `{key}` \| ([^|]+) \|", text, re.M)
            assert row, f"{section}/{key} is not in the table"
            if isinstance(default, int | float):
                assert float(row[1]) == default


def test_the_example_runs(place):
    code, files = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.S)[0], place.directory
    (files / "greeter.py").write_text(code)
    place.write(greeting="good day")
    process = subprocess.Popen([sys.executable, "-P", str(files / "greeter.py"), "--config", str(place.file)],
                               env=place.environment, stderr=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert process.stderr.readline() == f"greeter: ready, control socket {place.runtime}/kvoshim/greeter.ctl\n"
        done = place.kvoshim("ctl", "greeter", "greet", "times=2")
        assert '"text": "good day good day"' in done.stdout
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_the_tests_that_it_names_are_there():
    text = DOC.read_text()
    rows = text[text.index("| what is promised |") :].partition("\n\n")[0].splitlines()[2:]
    assert len(rows) > 10
    for link in re.findall(r"\]\(([^)#]+)\)", "\n".join(rows)):
        assert (DOC.parent / link).exists(), link
    for row in rows:
        named = re.findall(r"`([\w/]+)(\.py)?`", row.split("|")[2])
        for file in (name for name, ending in named if ending):
            path = DOC.parents[1] / f"{file}.py" if "/" in file else pathlib.Path(__file__).with_name(f"{file}.py")
            assert path.exists(), path
        for function in (name for name, ending in named if not ending):
            assert any(f"def {function}(" in path.read_text() for path in pathlib.Path(__file__).parent.glob("test_*.py")), function
