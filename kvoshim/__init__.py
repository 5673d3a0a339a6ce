"""kvoshim: processes of one host talk at the speed of memory.

Layers; each imports only layers below it (tests/test_layers.py):

    cli, demo               what a person touches
    kvo                     observation: controller, observables, observers
    socket, transport       drop-in socket module, native interface
    launcher, settings, errors
    _core, _store, ...      the Cython core (pyx/kvoshim)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvoshim.kvo import Observable, Observer

__version__ = "0.1.0"
__all__ = ["Observable", "Observer"]


def __getattr__(name: str):
    # Loaded when first used: a program that only wants the socket shim does not pay for the rest.
    if name in __all__:
        from kvoshim import kvo
        value = globals()[name] = getattr(kvo, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
