import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from spawner_harness import host, place  # noqa: E402,F401  fixtures
