"""How services say that they are ready, and that they are alive."""

import os
import socket
import subprocess
import sys
import time

import pytest
from spawner_harness import event, shell, until

from kvoshim.errors import InvalidOrderError
from kvoshim.services.spawner import ids, limits, notify, ready
from kvoshim.services.spawner.messages import Exited, Spawned
from kvoshim.services.spawner.notify import NotifySocket, Sender, parse, speaks_for
from kvoshim.services.spawner.ready import NewlineReadiness, Poll, Readiness
from kvoshim.services.spawner.tree import Tree

ME = Sender(1, 0, 0)


# --- sd_notify ---------------------------------------------


def test_every_variable_has_its_field():
    said = parse(b"READY=1\nSTATUS=so far \x1b[31m so good\nMAINPID=42\nWATCHDOG=1\nWATCHDOG_USEC=500000\nRELOADING=1\n"
                 b"MONOTONIC_USEC=77\nSTOPPING=1\nERRNO=2\nFDSTORE=1\nFDNAME=listener\nX_OWN=word\nEXTEND_TIMEOUT_USEC=5\n", ME, (9,))
    assert said.ready and said.reloading and said.stopping and said.watchdog and said.store and not said.barrier and not said.remove
    assert (said.main_pid, said.watchdog_us, said.reload_us, said.errno, said.extend_us) == (42, 500000, 77, 2, 5)
    assert said.status == "so far  [31m so good" and said.fd_name == "listener" and said.fds == (9,)
    assert said.others == (("X_OWN", "word"),) and parse(b"FDSTOREREMOVE=1", ME).remove and parse(b"WATCHDOG=trigger", ME).trigger


@pytest.mark.parametrize("data", [
    b"READY", b"READY=2", b"ready=1", b"MAINPID=x", b"MAINPID=-1", b"MAINPID=99999999", b"WATCHDOG_USEC=1" + b"0" * 30, b"WATCHDOG=2",
    b"FDNAME=a:b", b"FDNAME=", b"\xff", b"BARRIER=1", b"=1", b"MAINPID=\xd9\xa3",
])  # fmt: skip
def test_what_is_no_notification_is_refused(data):
    with pytest.raises(ValueError):
        parse(data, ME)


def test_only_a_services_own_processes_are_heard(host):
    """A service speaks through its socket, from a process below that is gone at once, while nobody reads. Strangers are not heard."""
    directory = host.directory
    path = str(directory / "notify")
    client = host.client()
    os.chmod(directory, 0o755)
    sock = notify.bind(path)
    client.hold("notify:web", sock.fileno())
    sock.close()  # nobody reads for now
    (directory / "say.pl").write_text(f"""use Socket; socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die $!;
send($s, $ARGV[0], 0, pack_sockaddr_un('{path}')) or die $!;""")
    ours, theirs = socket.socketpair()
    said = "READY=1\nMAINPID='$$'"
    client.spawn(shell(f"perl {directory}/say.pl '{said}'; read x", fds={0: theirs.fileno()}))
    child = event(client, Spawned).child
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"STATUS=me", path)
    subprocess.run(["setpriv", "--reuid", "1234", "--clear-groups", "perl", directory / "say.pl", "STATUS=gone"], check=True)
    tree = Tree(child.pid, child.start)
    reader = NotifySocket(socket.socket(fileno=client.fetch("notify:web")), lambda sender: speaks_for(sender, tree.contains, 0))
    found = []
    until(lambda: found.extend(reader.receive()) or found and reader.refused == 2, "it says that it is ready")
    assert len(found) == 1 and found[0].ready and found[0].main_pid == child.pid
    assert "is none of this service's" in reader.problem
    reader.close()
    ours.send(b"\n")
    event(client, Exited)
    ours.close()
    theirs.close()


def test_descriptors_come_along_and_barriers_let_go(tmp_path):
    sock = notify.bind(str(tmp_path / "notify"))
    reader = NotifySocket(sock, lambda sender: sender.pid == os.getpid())
    ours, theirs = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(tmp_path / "notify"))
        socket.send_fds(sender, [b"FDSTORE=1\nFDNAME=log"], [theirs, theirs])
        socket.send_fds(sender, [b"BARRIER=1"], [theirs])
        socket.send_fds(sender, [b"nonsense"], [theirs])
        sender.send(b"STATUS=" + b"x" * 9000)
        sender.send(b"")
        sender.send(b"READY=1")
    os.close(theirs)
    stored, barrier, empty, last = reader.receive()
    assert stored.store and (stored.fd_name, len(stored.fds)) == ("log", 2)
    assert barrier.barrier and not empty.ready and last.ready
    assert last.sender == Sender(os.getpid(), os.getuid(), os.getgid()) and reader.refused == 2
    os.set_blocking(ours, False)
    notify.done(stored)
    with pytest.raises(BlockingIOError):
        os.read(ours, 1)
    notify.done(barrier)
    assert os.read(ours, 1) == b""  # whoever waited behind the barrier goes on
    os.close(ours)
    assert reader.receive() == []
    reader.close()


