"""What callgrind counts in Python: so many passes of one thing. Counts of runs that differ in nothing else tell what it costs.

    counted.py lock|unlocked MODULE PASSES     a pass with look-up and lock, or an empty one (bench/inner)
    counted.py socket PATH PASSES              a send and a receive of 8 bytes through kvoshim.socket
"""

import sys


def lock(module: str, passes: int, locked: bool) -> None:
    """PASSES in batches of 256."""
    import importlib.util
    import socket

    spec = importlib.util.spec_from_file_location("core_lock", module)
    core_lock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core_lock)
    with socket.socket(socket.AF_UNIX) as descriptor:
        core_lock.open_connection(descriptor.fileno())
        core_lock.pass_batches(locked, passes // 256)


def exchange(path: str, passes: int) -> None:
    """Both ends in this one thread: what is received has been sent before."""
    from kvoshim import socket

    message = bytes(8)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        server, _ = listener.accept()
        with server:
            for i in range(64 + passes):
                one, other = (server, client) if i % 2 else (client, server)
                one.send(message)
                other.recv(8)


what, where, passes = sys.argv[1], sys.argv[2], int(sys.argv[3])
if what == "socket":
    exchange(where, passes)
else:
    lock(where, passes, what == "lock")
