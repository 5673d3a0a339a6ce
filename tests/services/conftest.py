import sys
from pathlib import Path

for folder in (".", "configd", "startd"):
    sys.path.insert(0, str(Path(__file__).parent / folder))

import pytest  # noqa: E402


@pytest.fixture
def stage(place):
    from configdlib import Stage

    one = Stage(place)
    yield one
    one.close()


@pytest.fixture
def services(place, monkeypatch):
    from startdlib import Services

    one = Services(place, monkeypatch)
    try:
        one.up()
        yield one
    finally:
        one.close()
