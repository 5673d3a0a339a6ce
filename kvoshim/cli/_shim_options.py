"""Options that `run` and `env` share."""

import os


def add(parser):
    parser.add_argument("--paths", metavar="GLOBS", default=os.environ.get("KVOSHIM_PATHS") or "*",
                        help="socket paths to accelerate, globs separated by spaces or colons (default: KVOSHIM_PATHS, "
                             "or all)")
    parser.add_argument("--spin-us", metavar="N", default=None,
                        help="longest spin before sleeping, in microseconds; 0: never spin")
    parser.add_argument("--ring-size", metavar="BYTES", default=None, help="bytes of each ring of a connection")
    parser.add_argument("--warmup", metavar="CALLS", default=None,
                        help="calls that move bytes on an end of a connection before it gets a segment (default: 4)")
