"""socat and netcat, each with itself and with the other: streams of every length, half-closes, commands behind a socket."""

from __future__ import annotations

import concurrent.futures
import hashlib
import re
import signal
from pathlib import Path

from conformance.obtain import program
from conformance.scenes.scene import World, listens, wait_for

PACKAGES = {"socat": "socat", "nc.openbsd": "netcat-openbsd"}
_PATIENT = ["-t", "60", "-T", "60"]  # seconds that socat waits for the other direction once one has ended


def _data(size: int, seed: int = 7) -> bytes:
    block = bytes(i * i * seed % 251 for i in range(997))
    return (block * (size // len(block) + 1))[:size]


def _digest(data: bytes) -> str:
    return f"{len(data)} bytes {hashlib.sha256(data).hexdigest()[:16]}"


def _socat(world: World, *words: object, start=None, **options):
    start = start or world.serve
    return start([program("socat"), *_PATIENT, *words], **options)


def _send(world: World, name: str, path: object, data: bytes, *options: str, address: str = "UNIX-CONNECT") -> None:
    """What comes back for the data, from a socat that closes its direction behind them."""
    done = world.ask([program("socat"), *_PATIENT, *options, "-", f"{address}:{path}"], stdin=data)
    world.step(name, (done.status, _digest(done.out), re.sub(rb"(?m)^\S+ \S+ socat\[\d+\] ", b"", done.err)))


def _ready(server, path: object):
    return server.wait_until(lambda: listens(path))


def _echoes(world: World, home: Path) -> None:
    path, few = home / "echo", home / "few"
    with _socat(world, f"UNIX-LISTEN:{path},fork", "EXEC:cat") as server:
        _ready(server, path)
        sizes = (100, 8191, 8192, 8193, 65536, 300_001, 1_000_000, 8_000_000)
        for size in sizes:
            _send(world, f"echo of {size}", path, _data(size))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: _send(world, f"echo beside others {i}", path, _data(400_000 + i, i)), range(16)))
        _send(world, "small blocks", path, _data(500_000), "-b", "100")
    world.step("echo ended with", server.process.returncode)
    # What fits into the kernel's buffer may be sent, with the half-close behind it, before the server has seen any of it.
    world.opened(path, 20, "client", more=5)
    with _socat(world, f"UNIX-LISTEN:{few},fork", "EXEC:cat") as server:
        _ready(server, few)
        for size in (0, 1):
            _send(world, f"echo of {size}", few, _data(size))


def _half_closes(world: World, home: Path) -> None:
    path, both = home / "sum", home / "both"
    with _socat(world, f"UNIX-LISTEN:{path},fork", "SYSTEM:sha256sum") as server:
        _ready(server, path)
        for size in (10, 100_000, 3_000_000):
            done = world.ask([program("socat"), *_PATIENT, "-", f"UNIX-CONNECT:{path}"], stdin=_data(size))
            world.step(f"answer behind the end of {size}", (done.status, done.out, done.err))
    ours, theirs = world / "ours", world / "theirs"
    ours.write_bytes(_data(6_000_000, 3))
    with _socat(world, f"UNIX-LISTEN:{both}", f"SYSTEM:cat {ours} & cat > {theirs}; wait") as server:
        _ready(server, both)
        _send(world, "bulk both ways, here", both, _data(5_000_000, 5))
        world.step("bulk both ways, status", server.wait())
        world.step("bulk both ways, there", _digest(theirs.read_bytes()))
    world.opened(both, 1)


