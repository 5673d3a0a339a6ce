"""What happens when the holder dies: those who had found it find one successor."""

import os
import signal

import pytest
from seat_harness import HOLDER, USER, said_pid, until

from kvoshim import socket
from kvoshim.errors import RegistryHungError
from kvoshim.registry import seat


def lose(clients, stage, pid):
    """Kills the holder under its clients, and has all race for the place; returns what they found."""
    for client in clients:
        client.tell("wait")
    os.kill(pid, signal.SIGKILL)
    for client in clients:
        assert client.answer() == {"ended": pid}
        client.tell("race")
    return [client.answer() for client in clients]


def test_all_find_one_successor_at_the_known_place(stage):
    """(i) on the death of the holder all race for the known place, one becomes the registry, the others find it there."""
    clients = [stage.client(*HOLDER) for _ in range(10)]
    (pid,) = {client.do("connect")["pid"] for client in clients}
    for _ in range(5):
        answers = lose(clients, stage, pid)
        (successor,) = {answer.get("pid") for answer in answers}
        assert successor != pid and stage.holder_pids() == [successor]
        assert {answer["address"] for answer in answers} == {stage.known_place}
        pid = successor


def test_the_known_place_is_taken_by_a_stranger(stage):
    """(i), where a stranger is quicker: the new place is told of through the file."""
    clients = [stage.client(*HOLDER) for _ in range(4)]
    (pid,) = {client.do("connect")["pid"] for client in clients}
    stage.stop(pid)
    os.unlink(stage.known_place)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
        stranger.bind(stage.known_place)
        stranger.listen()
        answers = lose(clients, stage, pid)
        assert len({answer.get("pid") for answer in answers}) == 1
        (address,) = {answer["address"] for answer in answers}
        assert address == stage.record().address != stage.known_place
    successor = answers[0]["pid"]
    (again,) = {answer.get("pid") for answer in lose(clients, stage, successor)}
    assert again != successor and stage.record().address == stage.known_place  # it is free again


@pytest.mark.parametrize("phase", ["claim", "listen"])
def test_a_creator_that_died_on_the_way(stage, phase):
    """(h), where the creator is dead: an empty file that nobody's lock stands behind holds up nobody."""
    creator = stage.holder("--hold", phase, ready=False)
    assert creator.stdout.readline().strip() == phase.encode()
    assert stage.port_file.read_bytes() == stage.own_file.read_bytes() == b""
    stage.kill(creator.pid)
    assert stage.port_file.read_bytes() == b""
    assert said_pid(stage.connect()) != creator.pid
    assert stage.record() is not None


def test_an_empty_file_is_waited_for(stage):
    """(h) empty = someone is starting: wait."""
    creator = stage.holder("--hold", "listen", ready=False)
    assert creator.stdout.readline().strip() == b"listen"
    client = stage.client(*HOLDER)
    client.tell("connect")
    until(lambda: stage.own_file.read_bytes() == b"")
    with pytest.raises(RegistryHungError, match=f"PID {creator.pid} holds the registry's place.*it is empty"):
        seat.connect(timeout=0.3, start=HOLDER)
    assert seat.claim(USER) is None
    os.kill(creator.pid, signal.SIGUSR1)  # goes on
    assert client.answer()["pid"] == creator.pid


def test_a_holder_that_hangs_is_not_replaced(stage):
    """It may go on at any moment, and then there would be two."""
    holder = stage.holder()
    client = stage.client(*HOLDER)
    stage.stop(holder.pid)
    with pytest.raises(RegistryHungError, match=f"PID {holder.pid} holds .* gives no answer"):
        seat.connect(timeout=1.5, start=HOLDER)
    client.tell("connect")
    os.kill(holder.pid, signal.SIGCONT)
    assert client.answer()["pid"] == holder.pid
    assert stage.holder_pids() == [holder.pid]


def test_a_second_holder_is_refused(stage):
    holder = stage.holder()
    second = stage.holder(ready=False)
    assert second.wait(30) == 3
    assert seat.claim(USER) is None
    assert said_pid(stage.connect()) == holder.pid
