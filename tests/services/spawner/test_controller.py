"""The controller dies, at any moment, and comes back: no child notices, none is started twice, no end is lost."""

import collections
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from controllers import LONG, RUNS, SERVICES
from spawner_harness import WAIT_S, event, shell, sleeper, until

from kvoshim import identity
from kvoshim.errors import SpawnerError, SpawnerUnavailableError
from kvoshim.process.loop import Loop
from kvoshim.services.spawner import packets, wire
from kvoshim.services.spawner.client import runs
from kvoshim.services.spawner.messages import Exited, Refused, Signalled, Spawned

MAKER = Path(__file__).with_name("controllers.py")


def lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1] if path.exists() else []


def test_fifty_kills_of_the_controller(host):
    draw = random.Random(7)
    directory = host.directory
    command = [sys.executable, "-P", str(MAKER), host.socket, str(directory)]
    maker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    first = {}
    try:
        for number in range(51):
            maker.stdin.write(b"go\n")
            maker.stdin.flush()
            pid = int(maker.stdout.readline())
            if number == 0:  # this one brings them all up
                until(lambda: len({int(token) // RUNS for token in lines(directory / "starts")}) == SERVICES, "all services run")
                for child in psutil_children(host):
                    first.setdefault(child, identity.start_time(child))
            time.sleep(draw.uniform(0, 0.06))
            os.kill(pid, signal.SIGKILL)
    finally:
        maker.stdin.close()
        maker.wait(WAIT_S)
        maker.stdout.close()
    assert not lines(directory / "problems")
    listing = host.client().list()
    starts = [int(token) for token in lines(directory / "starts")]
    assert collections.Counter(starts).most_common(1)[0][1] == 1, "a token was started twice"
    for service in range(LONG):  # never interrupted
        [child] = [one for token, one in listing.children.items() if token // RUNS == service]
        assert child.token == service * RUNS + 1 and runs(child)
        assert first[child.pid] == child.start and identity.alive(child.pid, child.start)
    ends = [line.split() for line in lines(directory / "ends")]
    assert {status for _, status in ends} == {str(3 << 8)}
    known = {int(token) for token, _ in ends} | set(listing.children)
    assert set(starts) <= known, "an end was lost"
    for service in range(LONG, SERVICES):
        mine = sorted(token % RUNS for token in starts if token // RUNS == service)
        assert mine == list(range(1, len(mine) + 1)) and len(mine) > 10, "they went on all the time, without a gap"


def psutil_children(host) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{host.process.pid}/task/{host.process.pid}/children").read_text().split()]


def test_what_ends_without_a_controller_is_in_the_next_ones_list(host):
    client = host.client()
    order = shell("read x; exit 9", fds={0: (pair := socket.socketpair())[0].fileno()})
    client.spawn(order)
    event(client, Spawned)
    client.close()
    pair[1].send(b"\n")
    until(lambda: not psutil_children(host), "it has ended")
    for end in pair:
        end.close()
    child = host.client().list().children[order.token]
    assert not child.alive and os.waitstatus_to_exitcode(child.status) == 9


def test_descriptors_are_kept(host):
    client = host.client()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(host.directory / "service"))
        listener.listen(5)
        client.hold("listener of web:default", listener.fileno())
        with pytest.raises(SpawnerError, match="File exists"):
            client.hold("listener of web:default", listener.fileno())
    client.close()
    client = host.client()
    assert client.list().held == {"listener of web:default"}
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(host.directory / "service"))  # nobody but the spawner has it open
        with socket.socket(fileno=client.fetch("listener of web:default")) as again:
            assert not os.get_inheritable(again.fileno())
            again.accept()[0].close()
        client.drop("listener of web:default")
        with socket.socket(socket.AF_UNIX) as second, pytest.raises(ConnectionRefusedError):
            second.connect(str(host.directory / "service"))
    for ask in (client.fetch, client.drop):
        with pytest.raises(SpawnerError, match="No such file"):
            ask("listener of web:default")
    assert client.list().held == frozenset()


def test_signals_wait_for_a_controller(host):
    for signo in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR1):
        host.process.send_signal(signo)
    pending = f"/proc/{host.process.pid}/status"
    until(lambda: "ShdPnd:\t0000000000000000" in Path(pending).read_text(), "taken")
    client = host.client()
    assert [event(client, Signalled).signo for _ in range(2)] == [signal.SIGHUP, signal.SIGUSR1]
    host.process.send_signal(signal.SIGWINCH)
    assert event(client, Signalled).signo == signal.SIGWINCH


def test_a_controller_that_does_not_read_loses_nothing(host):
    """Requests whose answers find no room are not taken; news wait in the table. Then it reads, and all is there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(host.socket)
        sock.setblocking(False)
        ids = [shell("exit 5") for _ in range(60)]
        for order in ids:
            sock.send(packets.spawn(order, order.token)[0])
        asked = 0
        try:
            while asked < 100000:  # each is answered by 61 messages
                sock.send(packets.simple(wire.Type.LIST, asked + 1))
                asked += 1
        except BlockingIOError:
            pass
        assert 10 < asked < 100000
        before = cpu(host)
        time.sleep(0.2)
        assert cpu(host) - before <= 0.05, "it waits without work"
        sock.setblocking(True)
        sock.settimeout(WAIT_S)
        answered, seen = 0, {}
        while answered < asked or len(seen) < len(ids):
            message = packets.decode(sock.recv(wire.MESSAGE_MAX))
            child = getattr(message, "child", None)
            if child is not None and not child.alive:
                seen[child.token] = child.status
            answered += type(message).__name__ == "End"
        assert seen == {order.token: 5 << 8 for order in ids} and answered == asked


def cpu(host) -> float:
    fields = Path(f"/proc/{host.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_client_on_a_loop(host):
    """Messages come through the loop, also those that arrive while a request waits for its answer; and the spawner's end."""
    client, loop, seen = host.client(), Loop(), []

    def handle(message):
        seen.append(message)
        if isinstance(message, Exited):
            client.acknowledge(message.child.token)
        if sum(isinstance(one, Exited) for one in seen) == 20:
            loop.stop()

    client.attach(loop, handle, lost=lambda error: (seen.append(error), loop.stop()))
    for _ in range(20):
        client.spawn(shell("exit 1"))
        client.hold("x", 0)
        client.drop("x")
    client.spawn(doubled := sleeper())
    client.spawn(doubled)
    loop.call_later(WAIT_S, loop.stop)
    loop.run_forever()
    assert sum(isinstance(one, Spawned) for one in seen) >= 20 and sum(isinstance(one, Exited) for one in seen) == 20
    assert not any(not one.alive for one in client.list().children.values())
    until(lambda: loop_once(loop) or any(isinstance(one, Refused) and one.token == doubled.token for one in seen))
    client.signal(doubled.token, signal.SIGKILL)
    host.process.kill()
    loop.run_forever()
    assert isinstance(seen[-1], SpawnerUnavailableError)
    client.close()
    loop.close()


def loop_once(loop) -> None:
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
