"""No import points upward: the layers of the Python package, and those of the core's .pxd files."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]

# Lowest first. A module belongs to the first entry that is its name or a package above it.
PYTHON_LAYERS = [
    ["kvoshim._core", "kvoshim._memory", "kvoshim._timer", "kvoshim._values", "kvoshim._table", "kvoshim._store", "kvoshim._monitor",
     "kvoshim._bell", "kvoshim._delivery", "kvoshim._look"],
    ["kvoshim.errors", "kvoshim.settings", "kvoshim.launcher", "kvoshim.identity", "kvoshim.directories", "kvoshim.background"],
    ["kvoshim.socket", "kvoshim.select", "kvoshim.selectors", "kvoshim.transport", "kvoshim.statistics", "kvoshim.elf"],
    ["kvoshim.patching", "kvoshim.doctor", "kvoshim.process"],
    ["kvoshim.registry"],
    ["kvoshim.federation"],
    ["kvoshim.kvo"],
    ["kvoshim.services.core"],
    ["kvoshim.services"],
    ["kvoshim"],  # the package's own file: the names that users import
    ["kvoshim.demo", "kvoshim.bench", "kvoshim.cli", "kvoshim.__main__"],
]

CORE_ORDER = [
    "layout", "runtime", "clock", "connection", "segment", "lock", "ring", "latest", "spin", "ancillary", "doorbell",
    "rendezvous", "negotiate", "wait", "room", "readiness", "epolltable", "registration", "watched", "arrival", "demote", "early",
    "receiving", "sending", "quick", "life", "inherit", "hotlist", "epollset", "poller", "_core",
]

# The process layer's own files, lowest first.
PROCESS_ORDER = [
    "launch", "framing", "protocol", "bucket", "jsontext", "model", "redaction", "logs", "manager", "loop", "signals", "pidfile",
    "readiness", "statistics", "envelope", "access", "rules", "command", "client", "connection", "channel", "builtin", "process",
    "controller", "main", "__init__",
]


# The files of the registry's seat, lowest first.
SEAT_ORDER = [
    "hostwide", "notice", "patience", "portfile", "proof", "place", "scope", "policy", "holding", "finding", "explaining", "private",
    "__init__",
]


# The files of the bridge to other hosts, lowest first.
FEDERATION_ORDER = [
    "keys", "directory", "authority", "connecting", "server", "asking", "watcher", "writer", "bridge", "__main__", "__init__",
]


def layer_of(module):
    best = None
    for level, names in enumerate(PYTHON_LAYERS):
        for name in names:
            if (module == name or name != "kvoshim" and module.startswith(name + ".")) and (
                    best is None or len(name) > len(best[1])):
                best = (level, name)
    return best[0] if best else None


def imports_of(path, module, names_of_package):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "kvoshim")
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "kvoshim":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in names_of_package else node.module


def python_modules():
    for path in sorted((ROOT / "kvoshim").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def test_python_imports_point_down():
    modules = dict(python_modules())
    names = set(modules) | {name for layer in PYTHON_LAYERS for name in layer}
    wrong = []
    for module, path in modules.items():
        level = layer_of(module)
        assert level is not None, f"{module} belongs to no layer: add it to PYTHON_LAYERS"
        for target in imports_of(path, module, names):
            other = layer_of(target)
            if other is None or other > level:
                wrong.append(f"{module} imports {target}")
    assert not wrong, wrong


@pytest.mark.parametrize("package, order", [("kvoshim.process", PROCESS_ORDER), ("kvoshim.registry.seat", SEAT_ORDER),
                                            ("kvoshim.federation", FEDERATION_ORDER)])
def test_imports_within_a_package_point_down(package, order):
    folder = ROOT.joinpath(*package.split("."))
    assert {path.stem for path in folder.glob("*.py")} == set(order)
    for name in order:
        tree = ast.parse((folder / f"{name}.py").read_text())
        for node in tree.body:  # what only a type checker reads (if TYPE_CHECKING) is no dependency
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{package}."):
                module = node.module.removeprefix(package).lstrip(".")
                for target in [module] if module else [alias.name for alias in node.names]:
                    assert order.index(target) < order.index(name), f"{name} uses {target}"


@pytest.mark.parametrize("name", CORE_ORDER)
def test_core_cimports_point_down(name):
    path = ROOT / "pyx" / "kvoshim" / (f"{name}.pyx" if name == "_core" else f"{name}.pxd")
    for target in re.findall(r"^from kvoshim\.(\w+) cimport", path.read_text(), re.M):
        assert target in CORE_ORDER and CORE_ORDER.index(target) < CORE_ORDER.index(name), f"{name} uses {target}"


@pytest.mark.parametrize("module", PYTHON_LAYERS[0])
def test_each_module_of_the_core_may_be_the_first_one_imported(module):
    subprocess.run([sys.executable, "-P", "-c", f"import {module}"], check=True, timeout=60)
