"""Bad input and faults, with the registry itself and its clients: each ends in a clear error, or in a registry that works. What the
seat does in each case, in detail: seat/test_bad_files.py, seat/test_bad_places.py."""

import contextlib
import os
import signal
import socket as kernel
import sys
from pathlib import Path

import pytest
from registry_harness import until

from kvoshim import registry
from kvoshim.errors import InvalidEntryError
from kvoshim.registry.client import pool
from kvoshim.registry.seat import portfile
from kvoshim.registry.seat.scope import host_name

sys.path.insert(0, str(Path(__file__).parent / "seat"))
from seat_faults import OTHER, as_root, fill, hanging, read_only, tmpfs, with_mounts  # noqa: E402

GOOD = portfile.line(portfile.Record(address="/run/x", cookie="ab" * 32, pid=1, start=1, boot="b"))
CONTENTS = {"half-written": GOOD[:40], "empty": b"", "huge": b"x" * (8 << 20) + b"\n", "binary": bytes(range(256)) * 16 + b"\n"}


def port_files(stage) -> list[Path]:
    """Both, in directories that are there."""
    files = [stage.run / "kvoshim" / "registry", stage.home / ".kvoshim" / "registry" / host_name()]
    for file in files:
        file.parent.mkdir(0o700, parents=True, exist_ok=True)
    return files


def works(stage) -> None:
    """Two processes find each other, there is one registry, and it survives its death."""
    a, b = stage.peer(), stage.peer()
    mine = a.do("register", "engine", {"address": "/e"})
    assert [entry["pid"] for entry in b.do("find", "engine")] == [a.pid]
    b.do("watch", "*")
    (pid,) = stage.registry_pids()
    os.kill(pid, signal.SIGKILL)
    until(lambda: stage.registry_pids() not in ([], [pid]), "there is another one")
    until(lambda: [entry["id"] for entry in b.do("find", "engine")] == [mine["id"]], "what was registered is there again")
    a.kill()
    until(lambda: b.seen("removed") == [("engine", a.pid)], "its death is told")
    assert not b.seen("added")


@pytest.mark.parametrize("name", CONTENTS)
def test_port_files_of_no_use(stage, name):
    for file in port_files(stage):
        file.write_bytes(CONTENTS[name])
        file.chmod(0o600)
    works(stage)


@as_root
def test_port_files_of_another_user(stage):
    for file in port_files(stage):
        file.write_bytes(GOOD)
        file.chmod(0o600)
        os.chown(file, OTHER, OTHER)
    works(stage)


def test_port_files_that_are_symbolic_links(stage):
    """They are not followed: what they point to stays as it is."""
    target = stage.directory / "target"
    target.write_bytes(GOOD)
    for file in port_files(stage):
        file.symlink_to(target)
    works(stage)
    assert target.read_bytes() == GOOD


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3, bytes(48)], ids=["nothing", "something", "zeros"])
def test_a_stranger_listens_at_the_recorded_place(stage, says):
    """It has taken the dead registry's socket: nobody takes it for the registry, and nobody tells it anything."""
    peer = stage.peer()
    mine = peer.do("register", "engine", {})
    (pid,) = stage.registry_pids()
    os.kill(peer.pid, signal.SIGSTOP)  # so that the stranger comes first
    try:
        os.kill(pid, signal.SIGKILL)
        until(lambda: not stage.registry_pids(), "the registry is dead")
        place = stage.run / "kvoshim" / "registry.sock"
        place.unlink()
        with kernel.socket(kernel.AF_UNIX) as stranger:
            stranger.bind(str(place))
            stranger.listen(16)
            stranger.settimeout(30)
            os.kill(peer.pid, signal.SIGCONT)
            caller, _ = stranger.accept()
            with caller:
                caller.settimeout(30)
                hello = caller.recv(4096)
                assert len(hello) == 24, "a caller shows no more than a nonce"
                with contextlib.suppress(OSError):
                    caller.sendall(says)
                caller.shutdown(kernel.SHUT_WR)
                with contextlib.suppress(OSError):
                    assert caller.recv(4096) == b"", "who does not prove itself is told nothing"
            assert [entry.id for entry in until(lambda: registry.find("engine"))] == [mine["id"]]
            record = portfile.read(str(stage.run / "kvoshim" / "registry"), os.geteuid()).record
            assert record.address != str(place)
    finally:
        os.kill(peer.pid, signal.SIGCONT)


@with_mounts
def test_a_read_only_home(stage):
    with read_only(stage.home):
        works(stage)
        assert os.listdir(stage.home) == []
        pool.close()


@with_mounts
def test_a_full_home(stage):
    with tmpfs(stage.home, "size=64k"):
        file = port_files(stage)[1]
        fill(stage.home)
        works(stage)
        assert not file.exists()


@with_mounts
def test_a_home_that_hangs(stage):
    """As one over the network may, when its server does not answer."""
    with hanging(stage.home):
        works(stage)


def test_a_home_that_vanishes(stage):
    peer, other = stage.peer(), stage.peer()
    peer.do("register", "engine", {})
    stage.home.rename(stage.directory / "away")
    (pid,) = stage.registry_pids()
    os.kill(pid, signal.SIGKILL)
    until(lambda: stage.registry_pids() not in ([], [pid]))
    until(lambda: [entry["pid"] for entry in other.do("find", "engine")] == [peer.pid])


@pytest.mark.parametrize("name, problem", [
    ("a\nb", "control characters"), ("x" * 10_000, "1 to 255 bytes, not 10000"), ("", "1 to 255 bytes, not 0"), ("a*", "patterns"),
    ("\udc80", "UTF-8"), ("a\0b", "control characters"),
], ids=["newline", "10,000 characters", "empty", "glob", "no text", "zero"])  # fmt: skip
def test_names_that_cannot_be(stage, name, problem):
    for make in (registry.register, registry.lookup):
        with pytest.raises(InvalidEntryError, match=problem):
            make(name)
    assert not stage.registry_pids(), "nobody is asked"


def test_names_with_slashes_are_names(stage):
    """They are no paths."""
    peer = stage.peer()
    for name in ("../../etc/passwd", "/", "a/b", "~root", "..", "ünï/côdé"):
        peer.do("register", name, {}, name)
        assert registry.lookup(name)[0].pid == registry.owner(name).pid == peer.pid
    assert len(registry.find("*/*")) == 4
    assert sorted(path.name for path in stage.run.iterdir()) == ["kvoshim"]
