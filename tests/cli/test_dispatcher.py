"""The kvoshim command itself."""

import subprocess
import sys

import pytest

import kvoshim
from kvoshim import cli


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name in cli.commands():
        assert f"\n    {name}" in text


def test_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"kvoshim {kvoshim.__version__}\n"


@pytest.mark.parametrize(
    "arguments, absent",
    [
        (["get", "--help"], ["kvoshim.cli.set", "kvoshim.kvo", "msgspec", "rich"]),
        (["--help"], ["kvoshim.kvo", "kvoshim.process", "msgspec", "rich"]),
        (["env"], ["kvoshim.kvo", "msgspec", "rich", "psutil"]),
    ],
)
def test_only_what_a_command_needs_is_loaded(arguments, absent):
    code = (
        "import sys\nfrom kvoshim.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {absent!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stderr == "[]\n"


def test_importing_kvoshim_is_cheap_and_its_names_are_there():
    code = (
        "import sys, kvoshim\nassert 'kvoshim.kvo' not in sys.modules and 'msgspec' not in sys.modules\n"
        "assert 'Observable' in dir(kvoshim)\nkvoshim.Observable, kvoshim.Observer\n"
        "try:\n    kvoshim.nonsense\nexcept AttributeError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "module 'kvoshim' has no attribute 'nonsense'\n"
