"""The stream benchmark in Python: server and client, over the socket module named on the command line.

    stream.py server|client --path PATH [--module socket|kvoshim.socket] …
    stream.py client --path PATH --mode rtt|oneway|paced [--size BYTES] [--seconds S] [--warm N] [--cpu N]

The program is the same for both modules; only the import differs. It speaks the protocol of c/wire.h and prints the C
client's line of JSON. In oneway mode the server takes what is there; times are per message.
"""

import argparse
import importlib
import json
import os
import sys

from phases import NUMBER, Client, serve

TAKE_ROOM = 256 * 1024


def exactly(connection):
    """receive(size) of a connection, for phases."""
    recv = connection.recv

    def receive(size: int) -> bytes:
        data = recv(size)
        if len(data) == size or not data:
            return data
        parts, have = [data], len(data)
        while have < size:
            data = recv(size - have)
            if not data:
                sys.exit(f"the stream ended after {have} of {size} bytes")
            parts.append(data)
            have += len(data)
        return b"".join(parts)

    return receive


def take_what_is_there(connection):
    """sink(count, size) of a connection, for phases."""

    def sink(count: int, size: int) -> None:
        left = count * size
        while left:
            got = len(connection.recv(min(left, TAKE_ROOM)))
            if not got:
                sys.exit(f"the stream ended {left} bytes early")
            left -= got

    return sink


def main() -> None:
    """Runs the role that the command line names."""
    parser = argparse.ArgumentParser(description="Stream benchmark over a Python socket module.")
    parser.add_argument("role", choices=("server", "client"))
    parser.add_argument("--path", required=True)
    parser.add_argument("--module", default="socket", choices=("socket", "kvoshim.socket"))
    parser.add_argument("--mode", default="rtt", choices=("rtt", "oneway", "paced"))
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--warm", type=int, default=2000)
    parser.add_argument("--cpu", type=int, default=-1)
    arguments = parser.parse_args()
    if arguments.size < NUMBER.size:
        parser.error("--size must be at least 8")
    if arguments.cpu >= 0:
        os.sched_setaffinity(0, {arguments.cpu})
    socket = importlib.import_module(arguments.module)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as first:
        if arguments.role == "server":
            first.bind(arguments.path)
            first.listen(8)
            connection, _ = first.accept()
            with connection:
                serve(exactly(connection), connection.sendall, take_what_is_there(connection))
            return
        first.connect(arguments.path)
        client = Client(exactly(first), first.sendall, arguments.size)
        print(json.dumps(client.run(arguments.mode, arguments.seconds, arguments.warm)))


if __name__ == "__main__":
    main()
