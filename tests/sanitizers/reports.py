"""What counts of the sanitizers' reports in a folder: `reports.py FOLDER` prints it, and ends with 1 if there is any."""

import re
import sys
from pathlib import Path

# A race on a descriptor is the program's: one thread closes what another waits on, as some tests do on purpose. The kernel
# allows it, and no memory is involved.
DESCRIPTOR = "  Location is file descriptor "
EMPTY = re.compile(r"\s*(ThreadSanitizer: reported \d+ warnings)?\s*")


def counting(text):
    """The reports in a file's text that count."""
    return [report for report in re.split(r"^={18,}$", text, flags=re.M)
            if DESCRIPTOR not in report and not EMPTY.fullmatch(report)]


if __name__ == "__main__":
    found = [report for file in sorted(Path(sys.argv[1]).iterdir()) for report in counting(file.read_text(errors="replace"))]
    for report in found[:5]:
        print("\n".join(report.strip().splitlines()[:60]), end="\n\n")
    print(f"{len(found)} reports in {sys.argv[1]}")
    sys.exit(bool(found))
