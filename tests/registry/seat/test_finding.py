"""Finding the registry of this user on this host, and starting it where there is none."""

import os
import stat

import pytest
from seat_harness import HOLDER, USER, said_pid

from kvoshim import socket
from kvoshim.errors import RegistryHungError, RegistryStartError, RegistryUnavailableError
from kvoshim.registry import seat
from kvoshim.registry.seat import portfile


def test_the_first_starts_it_and_the_next_finds_it(stage):
    """(d) one for each user and host; (h) read, connect, prove, else become one."""
    first = stage.connect()
    pid = said_pid(first)
    second = stage.connect()
    assert said_pid(second) == pid == first.pid == stage.record().pid
    assert stage.holder_pids() == [pid]
    assert first.uid == os.geteuid() and first.scope == USER and first.facts == {"who": "holder"}
    assert first.address == stage.known_place == stage.record().address


def test_the_files_are_the_users_alone(stage):
    """(a) user-centred by nature."""
    stage.connect()
    for path in (stage.port_file, stage.own_file, stage.known_place):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    for path in (stage.port_file.parent, stage.port_file.parent.parent, stage.own_file.parent):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert stage.port_file.read_bytes().endswith(b"\n") and stage.port_file.read_bytes() == stage.own_file.read_bytes()


def test_another_session_of_the_user_finds_it_through_the_home_directory(stage):
    """(d): a cron job has another run directory, and the same home."""
    pid = said_pid(stage.connect())
    other = stage.directory / "other"
    other.mkdir(0o700)
    assert stage.client(*HOLDER, XDG_RUNTIME_DIR=str(other)).do("connect")["pid"] == pid


def test_many_at_once_start_one(stage):
    """(h) create exclusively to win."""
    clients = [stage.client(*HOLDER) for _ in range(12)]
    for client in clients:
        client.tell("connect")
    answers = [client.answer() for client in clients]
    assert {answer.get("pid") for answer in answers} == set(stage.holder_pids()), answers
    assert len(stage.holder_pids()) == 1


def test_without_permission_to_start_nothing_is_started(stage):
    with pytest.raises(RegistryUnavailableError, match="kvoshim registry serve") as caught:
        seat.connect(start=False)
    assert isinstance(caught.value, ConnectionError) and not isinstance(caught.value, RegistryHungError)
    assert stage.holder_pids() == [] and not stage.own_file.parent.exists() and not stage.port_file.parent.exists()


def test_a_registry_that_cannot_start_says_why(stage):
    with pytest.raises(RegistryStartError, match="exited with 7: out of order"):
        seat.connect(start=["sh", "-c", "echo out of order >&2; exit 7", "sh"])
    with pytest.raises(RegistryStartError, match="no such program"):
        seat.connect(start=["/no such program"])


def test_a_function_may_start_it(stage):
    asked = []

    def start(scope):
        asked.append(scope)
        stage.holder()

    contact = stage.connect(start=start)
    assert asked == [USER] and said_pid(contact) == stage.holders[0].pid


def test_a_stale_file_is_replaced(stage):
    """(h) nobody listens at the recorded place: it is erased, and there is a new registry."""
    old = said_pid(stage.connect())
    stage.kill(old)
    assert stage.record().pid == old and os.path.exists(stage.known_place)
    contact = stage.connect()
    assert said_pid(contact) == stage.record().pid != old
    assert contact.address == stage.known_place


def test_a_stranger_at_the_recorded_place(stage):
    """(h) prove it is a registry, else erase the file and become one; (i) the known place is taken: a new one is told of
    through the file."""
    old = said_pid(stage.connect())
    stage.kill(old)
    os.unlink(stage.known_place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
        stranger.bind(stage.known_place)
        stranger.listen()
        contact = stage.connect()
        assert said_pid(contact) != old
        assert contact.address != stage.known_place and contact.address == stage.record().address
        assert os.path.exists(stage.known_place)  # it stays the stranger's


def test_one_that_proves_itself_has_read_the_file(stage):
    """The registry, too, asks for proof: who merely finds the socket is nobody."""
    stage.connect()
    for said in (b"GET / HTTP/1.0\r\n\r\n", b"KVOSEAT1" + bytes(16 + 32)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(30)
            sock.connect(stage.known_place)
            sock.sendall(said)
            got = b""
            try:
                while data := sock.recv(4096):
                    got += data
            except ConnectionError:
                pass
            assert len(got) in (0, 48)  # at most its own half of the proof


def test_facts_travel_in_the_file(stage):
    mine = seat.claim(USER)
    with mine.listen():
        mine.announce({"route": "nats://10.0.0.1:6222"})
        assert stage.record().facts == {"route": "nats://10.0.0.1:6222"}
        assert stage.record(stage.own_file) == stage.record()
        assert stage.record().boot == portfile.boot_id()
    mine.close()
    assert not stage.port_file.exists() and not stage.own_file.exists() and not os.path.exists(stage.known_place)
