"""Port files and locks that are not as they should be: each is replaced, or refused with a reason. Nothing that is another's is
touched."""

import os
import signal
import socket as kernel
import stat

import msgspec
import pytest
from seat_faults import OTHER, as_root
from seat_harness import HOLDER, USER, said_pid, until

from kvoshim.errors import RegistryPlaceError, RegistryUnavailableError
from kvoshim.registry import seat
from kvoshim.registry.seat import portfile
from kvoshim.registry.seat.scope import host_name

RECORD = portfile.Record(address="/run/x", cookie="ab" * 32, pid=1, start=1, boot="b")
GOOD = portfile.line(RECORD)


def changed(**fields) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(GOOD), **fields}) + b"\n"


CONTENTS = {
    "half-written": (GOOD[:40], portfile.State.BECOMING),
    "without its end of line": (GOOD[:-1], portfile.State.BECOMING),
    "empty": (b"", portfile.State.BECOMING),
    "only an end of line": (b"\n", portfile.State.UNUSABLE),
    "a port number": (b"4711\n", portfile.State.UNUSABLE),
    "huge": (b"x" * (1 << 20) + b"\n", portfile.State.UNUSABLE),
    "huge and without an end": (b"x" * (1 << 20), portfile.State.UNUSABLE),
    "huge but valid": (GOOD[:-1] + b" " * portfile.FILE_MAX + b"\n", portfile.State.UNUSABLE),
    "binary": (bytes(range(256)) + b"\n", portfile.State.UNUSABLE),
    "deep": (b"[" * 8000 + b"\n", portfile.State.UNUSABLE),
    "two lines": (GOOD + GOOD, portfile.State.UNUSABLE),
    "a long address": (changed(address="/" + "x" * 200), portfile.State.UNUSABLE),
    "a relative address": (changed(address="x"), portfile.State.UNUSABLE),
    "an abstract address": (changed(address="\0x"), portfile.State.UNUSABLE),
    "a zero in the address": (changed(address="/run/\0x"), portfile.State.UNUSABLE),
    "half an emoji in the address": (GOOD.replace(b"/run/x", rb"/run/\ud800"), portfile.State.UNUSABLE),
    "a short cookie": (changed(cookie="ab"), portfile.State.UNUSABLE),
    "a cookie of letters": (changed(cookie="xy" * 32), portfile.State.UNUSABLE),
    "no cookie": (b'{"address":"/run/x"}\n', portfile.State.UNUSABLE),
    "a number too large": (changed(pid=1 << 40), portfile.State.UNUSABLE),
    "a number far too large": (changed(start=1 << 80), portfile.State.UNUSABLE),
    "facts that are none": (changed(facts=["x"]), portfile.State.UNUSABLE),
    "nobody listens": (GOOD, portfile.State.VALID),
    "of a later version": (changed(version=9, more="x"), portfile.State.VALID),
}


def plant(stage, data: bytes) -> None:
    """Puts it at both places, as if a registry had left it."""
    for path in (stage.own_file, stage.port_file):
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o600)


@pytest.mark.parametrize("name", CONTENTS)
def test_contents(stage, name):
    """(h) valid only with the final end of line; what is no record, or of nobody, is erased and replaced."""
    data, state = CONTENTS[name]
    plant(stage, data)
    reading = portfile.read(str(stage.port_file), os.geteuid())
    assert reading.state is state and (reading.record is not None) == (state is portfile.State.VALID)
    assert bool(reading.why) == (state in (portfile.State.BECOMING, portfile.State.UNUSABLE))
    contact = stage.connect()
    assert said_pid(contact) == stage.record().pid == stage.record(stage.own_file).pid
    assert portfile.read(str(stage.port_file), os.geteuid()).state is portfile.State.VALID