def _one_way(world: World, home: Path) -> None:
    path, source, sink = home / "one", world / "source", world / "sink"
    source.write_bytes(_data(10_000_000))
    with _socat(world, "-u", f"UNIX-LISTEN:{path}", f"CREATE:{sink}") as server:
        _ready(server, path)
        done = world.ask([program("socat"), "-u", f"OPEN:{source}", f"UNIX-CONNECT:{path}"])
        world.step("one way, there", (done.status, done.err, server.wait()))
    world.step("one way, there", _digest(sink.read_bytes()))
    world.opened(path, 1)
    back = home / "back"
    with world.serve([program("socat"), "-u", f"OPEN:{source}", f"UNIX-LISTEN:{back}"]) as server:
        _ready(server, back)
        done = world.ask([program("socat"), "-u", f"UNIX-CONNECT:{back}", "-"])
        world.step("one way, back", (done.status, _digest(done.out), done.err, server.wait()))


def _kinds(world: World, home: Path) -> None:
    name = f"{world.directory}/abstract"
    with _socat(world, f"ABSTRACT-LISTEN:{name},fork", "EXEC:cat") as server:
        _ready(server, f"@{name}")
        _send(world, "abstract name", name, _data(500_000), address="ABSTRACT-CONNECT")
    world.opened(f"@{name}", 1)
    path = home / "packets"
    with _socat(world, f"UNIX-LISTEN:{path},type=5,fork", "EXEC:cat") as server:
        _ready(server, path)
        done = world.ask([program("socat"), *_PATIENT, "-", f"UNIX-CONNECT:{path},type=5"], stdin=b"packet")
        world.step("sequenced packets", (done.status, done.out, done.err))
    path, got = home / "datagrams", world / "datagrams"
    with _socat(world, "-u", f"UNIX-RECV:{path}", f"CREATE:{got}") as server:
        server.wait_until(path.exists)
        for text in (b"one ", b"two ", b"three"):
            done = world.ask([program("socat"), "-u", "-", f"UNIX-SENDTO:{path}"], stdin=text)
            world.step("datagram", (done.status, done.err))
        wait_for("datagrams", lambda: got.exists() and got.stat().st_size == 13)
    world.step("datagrams", got.read_bytes())


def _lives(world: World, home: Path) -> None:
    """The socket as a program's own input and output; clients that are killed; no listener."""
    path = home / "nofork"
    with _socat(world, f"UNIX-LISTEN:{path}", "EXEC:cat,nofork") as server:
        _ready(server, path)
        _send(world, "the socket as input and output", path, _data(2_000_000))
        world.step("the socket as input and output, there", server.wait())
    path, over = home / "killed", world / "over"
    over.touch()
    with _socat(world, f"UNIX-LISTEN:{path},fork", f"SYSTEM:cat > /dev/null; echo over >> {over}") as server:
        _ready(server, path)
        for _ in range(5):
            with _socat(world, "-u", "OPEN:/dev/zero", f"UNIX-CONNECT:{path}", start=world.stay,
                        stop_signal=signal.SIGKILL) as client:
                before = over.read_text()
                wait_for("bytes of the client", lambda pid=client.pid: _written(pid) > 1_000_000)
            wait_for("the end of a killed client's stream", lambda text=before: over.read_text() == text + "over\n")
            world.step("a killed client, status", client.process.returncode)
    world.opened(path, 5)
    _send(world, "no listener", home / "nobody", b"x")
    path.touch()
    _send(world, "no socket", path, b"x")


def _written(pid: int) -> int:
    """Bytes that a process has read from its file, so that at least about as many have gone into its socket."""
    return int(Path(f"/proc/{pid}/io").read_text().split("rchar: ")[1].split()[0])


def socat(world: World) -> None:
    """socat to socat: echoes of all lengths, bulk, half-closes, other kinds of sockets, killed clients."""
    home = world.new_dir("s")
    for part in (_echoes, _half_closes, _one_way, _kinds, _lives):
        part(world, home)


