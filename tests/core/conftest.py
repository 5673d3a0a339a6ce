import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import rig  # noqa: E402


@pytest.fixture(scope="session")
def stress(tmp_path_factory):
    """Runs one case of the stress program; its outcome."""
    program = rig.build(tmp_path_factory.mktemp("stress"))

    def run(case, **options):
        return rig.run(program, case, **options)
    return run
