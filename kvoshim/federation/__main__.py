"""The bridge as a program, which a registry's daemon starts: it is of no use to anybody else."""

from __future__ import annotations

import argparse
import signal
import sys


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kvoshim.federation", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="of the pair of sockets that the registry has made")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the registry, which ends its bridge
    try:
        from kvoshim.federation.bridge import main as run
    except ImportError as error:
        print(f"other hosts cannot be linked: {error}; pip install 'kvoshim[nats]'", flush=True)
        return 1
    return run(arguments.fd)


if __name__ == "__main__":
    sys.exit(main())