def socat_relay(world: World) -> None:
    """A chain of socats, each a client of the next."""
    home = world.new_dir("s")
    paths = [home / f"{n}" for n in "abc"]
    with _socat(world, f"UNIX-LISTEN:{paths[2]},fork", "EXEC:cat") as last, \
            _socat(world, f"UNIX-LISTEN:{paths[1]},fork", f"UNIX-CONNECT:{paths[2]}") as middle, \
            _socat(world, f"UNIX-LISTEN:{paths[0]},fork", f"UNIX-CONNECT:{paths[1]}") as first:
        for server, path in zip((last, middle, first), reversed(paths)):
            _ready(server, path)
        for size in (500_000, 4_000_000):
            _send(world, f"through three, {size}", paths[0], _data(size))
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda i: _send(world, f"beside others {i}", paths[0], _data(400_000 + i, i)), range(8)))
    for path in paths:
        world.opened(path, 10)


def _nc(world: World, name: str, *words: object, data: bytes = b"") -> None:
    done = world.ask([program("nc.openbsd"), *words], stdin=data)
    world.step(name, (done.status, _digest(done.out), done.err))


def netcat(world: World) -> None:
    """netcat to netcat: bulk, half-closes, time-outs, clients in turn, a killed one."""
    home, nc = world.new_dir("n"), program("nc.openbsd")
    given = world / "given"
    given.write_bytes(_data(6_000_000, 3))

    path = home / "bulk"
    with world.serve(["sh", "-c", f"exec {nc} -N -l -U {path} < {given}"]) as server:
        _ready(server, path)
        _nc(world, "bulk to the client", "-d", "-U", path)
        world.step("bulk to the client, there", server.wait())
    world.opened(path, 1, "client")

    path = home / "turns"
    with world.serve([nc, "-k", "-l", "-U", path]) as server:
        _ready(server, path)
        for i in range(5):
            _nc(world, f"clients in turn {i}", "-N", "-U", path, data=_data(300_000, i + 1))
        wait_for("all bytes", lambda: server.output.stat().st_size >= 1_500_000)
        world.step("clients in turn, there", _digest(server.output.read_bytes()))
    world.step("ended with", server.process.returncode)
    server.output.write_bytes(b"")

    path = home / "quiet"
    with world.serve([nc, "-k", "-l", "-v", "-U", path]) as server:
        _ready(server, path)
        _nc(world, "nothing within a second", "-d", "-w", "1", "-U", path)
        _nc(world, "leaves a second after the end", "-q", "1", "-U", path, data=b"some words\n")
        _nc(world, "connects only", "-z", "-v", "-U", path)
        wait_for("the listener's words", lambda: server.output.read_bytes().count(b"\n") == 6)
    world.step("what the listener said", sorted(server.output.read_bytes().splitlines()))
    _nc(world, "no listener", "-v", "-U", path)
    _nc(world, "no socket", "-v", "-U", home / "nobody")

    path = home / "killed"
    with world.serve([nc, "-d", "-l", "-U", path]) as server:
        _ready(server, path)
        with world.stay(["sh", "-c", f"exec {nc} -U {path} < /dev/zero"], stop_signal=signal.SIGKILL) as client:
            wait_for("bytes of the client", lambda: _written(client.pid) > 3_000_000)
        world.step("after a killed client", (client.process.returncode, server.wait()))
    server.output.write_bytes(b"")
    world.opened(path, 1)


def netcat_socat(world: World) -> None:
    """netcat and socat with each other."""
    home, nc = world.new_dir("n"), program("nc.openbsd")
    path = home / "socat"
    with _socat(world, f"UNIX-LISTEN:{path},fork", "EXEC:cat") as server:
        _ready(server, path)
        for size in (400_000, 5_000_000):
            _nc(world, f"to socat and back, {size}", "-N", "-U", path, data=_data(size))
    world.opened(path, 2)
    path = home / "netcat"
    with world.serve([nc, "-d", "-l", "-U", path]) as server:
        _ready(server, path)
        _send(world, "to netcat", path, _data(3_000_000))
        world.step("to netcat, there", (server.wait(), _digest(server.output.read_bytes())))
    server.output.write_bytes(b"")
    world.opened(path, 1)


SCENES = [(socat, 25, True), (socat_relay, 30, False), (netcat, 2, True),
          (netcat_socat, 3, True)]
