import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from process_harness import daemon, place, shared, shared_daemon  # noqa: E402,F401  fixtures
