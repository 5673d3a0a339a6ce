"""kvoshim: processes of one host talk at the speed of memory.

Layers; each imports only layers below it (tests/test_layers.py):

    cli, demo, bench        what a person touches
    services                services that stay alive: repository, restarter, spawner
    kvo                     observation: controller, observables, observers
    registry                processes find each other by name
    process                 what daemons are made of: configuration, signals, control channel
    patching                the drop-in modules for a whole program
    socket, select, selectors, transport    drop-in modules, native interface
    launcher, settings, errors, identity, directories, background
    _core, _store, ...      the Cython core (pyx/kvoshim)
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvoshim.kvo import Observable, Observer
    from kvoshim.kvo.objects import changing, computed, observable, publish
    from kvoshim.patching import patch, unpatch

__version__ = "0.1.0"
_HOMES = {
    "Observable": "kvo",
    "Observer": "kvo",
    "changing": "kvo.objects",
    "computed": "kvo.objects",
    "observable": "kvo.objects",
    "publish": "kvo.objects",
    "patch": "patching",
    "unpatch": "patching",
}
__all__ = ["Observable", "Observer", "changing", "computed", "observable", "patch", "publish", "unpatch"]


def __getattr__(name: str):
    # Loaded when first used: a program that only wants the socket shim does not pay for the rest.
    if name in _HOMES:
        value = globals()[name] = getattr(importlib.import_module(f"kvoshim.{_HOMES[name]}"), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
