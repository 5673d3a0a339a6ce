"""The table of environment variables is complete: each name that the code reads stands in it, and the README shows it."""

import pathlib
import re

from kvoshim.settings import VARIABLES

ROOT = pathlib.Path(__file__).parents[1]


def test_every_variable_is_in_the_table():
    used = set()
    for pattern in ("kvoshim/**/*.py", "pyx/**/*.c", "pyx/**/*.pxi", "pyx/**/*.pyx"):
        for path in ROOT.glob(pattern):
            used |= set(re.findall(r'"(KVOSHIM_[A-Z_]+|USE_TSSX|XDG_[A-Z_]+|NOTIFY_SOCKET|WATCHDOG_[A-Z]+)"', path.read_text()))
    assert used == {variable.name for variable in VARIABLES}


def test_readme_shows_the_table():
    readme = (ROOT / "README.md").read_text()
    for variable in VARIABLES:
        assert f"| `{variable.name}` |" in readme
