import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from registry_harness import nothing_left, stage  # noqa: E402,F401  fixtures
