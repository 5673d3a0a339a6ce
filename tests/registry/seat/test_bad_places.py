"""Homes and run directories that cannot be used as they are: read-only, full, hanging, vanished, foreign. The registry does
without the home directory, and comes back to it by itself; without a run directory, it says what is wrong."""

import contextlib
import os
import shutil
import signal
import socket as kernel
import subprocess
import sys

import pytest
from seat_faults import OTHER, as_root, fill, hanging, read_only, tmpfs, with_mounts
from seat_harness import HOLDER, USER, WAIT_S, said_pid, until

from kvoshim.errors import RegistryPlaceError, RegistryStartError, RegistryUnavailableError, SeatLostError
from kvoshim.registry import seat
from kvoshim.registry.seat import place, portfile
from kvoshim.registry.seat.scope import host_name


@contextlib.contextmanager
def held(facts=None):
    """A seat of this process's, listening and announced."""
    mine = seat.claim(USER)
    sock = mine.listen()
    mine.announce(facts)
    mine.sock = sock
    try:
        yield mine
    finally:
        mine.sock.close()
        mine.close()


def look(mine) -> None:
    """What a daemon does now and then."""
    if (anew := mine.look()) is not None:
        mine.sock.close()
        mine.sock = anew


# --- the home directory ---------------------------------------------


@with_mounts
def test_a_read_only_home(stage):
    with read_only(stage.home):
        pid = said_pid(stage.connect())
        assert stage.client(*HOLDER).do("connect")["pid"] == pid and stage.holder_pids() == [pid]
        assert not os.listdir(stage.home)
    until(lambda: stage.record() and stage.record() == stage.record(stage.own_file))  # other sessions find it, too
    with read_only(stage.home):
        assert said_pid(stage.connect()) == pid
        stage.kill(pid)
        assert said_pid(stage.connect()) == stage.record(stage.own_file).pid != pid
        assert stage.record().pid == pid  # a stale one, and does no harm


@with_mounts
@pytest.mark.parametrize("options", ["size=64k", "nr_inodes=12"])
def test_a_full_home(stage, options):
    """No bytes are left, or no inodes."""
    with tmpfs(stage.home, options):
        names = []
        if "size" in options:
            stage.port_file.parent.mkdir(0o700, parents=True)
            names.append(fill(stage.home))
        else:
            with contextlib.suppress(OSError):
                for number in range(20):
                    names.append(stage.home / str(number))
                    names[-1].touch()
        pid = said_pid(stage.connect())
        assert stage.client(*HOLDER).do("connect")["pid"] == pid
        assert not stage.port_file.exists()  # no empty file says that somebody is becoming the registry
        for name in names:
            name.unlink(missing_ok=True)
        until(lambda: stage.record() == stage.record(stage.own_file))


@with_mounts
def test_a_home_that_hangs(stage):
    """As one over the network does: nobody waits for it longer than is decided."""
    with hanging(stage.home):
        with held() as mine:
            assert "did not answer within 2 s" in mine.unusable[str(stage.port_file.parent)]
            contact = portfile.read(str(stage.own_file), os.geteuid())
            assert contact.record.address == mine.address == stage.known_place
            look(mine)
        explained = seat.explain()
        assert [step for step in explained.steps if "has not answered" in step.words or "did not answer" in step.words]
        with pytest.raises(RegistryUnavailableError, match="answer"):
            seat.connect(start=False)


@with_mounts
def test_a_home_that_begins_to_hang_and_comes_back(stage):
    pid = said_pid(stage.connect())
    with hanging(stage.home):
        client = stage.client(*HOLDER)
        assert client.do("connect")["pid"] == pid  # the run directory says all
    assert said_pid(stage.connect()) == pid and stage.record().pid == pid
    stage.port_file.unlink()
    until(lambda: stage.record() is not None and stage.record().pid == pid)


def test_a_home_that_vanishes_and_comes_back(stage):
    with held({"a": "b"}) as mine:
        away = stage.directory / "away"
        stage.home.rename(away)
        look(mine)
        assert "No such file" in mine.unusable[str(stage.port_file.parent)]
        stage.home.mkdir(0o700)  # another one
        look(mine)
        assert stage.record() == stage.record(stage.own_file) and stage.record().facts == {"a": "b"} and not mine.unusable
        shutil.rmtree(stage.home)
        away.rename(stage.home)  # and the first one again
        look(mine)
        assert stage.record().address == mine.address
    assert not stage.port_file.exists()