def test_a_file_in_the_middle_of_being_written_is_waited_for(stage):
    """(h) valid only with the final end of line: what is there of it is not believed before."""
    creator = stage.holder("--hold", "listen", ready=False)
    creator.stdout.readline()
    contact_line = portfile.line(
        portfile.Record(address=stage.known_place, cookie="00" * 32, pid=creator.pid, start=1, boot=portfile.boot_id())
    )
    client = stage.client(*HOLDER)
    client.tell("connect")
    for end in range(0, len(contact_line), 16):
        plant(stage, contact_line[:end])
    os.kill(creator.pid, signal.SIGUSR1)  # it goes on, and puts the whole one in its place
    assert client.answer()["pid"] == creator.pid


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o602])
def test_one_that_others_may_use_is_not_believed(stage, mode):
    """Its cookie is no secret, or its address anybody's."""
    pid = said_pid(stage.connect())
    stage.kill(pid)
    with kernel.socket(kernel.AF_UNIX) as stranger:
        os.unlink(stage.known_place)
        stranger.bind(stage.known_place)
        stranger.listen()
        for path in (stage.own_file, stage.port_file):
            path.chmod(mode)
            assert "others may use it" in portfile.read(str(path), os.geteuid()).why
        said_pid(stage.connect())
        stranger.setblocking(False)
        with pytest.raises(BlockingIOError):  # but for a look whether anybody listens there, which ends at once
            while True:
                taken, _ = stranger.accept()
                assert taken.recv(64) == b""
                taken.close()
    assert stat.S_IMODE(stage.port_file.stat().st_mode) == 0o600


@as_root
def test_a_foreign_file_is_not_believed(stage):
    """Another user's address and cookie, in the place of ours."""
    pid = said_pid(stage.connect())
    for path in (stage.own_file, stage.port_file):
        os.chown(path, OTHER, OTHER)
        reading = portfile.read(str(path), os.geteuid())
        assert reading.state is portfile.State.UNUSABLE and f"belongs to user {OTHER}" in reading.why
    until(lambda: stage.record() and stage.record(stage.own_file))  # the holder has put its own there again
    assert said_pid(stage.connect()) == pid
    stage.kill(pid)
    for path in (stage.own_file, stage.port_file):
        os.chown(path, OTHER, OTHER)
    assert said_pid(stage.connect()) != pid
    assert stage.port_file.stat().st_uid == os.geteuid()


def make_link(path, target):
    path.symlink_to(target)


def make_broken_link(path, target):
    path.symlink_to("/nowhere/at/all")


def make_loop(path, target):
    path.symlink_to(path)


def make_fifo(path, target):
    os.mkfifo(path, 0o600)


def make_socket(path, target):
    with kernel.socket(kernel.AF_UNIX) as sock:
        sock.bind(str(path))


def make_empty_directory(path, target):
    path.mkdir(0o700)


NO_FILES = [make_link, make_broken_link, make_loop, make_fifo, make_socket, make_empty_directory]


@pytest.mark.parametrize("make", NO_FILES)
def test_what_is_no_file_is_replaced(stage, make):
    """A link is not followed: neither is its target read, nor written to. A FIFO holds up nobody."""
    target = stage.directory / "target"
    target.write_bytes(GOOD)
    target.chmod(0o600)
    for path in (stage.own_file, stage.port_file):
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        make(path, target)
        assert portfile.read(str(path), os.geteuid()).state is portfile.State.UNUSABLE
    assert said_pid(stage.connect()) == stage.record().pid == stage.record(stage.own_file).pid
    assert not stage.port_file.is_symlink() and stage.port_file.is_file()
    assert target.read_bytes() == GOOD


