#!/usr/bin/env python3
"""Two kept runs side by side: .venv/bin/python bench/compare.py bench/results/A.json bench/results/B.json"""

import sys

from kvoshim.bench.compare import main

sys.exit(main())