def test_the_daemons_of_this_project_are_understood(tmp_path):
    """What kvoshim.process's own notifier sends."""
    reader = NotifySocket(notify.bind(str(tmp_path / "notify")), lambda sender: True)
    script = ("from kvoshim.process.readiness import Notifier; n = Notifier(); n.ready('well'); n.reloading(); n.reloaded('again'); "
              "n.alive(); n.stopping()")
    subprocess.run([sys.executable, "-P", "-c", script], env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}, check=True)
    first, *rest = reader.receive()
    assert first.ready and first.status == "well" and first.main_pid == first.sender.pid
    assert [(m.reloading, m.ready, m.watchdog, m.stopping) for m in rest] == [
        (True, False, False, False), (False, True, False, False), (False, False, True, False), (False, False, False, True),
    ]  # fmt: skip
    assert 0 < rest[0].reload_us <= time.monotonic_ns() // 1000 and reader.refused == 0
    reader.close()


# --- newline, path, poll ---------------------------------------------


def test_a_newline_on_a_descriptor(host):
    client = host.client()
    says, never = "echo >&5; exec sleep 1000", "printf x >&5; exec 5>&-; exec sleep 1000"
    for script, result in [(says, Readiness.READY), (never, Readiness.GONE)]:
        read_end, write_end = os.pipe()
        client.spawn(shell(script, fds={5: write_end}))
        os.close(write_end)
        waiting = NewlineReadiness(read_end)
        event(client, Spawned)
        assert until(lambda: (found := waiting.look()) is not Readiness.WAITING and found) is result  # noqa: B023
        waiting.close()


def test_a_path_that_is_there(tmp_path):
    path = tmp_path / "thing"
    assert not ready.path_is_there(str(path))
    path.touch()
    assert not ready.path_is_there(str(path))  # somebody is about to write it
    path.write_text("x")
    assert ready.path_is_there(str(path)) and ready.path_is_there(str(tmp_path))
    path.unlink()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        assert ready.path_is_there(str(path))
    assert path.is_socket() and not ready.path_is_there(str(path))  # left by one that is gone


def test_polling():
    poll = Poll(every_s=2, timeout_s=5, needed=2, tolerated=3)
    assert poll.due(0) and poll.wakes() == 0
    poll = poll.ask(10)
    assert not poll.due(11) and not poll.overdue(14.9) and poll.overdue(15) and poll.wakes() == 15
    poll = poll.answer(True, 11)
    assert not poll.ready and not poll.due(12.9) and poll.due(13)
    poll = poll.ask(13).answer(True, 13)
    assert poll.ready
    for _ in range(2):
        poll = poll.ask(20).answer(False, 20)
    poll = poll.ask(20).answer(True, 20)  # a good one in between forgives
    for _ in range(2):
        poll = poll.ask(20).answer(False, 20)
    assert poll.ready and not poll.ask(20).answer(False, 20).ready


# --- words to numbers ---------------------------------------------


def test_limits():
    assert limits.parse({"nofile": "1024:4096", "core": "unlimited", "as": "2G", "stack": "8m:unlimited"}) == (
        (limits.NAMES["nofile"], 1024, 4096), (limits.NAMES["core"], limits.INFINITY, limits.INFINITY),
        (limits.NAMES["as"], 2 << 30, 2 << 30), (limits.NAMES["stack"], 8 << 20, limits.INFINITY),
    )  # fmt: skip


@pytest.mark.parametrize("name, text", [("files", "1"), ("nofile", ""), ("nofile", "-1"), ("nofile", "2:1"), ("nofile", "1:2:3"),
                                        ("nofile", "1T"), ("nofile", "9" * 20), ("nofile", "unlimited:1"),
                                        ("nofile", "١")])  # fmt: skip
def test_limits_that_make_no_sense(name, text):
    with pytest.raises(InvalidOrderError, match=name):
        limits.parse({name: text})


def test_limits_reach_the_child(host):
    client = host.client()
    ours, theirs = os.pipe()
    client.spawn(shell("ulimit -n; ulimit -c; ulimit -Hn", limits=limits.parse({"nofile": "77:99", "core": "0"}), fds={1: theirs}))
    os.close(theirs)
    with open(ours) as said:
        assert said.read() == "77\n0\n99\n"


def test_users_and_groups():
    assert ids.resolve() is None
    assert ids.resolve("nobody") == (65534, 65534, (65534,))
    assert ids.resolve("4321", "4322") == (4321, 4322, (4322,))
    assert ids.resolve(group="4322") == (0, 4322, (4322,))
    for user, group, said in [("no such u", "", "no such u"), ("", "no such g", "no such g"), ("4321", "", "group must")]:
        with pytest.raises(InvalidOrderError, match=said):
            ids.resolve(user, group)
