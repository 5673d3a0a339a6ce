"""Daemons that are kept alive, signals, and the end in order; at the top of a PID namespace too, as in a container."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from spawner_harness import WAIT_S, event, shell, sleeper, until

from kvoshim import identity
from kvoshim.errors import SpawnerUnavailableError
from kvoshim.services.spawner.messages import Exited, Signalled, Spawned, Stop, Stranger

NAMESPACE = ("unshare", "--fork", "--pid", "--mount-proc", "--kill-child")


def init(host) -> psutil.Process:
    """The spawner, seen from outside of its namespace."""
    [process] = psutil.Process(host.process.pid).children()
    assert process.name() == "kvoshim-spawner"
    return process


def lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1] if path.exists() else []


# --- daemons ---------------------------------------------


def test_daemons_start_again_and_nobody_else_notices(place):
    first, second = (("/bin/sh", "-c", f"echo $$ >> {place.directory}/{name}; exec sleep 1000") for name in ("one", "two"))
    place.start(first, second, term_s=0.5)
    one, two = (until(lambda name=name: lines(place.directory / name)) for name in ("one", "two"))
    client = place.client()
    client.spawn(order := sleeper())
    child = event(client, Spawned).child
    for number in range(2, 5):
        os.kill(int(lines(place.directory / "one")[-1]), signal.SIGKILL)
        until(lambda: len(lines(place.directory / "one")) == number, "it is there again")  # noqa: B023
    assert lines(place.directory / "two") == two and one[0] == lines(place.directory / "one")[0]
    assert client.list().children[order.token] == child and identity.alive(child.pid, child.start)
    assert "/bin/sh ended: code 0, signal 9" in place.said()


def test_a_daemon_that_fails_at_once_is_tried_ever_more_slowly(place):
    began = time.monotonic()
    place.start(("/bin/sh", "-c", f"echo x >> {place.directory}/tries; exit 1"), ("/none/daemon",), ("/bin/sleep", "1000"))
    until(lambda: len(lines(place.directory / "tries")) == 5, "five tries")
    assert time.monotonic() - began >= 0.05 + 0.1 + 0.2 + 0.4
    assert place.client().list().children == {}
    assert "cannot run /none/daemon: No such file" in place.said() and "/bin/sh ended: code 1" in place.said()


# --- the end ---------------------------------------------


@pytest.mark.parametrize("prefix", [(), NAMESPACE], ids=["below", "PID 1"])
def test_the_end_in_order(place, prefix):
    """A signal asks the controller; what it stops ends first; its code is the spawner's."""
    place.start(prefix=prefix, term_s=5)
    spawner = init(place) if prefix else place.process
    client = place.client()
    assert client.hello.pid_1 == bool(prefix) and not client.hello.stopping
    orders = [shell("trap 'exit 0' TERM; while :; do sleep 0.01; done") for _ in range(2)]
    for order in orders:
        client.spawn(order)
    straggler = sleeper()
    client.spawn(straggler)
    for _ in range(3):
        event(client, Spawned)
    spawner.send_signal(signal.SIGTERM)
    stop = wait_for(client, Stop)
    assert (stop.signo, 0 < stop.within_s <= 30) == (signal.SIGTERM, True)
    for order in orders:
        client.signal(order.token, signal.SIGTERM)
        assert wait_for(client, Exited).child.token == order.token
    client.finish(7 << 8)
    assert place.process.wait(WAIT_S) == 7
    assert not os.path.exists(place.socket)
    with pytest.raises(SpawnerUnavailableError):
        while client.receive(WAIT_S):
            pass


def wait_for(client, kind):
    """The next message of this kind; what comes before is passed over (orphans, mostly)."""
    while not isinstance(message := client.receive(WAIT_S), kind):
        assert message is not None, kind
    return message


@pytest.mark.parametrize("status, ok, code", [
    (0, (), 0), (3 << 8, (), 3), (signal.SIGKILL, (), 137), (signal.SIGTERM, (143,), 0), (2 << 8, (2,), 0),
])  # fmt: skip
def test_exit_codes(place, status, ok, code):
    place.start(prefix=NAMESPACE, ok=ok)
    client = place.client()
    client.finish(status)  # without a signal: the controller has decided
    assert place.process.wait(WAIT_S) == code


@pytest.mark.parametrize("prefix", [(), NAMESPACE], ids=["below", "PID 1"])
def test_what_ignores_everything_is_killed(place, prefix):
    """No controller answers in time; a service, its orphan and a daemon ignore SIGTERM; one is stopped."""
    stubborn = "trap '' TERM; echo >> {}/up; while :; do sleep 1; done"
    daemon = ("/bin/sh", "-c", stubborn.format(place.directory))
    place.start(daemon, prefix=prefix, grace_s=0.1, term_s=0.2)
    spawner = init(place) if prefix else place.process
    client = place.client()
    client.spawn(shell(stubborn.format(place.directory)))
    client.spawn(shell(f"setsid sh -c '{stubborn.format(place.directory).replace(chr(39), chr(34))}' & exit 0"))
    client.spawn(order := sleeper())
    until(lambda: len(lines(place.directory / "up")) == 3, "all are there")
    below = [(p.pid, identity.start_time(p.pid)) for p in psutil.Process(spawner.pid).children(recursive=True)]
    assert len(below) >= 4
    client.signal(order.token, signal.SIGSTOP)
    spawner.send_signal(signal.SIGINT)
    wait_for(client, Stop)
    assert place.process.wait(WAIT_S) == 128 + signal.SIGINT
    for pid, start in below:
        until(lambda pid=pid, start=start: not identity.alive(pid, start), "it is gone")


def test_a_second_signal_is_impatient(place):
    place.start(term_s=0.2, grace_s=1000)
    client = place.client()
    place.process.send_signal(signal.SIGTERM)
    event(client, Stop)
    place.process.send_signal(signal.SIGTERM)
    assert place.process.wait(WAIT_S) == 128 + signal.SIGTERM


def test_a_controller_that_comes_in_the_middle_of_the_end_is_told(place):
    place.start(("/bin/sleep", "1000"), grace_s=1000, term_s=0.2)
    client = place.client()
    place.process.send_signal(signal.SIGTERM)
    event(client, Stop)
    client.close()
    client = place.client()
    assert client.hello.stopping
    assert 0 < event(client, Stop).within_s <= 1000
    client.finish()
    assert place.process.wait(WAIT_S) == 0


# --- as PID 1 ---------------------------------------------


def test_pid_1_reaps_strangers_and_forwards_signals(place):
    place.start(prefix=NAMESPACE, term_s=0.5)
    spawner = init(place)
    client = place.client()
    assert client.hello.pid == 1
    for _ in range(20):  # each leaves an orphan, which leaves one
        client.spawn(shell("(setsid sh -c '(sleep 0.02; exit 4) & exit 0' & exit 0) & exit 0"))
    codes = []
    while codes.count(4) < 20:
        message = client.receive(WAIT_S)
        assert message is not None
        if isinstance(message, Stranger):
            codes.append(os.waitstatus_to_exitcode(message.status))
        elif isinstance(message, Exited):
            client.acknowledge(message.child.token)
    until(lambda: not spawner.children(), "nobody is left, no zombie either")
    for signo in (signal.SIGHUP, signal.SIGUSR2, signal.SIGQUIT, signal.SIGRTMIN + 3):
        spawner.send_signal(signo)
        assert wait_for(client, Signalled).signo == signo
    client.finish()
    assert place.process.wait(WAIT_S) == 0
