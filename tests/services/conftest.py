import sys
from pathlib import Path

for folder in (".", "configd"):
    sys.path.insert(0, str(Path(__file__).parent / folder))

import pytest  # noqa: E402


@pytest.fixture
def stage(place):
    from configdlib import Stage

    one = Stage(place)
    yield one
    one.close()