def test_no_home_at_all(stage, monkeypatch):
    monkeypatch.setenv("HOME", str(stage.directory / "none"))
    with held() as mine:
        assert list(mine.unusable) == [str(stage.directory / "none" / ".kvoshim" / "registry")]
    monkeypatch.setenv("HOME", "relative")
    assert len(USER.places()) == 1


@pytest.mark.parametrize("spoil", ["a file", "others may write"])
def test_a_home_that_cannot_be_trusted(stage, spoil):
    folder = stage.port_file.parent
    if spoil == "a file":
        folder.parent.touch()
    else:
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    with held() as mine:
        assert mine.unusable[str(folder)]
        assert said_pid_of(stage, mine)


def said_pid_of(stage, mine) -> bool:
    """Whether a client process finds this process's seat."""
    client = stage.client()
    client.tell("connect")
    sock = accepted(mine)
    mine.accept_proof(sock, WAIT_S)
    sock.sendall(b"%d\n" % os.getpid())
    answer = client.answer()
    sock.close()
    return answer.get("pid") == os.getpid()


def accepted(mine) -> kernel.socket:
    def take():
        with contextlib.suppress(BlockingIOError):
            return mine.sock.accept()[0]

    return until(take)


def test_a_home_that_lies_elsewhere(stage):
    """Links are the user's own business there."""
    elsewhere = stage.directory / "elsewhere"
    elsewhere.mkdir(0o700)
    (stage.home / ".kvoshim").symlink_to(elsewhere)
    pid = said_pid(stage.connect())
    assert stage.record(elsewhere / "registry" / host_name()).pid == pid


@as_root
def test_another_users_home(stage):
    """A program started by sudo with its caller's HOME leaves nothing there that the caller could not write any more."""
    os.chown(stage.home, OTHER, OTHER)
    with held() as mine:
        assert f"home directory belongs to user {OTHER}" in mine.unusable[str(stage.port_file.parent)]
        assert not os.listdir(stage.home)


# --- the run directory ---------------------------------------------


def test_a_missing_run_directory(stage, monkeypatch):
    """(h) made anew with each use: some systems remove it when the user has logged out."""
    with held() as mine:
        shutil.rmtree(stage.own_file.parent)
        look(mine)
        assert stage.record(stage.own_file) == stage.record() and os.path.exists(mine.address)
        assert said_pid_of(stage, mine)


def test_what_is_tidied_away_comes_back(stage):
    """Cleaners of /tmp remove what is old, one by one."""
    for name in ("port file", "own file", "socket", "own lock", "home's lock"):
        with held() as mine:
            path = {"port file": stage.port_file, "own file": stage.own_file, "socket": mine.address,
                    "own lock": stage.own_file.parent / ".registry.lock",
                    "home's lock": stage.port_file.parent / f".{host_name()}.lock"}[name]  # fmt: skip
            os.unlink(path)
            look(mine)
            assert os.path.exists(path)
            assert seat.claim(USER) is None
            assert said_pid_of(stage, mine)


def test_the_run_directory_goes_while_the_registry_runs(stage):
    pid = said_pid(stage.connect())
    stage.own_file.parent.rename(stage.directory / "away")
    answer = stage.client(*HOLDER).do("connect")
    assert answer["pid"] == pid and stage.holder_pids() == [pid]


def test_a_run_directory_of_no_use(stage, monkeypatch):
    """Nothing can be done without one: the reason is told."""
    stage.own_file.parent.touch()
    with pytest.raises(RegistryPlaceError, match="is not to be trusted: it is no directory"):
        seat.claim(USER)
    with pytest.raises(RegistryUnavailableError, match="it is no directory"):
        stage.connect()
    stage.own_file.parent.unlink()
    stage.own_file.parent.symlink_to(stage.home)
    with pytest.raises(RegistryPlaceError, match="it is no directory"):
        seat.claim(USER)
    stage.own_file.parent.unlink()
    stage.own_file.parent.mkdir(0o755)
    with pytest.raises(RegistryPlaceError, match="others may use it"):
        seat.claim(USER)


@with_mounts
@pytest.mark.parametrize("how", ["read-only", "full"])
def test_a_run_directory_without_room(stage, how):
    with tmpfs(stage.run, "size=64k"):
        stage.own_file.parent.mkdir(0o700)
        if how == "full":
            ballast = fill(stage.run)
            mine = seat.claim(USER)  # the files are empty still
            with mine.listen(), pytest.raises(RegistryPlaceError, match="No space left"):
                mine.announce()
            mine.close()
            with pytest.raises(RegistryStartError, match="No space left"):
                stage.connect()
            ballast.unlink()
        else:
            with read_only(stage.run):
                with pytest.raises(RegistryPlaceError, match="Read-only file system"):
                    seat.claim(USER)
                with pytest.raises(RegistryUnavailableError, match="Read-only file system"):
                    stage.connect()
        assert said_pid(stage.connect())
        stage.kill(stage.record().pid)


