import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "kvo"))

from kvo_harness import nothing_mapped, place  # noqa: E402,F401  fixtures
