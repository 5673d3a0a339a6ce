import sys
from pathlib import Path

for folder in (".", "configd"):
    sys.path.insert(0, str(Path(__file__).parent / folder))
