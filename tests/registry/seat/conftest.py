import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from seat_harness import stage  # noqa: E402,F401  a fixture
