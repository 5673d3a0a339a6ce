import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))

from hosts_harness import world  # noqa: E402,F401  a fixture
from registry_harness import nothing_left  # noqa: E402,F401
