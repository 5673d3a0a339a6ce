"""The core is values and functions of values."""

import ast
import pathlib

import msgspec
import pytest

import kvoshim.services.core.model as model

CORE = pathlib.Path(__file__).parents[3] / "kvoshim" / "services" / "core"
EFFECTS = {"os", "io", "sys", "time", "datetime", "random", "secrets", "uuid", "socket", "select", "subprocess", "threading"}
EFFECTS |= {"asyncio", "pathlib", "shutil", "tempfile", "logging", "signal", "fcntl", "mmap"}


@pytest.mark.parametrize("path", sorted(CORE.glob("*.py")), ids=lambda path: path.stem)
def test_no_module_of_the_core_can_have_effects(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert not {name.partition(".")[0] for name in names} & EFFECTS
        called = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
        assert not isinstance(node, ast.Global) and called not in ("open", "print", "input", "exec", "eval")


def test_every_value_is_frozen():
    kinds = [kind for kind in vars(model).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    assert len(kinds) > 9 and all(kind.__struct_config__.frozen for kind in kinds)
    with pytest.raises(AttributeError):
        model.Repository().revision = 1