def test_a_directory_with_something_in_it_is_left_alone(stage):
    """In the home directory it is done without; in the run directory nothing can be done, and the reason is told."""
    stage.port_file.parent.mkdir(0o700, parents=True)
    stage.port_file.mkdir()
    (stage.port_file / "precious").touch()
    pid = said_pid(stage.connect())
    assert stage.record(stage.own_file).pid == pid and (stage.port_file / "precious").exists()
    stage.kill(pid)
    stage.own_file.unlink()
    stage.own_file.mkdir()
    (stage.own_file / "precious").touch()
    with pytest.raises(RegistryPlaceError, match="cannot be written: Directory not empty"):
        seat.claim(USER)
    with pytest.raises(RegistryUnavailableError, match="cannot be written: Directory not empty"):
        stage.connect()
    assert (stage.own_file / "precious").exists()


@pytest.mark.parametrize("make", NO_FILES)
def test_a_lock_that_is_no_file(stage, make):
    """It is never deleted, so it is refused with its name; in the home directory the place is done without."""
    target = stage.directory / "target"
    target.touch(0o600)
    for path, name in ((stage.port_file, host_name()), (stage.own_file, "registry")):
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        make(path.parent / f".{name}.lock", target)
        if path == stage.port_file:
            mine = seat.claim(USER)
            assert "lock" in mine.unusable[str(path.parent)] and not path.exists()
            mine.close()
            (stage.own_file.parent / ".registry.lock").unlink()
    with pytest.raises(RegistryPlaceError, match=r"the lock .*\.registry\.lock"):
        seat.claim(USER)
    with pytest.raises(RegistryUnavailableError, match=r"the lock .*\.registry\.lock"):
        stage.connect()
    assert target.read_bytes() == b""


@as_root
def test_a_foreign_lock(stage):
    """Another user, root say, has run a program in this home once."""
    stage.own_file.parent.mkdir(0o700)
    lock = stage.own_file.parent / ".registry.lock"
    lock.touch(0o600)
    os.chown(lock, OTHER, OTHER)
    with pytest.raises(RegistryPlaceError, match="no file of user"):
        seat.claim(USER)


def test_another_hosts_files_are_never_touched(stage):
    """(e) one file for each host name: those of others are others' to replace, however they look."""
    folder = stage.port_file.parent
    folder.mkdir(0o700, parents=True)
    others = {"elsewhere": GOOD, "half": GOOD[:30], "empty": b"", f"{host_name()}.lock": b"", f"{host_name()}.new": b"x"}
    for name, data in others.items():
        (folder / name).write_bytes(data)
    (folder / ".elsewhere.lock").touch()
    before = {name: (folder / name).stat() for name in [*others, ".elsewhere.lock"]}
    pid = said_pid(stage.connect())
    stage.kill(pid)
    said_pid(stage.connect())
    for name, facts in before.items():
        assert os.path.samestat(facts, (folder / name).stat()) and facts.st_mtime_ns == (folder / name).stat().st_mtime_ns
    assert sorted(os.listdir(folder)) == sorted([*before, host_name(), f".{host_name()}.lock"])


@pytest.mark.parametrize(
    "name, file",
    [("plain-1.example.org", "plain-1.example.org"), (".hidden", "%2ehidden"), ("a/../b", "a%2f..%2fb"), ("", "localhost"),
     ("..", "%2e."), ("a b\n%", "a%20b%0a%25"), ("ä", "%c3%a4")],
)  # fmt: skip
def test_host_names_as_file_names(monkeypatch, name, file):
    """(e) one file for each host name, whatever it is called."""
    monkeypatch.setattr("socket.gethostname", lambda: name)
    assert host_name() == file


def test_a_killed_writers_file_is_no_hindrance(stage):
    for path in (stage.own_file, stage.port_file):
        path.parent.mkdir(0o700, parents=True)
        (path.parent / f".{path.name}.new").write_text("half a rec")
    said_pid(stage.connect())
    assert not [name for path in (stage.own_file, stage.port_file) for name in os.listdir(path.parent) if name.endswith(".new")]


def test_facts_that_do_not_fit(stage):
    mine = seat.claim(USER)
    with mine.listen():
        with pytest.raises(RegistryPlaceError, match="8192 are allowed"):
            mine.announce({"route": "x" * 9000})
    mine.close()
