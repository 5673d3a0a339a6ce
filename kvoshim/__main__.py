import sys

from kvoshim.cli import main

sys.exit(main())
