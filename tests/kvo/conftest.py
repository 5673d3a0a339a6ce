import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "kvo"))

from kvo_harness import nothing_mapped, place  # noqa: E402,F401  fixtures

import kvoshim  # noqa: E402


@pytest.fixture
def engine(place):  # noqa: F811
    """An observable, at a controller of its own."""
    place.controller()
    with kvoshim.Observable("engine") as observable:
        yield observable


@pytest.fixture
def observer(engine):
    with kvoshim.Observer() as observer:
        yield observer
