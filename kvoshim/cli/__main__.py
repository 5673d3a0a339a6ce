"""python -m kvoshim.cli: the same as the command kvoshim."""

import sys

from kvoshim.cli import main

sys.exit(main())