def test_a_place_too_long_for_a_socket(stage, monkeypatch):
    deep = stage.run / ("x" * 90)
    deep.mkdir(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(RegistryStartError, match="longer than a socket's may be, 107 bytes"):
        stage.connect()


@pytest.mark.parametrize("what", ["file", "directory"])
def test_the_known_place_is_no_socket(stage, what):
    """It is left alone: whoever made it may need it."""
    stage.own_file.parent.mkdir(0o700)
    path = stage.own_file.parent / "registry.sock"
    path.touch() if what == "file" else path.mkdir()
    contact = stage.connect()
    assert said_pid(contact) and contact.address != str(path) and path.exists()


# --- several at once ---------------------------------------------


def test_the_lock_is_another_machines(stage):
    """(e) two machines of one name share a home: each has a registry, found through its run directory."""
    folder = stage.port_file.parent
    folder.mkdir(0o700, parents=True)
    far = place.Place(str(folder), host_name(), os.geteuid())
    fd = far.take()
    portfile.replace(far.path, portfile.line(portfile.Record(address="/run/far", cookie="00" * 32, pid=1, start=1, boot="another")))
    pid = said_pid(stage.connect())
    assert stage.record().boot == "another" and stage.record(stage.own_file).pid == pid
    os.close(fd)
    until(lambda: stage.record().pid == pid)  # the other machine is gone


def test_one_that_lost_its_place_ends(stage):
    """Two that could not see each other, since the first had no home for a while: the home directory decides, and the first one's
    clients find the other."""
    stage.port_file.parent.parent.touch()
    alone = stage.holder()
    client = stage.client(*HOLDER)
    assert client.do("connect")["pid"] == alone.pid
    client.tell("wait")
    stage.stop(alone.pid)
    stage.port_file.parent.parent.unlink()
    run = stage.directory / "other"
    run.mkdir(0o700)
    other = stage.holder(XDG_RUNTIME_DIR=str(run))
    os.kill(alone.pid, signal.SIGCONT)
    assert alone.wait(WAIT_S) == 0 and client.answer() == {"ended": alone.pid}
    assert client.do("race")["pid"] == other.pid


def test_who_finds_another_in_its_place_is_told(stage):
    with held() as mine:
        stage.own_file.parent.rename(stage.directory / "away")
        (stage.home / ".kvoshim").rename(stage.home / "away")
        other = stage.holder()
        with pytest.raises(SeatLostError):
            mine.look()
        mine.sock.close()
    assert stage.record().pid == other.pid, "what is the other's now stays"
    assert said_pid(stage.connect()) == other.pid


def test_the_host_gets_another_name(stage, monkeypatch):
    """(d): its registry stays the one; its file moves."""
    monkeypatch.setattr("socket.gethostname", lambda: "first")
    with held() as mine:
        first = stage.port_file
        assert first.name == "first" and stage.record(first)
        monkeypatch.setattr("socket.gethostname", lambda: "second")
        look(mine)
        assert stage.record(first.parent / "second").address == mine.address
        assert seat.claim(USER) is None


CONTENDER = """
import os, signal, sys, time
from kvoshim.registry import seat

def hold(crash):
    mine = seat.claim(seat.Scope())
    if mine is None:
        return 1
    with open(sys.argv[1], "x"):  # FileExistsError: another one has it, too
        pass
    with mine.listen():
        mine.announce()
        os.unlink(sys.argv[1])
        if crash:
            os.kill(os.getpid(), signal.SIGKILL)
    mine.close()
    return 0

sys.stdin.readline()
won, end = 0, time.monotonic() + 2
while time.monotonic() < end:
    if (pid := os.fork()) == 0:
        code = 2
        try:
            code = hold(won % 3 == 1)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, 1, -signal.SIGKILL), code
    won += code != 1
print(won)
"""


def test_many_contenders(stage):
    """(h) exclusively: real processes, all claiming at once, again and again; one has it at a time."""
    words = [sys.executable, "-P", "-c", CONTENDER, str(stage.directory / "flag")]
    contenders = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=stage.environment) for _ in range(8)
    ]
    for contender in contenders:
        contender.stdin.write("\n")
        contender.stdin.flush()
    won = [int(contender.communicate(timeout=60)[0] or -1) for contender in contenders]
    assert [contender.returncode for contender in contenders] == [0] * 8 and sum(won) > 8
    assert seat.claim(USER).close() is None
