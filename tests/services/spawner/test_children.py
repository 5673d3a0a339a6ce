"""Starting, signalling, reaping and remembering processes."""

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys

import pytest
from spawner_harness import WAIT_S, event, python, shell, sleeper, tokens, until

from kvoshim import identity
from kvoshim.errors import SpawnerError, SpawnerUnavailableError
from kvoshim.services.spawner import program
from kvoshim.services.spawner.client import SpawnerClient, reason
from kvoshim.services.spawner.messages import Exited, Failed, Order, Refused, Spawned, Stranger
from kvoshim.services.spawner.wire import LISTEN_PID, Flag, Step

REPORT = """
import json, os, resource, signal, sys
fds = sorted(int(n) for n in os.listdir('/proc/self/fd'))
stat = dict(line.split(':', 1) for line in open('/proc/self/status'))
print(json.dumps(dict(
    argv=sys.argv, env=dict(os.environ), cwd=os.getcwd(), umask=os.umask(0), sid=os.getsid(0), pgid=os.getpgid(0), pid=os.getpid(),
    nofile=resource.getrlimit(resource.RLIMIT_NOFILE),
    core=resource.getrlimit(resource.RLIMIT_CORE), fds=fds, blocked=stat['SigBlk'].strip(), ignored=stat['SigIgn'].strip(),
    stdin=os.readlink('/proc/self/fd/0'), extra=os.read(7, 100).decode() if 7 in fds else '')))
"""


def report(client, order) -> dict:
    """What a child says of itself."""
    ours, theirs = os.pipe()
    try:
        with open(ours, "rb") as said:
            client.spawn(order({1: theirs}))
            os.close(theirs)
            theirs = -1
            text = said.read()
    finally:
        if theirs >= 0:
            os.close(theirs)
    started = event(client, Spawned).child
    ended = event(client, Exited).child
    assert (ended.status, ended.token) == (0, started.token), reason(ended)
    client.acknowledge(ended.token)
    return json.loads(text) | {"record": started}


def test_a_child_has_what_the_order_says_and_nothing_else(host):
    client = host.client()
    ours, theirs = os.pipe()
    os.write(theirs, b"extra")
    token = next(tokens)
    said = report(client, lambda fds: python(
        REPORT, token=token, env={"A": "b", "LANG": "C.UTF-8"}, directory="/usr", umask=0o27,
        limits=((resource.RLIMIT_NOFILE, 100, 200), (resource.RLIMIT_CORE, 0, 0)), fds={**fds, 7: ours},
    ))  # fmt: skip
    os.close(ours)
    os.close(theirs)
    assert said["env"] == {"A": "b", "LANG": "C.UTF-8"} and said["cwd"] == "/usr" and said["umask"] == 0o27
    assert said["sid"] == said["pgid"] == said["pid"] == said["record"].pid
    assert said["nofile"] == [100, 200] and said["core"] == [0, 0]
    assert said["fds"] == [0, 1, 2, 3, 7] and said["extra"] == "extra" and said["stdin"] == "/dev/null"  # 3 lists them
    assert int(said["blocked"], 16) == 0
    assert int(said["ignored"], 16) & ~(1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)) == 0  # Python itself ignores these


def test_a_child_runs_as_somebody_else(host):
    client = host.client()
    ours, theirs = os.pipe()
    client.spawn(shell("id -u; id -g; id -G; grep -E '^[UG]id' /proc/self/status", ids=(1234, 2345, (2345, 3456)), fds={1: theirs}))
    os.close(theirs)
    with open(ours) as said:
        assert said.read().split() == "1234 2345 2345 3456 Uid: 1234 1234 1234 1234 Gid: 2345 2345 2345 2345".split()
    event(client, Spawned)
    assert event(client, Exited).child.status == 0


def test_socket_activation_names_the_process_itself(host):
    client = host.client()
    ours, theirs = os.pipe()
    env = {"LISTEN_PID": LISTEN_PID, "LISTEN_FDS": "1", "OTHER": LISTEN_PID}
    client.spawn(shell('echo "$LISTEN_PID" "$$" "$OTHER"', env=env, fds={1: theirs}))
    os.close(theirs)
    pid = event(client, Spawned).child.pid
    with open(ours) as said:
        assert said.read().split() == [str(pid), str(pid), LISTEN_PID]


def test_descriptors_change_places(host):
    """Targets that are the numbers of other sources in the spawner, in every order: nothing is overwritten before it is used."""
    client = host.client()
    ends = [os.pipe() for _ in range(8)]
    script = "; ".join(f"echo {n} >&{n}" for n in range(3, 10))
    client.spawn(shell(script, fds={n: ends[n - 3][1] for n in reversed(range(3, 10))}))
    event(client, Spawned)
    assert event(client, Exited).child.status == 0
    for n in range(3, 10):
        assert os.read(ends[n - 3][0], 10) == b"%d\n" % n
    for pair in ends:
        os.close(pair[0])
        os.close(pair[1])


def test_groups_instead_of_sessions(host):
    client = host.client()
    os.umask(ours := os.umask(0))
    own_group = report(client, lambda fds: python(REPORT, session=False, group=True, fds=fds))
    assert own_group["pgid"] == own_group["pid"] != own_group["sid"]
    none = report(client, lambda fds: python(REPORT, session=False, fds=fds))
    assert none["umask"] == ours
    assert none["pgid"] == os.getpgid(host.process.pid)
    assert none["nofile"] == list(resource.getrlimit(resource.RLIMIT_NOFILE))  # the spawner's own is higher


@pytest.mark.parametrize("make, step, number", [
    (lambda place: Order(token=1, program=str(place / "none"), args=("x",)), Step.EXEC, errno.ENOENT),
    (lambda place: Order(token=1, program=str(place), args=("x",)), Step.EXEC, errno.EACCES),
    (lambda place: Order(token=1, program=str(place / "empty"), args=("x",)), Step.EXEC, errno.ENOEXEC),
    (lambda place: Order(token=1, program="/bin/true", args=("x",), directory="/none"), Step.DIRECTORY, errno.ENOENT),
    (lambda place: Order(token=1, program="/bin/true", args=("x",), limits=((99, 1, 1),)), Step.LIMITS, errno.EINVAL),
    (lambda place: Order(token=1, program="/bin/true", args=("x",), limits=((7, 9, 1),)), Step.LIMITS, errno.EINVAL),
    (lambda place: Order(token=1, program="/bin/true", args=("x",), cgroup=0), Step.CGROUP, errno.EBADF),
], ids=["none", "directory", "no program", "cwd", "limit", "soft over hard", "cgroup"])  # fmt: skip
def test_what_cannot_start_says_where_and_why(host, make, step, number):
    (host.directory / "empty").write_bytes(b"\0\1\2")
    (host.directory / "empty").chmod(0o755)
    client = host.client()
    with open("/dev/null") as null:
        order = make(host.directory)
        client.spawn(order if order.cgroup is None else Order(token=1, program="/bin/true", args=("x",), cgroup=null.fileno()))
    child = event(client, Failed).child
    assert (child.step, child.errno) == (step, number), reason(child)
    assert client.list().children[1] == child  # kept until it is acknowledged
    client.acknowledge(1)
    assert not client.list().children
    client.spawn(Order(token=1, program="/bin/true", args=("x",)))
    event(client, Spawned)


def test_ends_are_told_with_all_their_kinds(host):
    client = host.client()
    for script, says in [
        ("exit 7", "ended with code 7"),
        ("kill -TERM $$", "ended by signal 15"),
        ("ulimit -c 1000000; kill -SEGV $$", "ended by signal 11"),
    ]:
        client.spawn(shell(script, directory=str(host.directory)))
        started = event(client, Spawned).child
        child = event(client, Exited).child
        assert says in reason(child) and child.pid == started.pid and child.start == started.start > 0
        assert child.ended > 0 and child.max_rss_kib > 0 and not child.alive


def test_a_token_is_good_for_one_process(host):
    """Whether it runs, has ended, or was asked for twice at once: never twice."""
    client = host.client()
    order = sleeper()
    client.spawn(order)
    second = client.spawn(order)
    refused = event(client, (Refused, Spawned))
    if isinstance(refused, Spawned):
        refused = event(client, Refused)
    else:
        event(client, Spawned)
    assert (refused.serial, refused.token, refused.errno, refused.step) == (second, order.token, errno.EEXIST, Step.TOKEN)
    with pytest.raises(SpawnerError) as caught:
        client.acknowledge(order.token)
    assert caught.value.errno == errno.EBUSY
    client.signal(order.token, signal.SIGKILL)
    event(client, Exited)
    client.spawn(order)
    assert event(client, Refused).errno == errno.EEXIST
    client.acknowledge(order.token)
    with pytest.raises(SpawnerError) as caught:
        client.acknowledge(order.token)
    assert caught.value.errno == errno.ESRCH


def test_signals_reach_a_process_or_its_group_and_nobody_after_its_end(host):
    client = host.client()
    ours, theirs = os.pipe()
    second = "(trap 'echo two' USR1; echo b; while :; do sleep 0.02; done)"
    order = shell(f"trap 'echo one' USR1; {second} & echo a; while :; do wait; done", fds={1: theirs})
    client.spawn(order)
    os.close(theirs)
    event(client, Spawned)
    with open(ours) as said:
        assert {said.readline(), said.readline()} == {"a\n", "b\n"}
        client.signal(order.token, signal.SIGUSR1)
        assert said.readline() == "one\n"
        client.signal(order.token, signal.SIGUSR1, whole_group=True)
        assert {said.readline(), said.readline()} == {"one\n", "two\n"}
        client.signal(order.token, signal.SIGKILL, whole_group=True)
        ends = [event(client, (Exited, Stranger)) for _ in range(2)]
        while not all(any(isinstance(end, kind) for end in ends) for kind in (Exited, Stranger)):
            ends.append(event(client, (Exited, Stranger)))  # a sleep
    for token, signo, number in [(order.token, 15, errno.ESRCH), (2**63, 15, errno.ESRCH)]:
        with pytest.raises(SpawnerError) as caught:
            client.signal(token, signo)
        assert caught.value.errno == number
    alone = sleeper(session=False)
    client.spawn(alone)
    while not isinstance(client.receive(WAIT_S), Spawned):
        pass  # strangers
    for signo, whole in [(99, False), (-1, False), (15, True)]:
        with pytest.raises(SpawnerError) as caught:
            client.signal(alone.token, signo, whole)
        assert caught.value.errno == errno.EINVAL


def test_orphans_are_reaped_and_told(host):
    client = host.client()
    client.spawn(shell("(sleep 0.05; exit 3) & exit 0"))
    event(client, Spawned)
    assert event(client, Exited).child.status == 0
    stranger = event(client, Stranger)
    assert os.waitstatus_to_exitcode(stranger.status) == 3 and identity.start_time(stranger.pid) == 0


def test_children_that_are_to_die_with_the_spawner_do(place):
    place.start()
    client = place.client()
    mortal, free = sleeper(die_too=True, ids=(1234, 1234, ())), sleeper()
    client.spawn(mortal)
    client.spawn(free)
    pids = {one.token: one.pid for one in (event(client, Spawned).child, event(client, Spawned).child)}
    starts = {pid: identity.start_time(pid) for pid in pids.values()}
    place.process.kill()
    place.process.wait()
    until(lambda: not identity.alive(pids[mortal.token], starts[pids[mortal.token]]), "killed with the spawner")
    assert identity.alive(pids[free.token], starts[pids[free.token]])
    os.kill(pids[free.token], signal.SIGKILL)
    with pytest.raises(SpawnerUnavailableError):
        client.list()


def test_the_socket_is_the_owners_alone(host):
    assert stat.S_IMODE(os.stat(host.socket).st_mode) == 0o600
    os.chmod(host.socket, 0o666)  # even so, the kernel says who connects
    os.chmod(host.directory, 0o755)
    script = """import os, socket, sys
os.setresuid(1234, 1234, 1234)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
    sock.connect(sys.argv[1])
    print(sock.recv(100))"""
    said = subprocess.run([sys.executable, "-c", script, host.socket], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert said.stdout == "b''\n", said.stderr
    assert host.client().list().children == {}


def test_one_spawner_a_socket_and_one_controller_a_spawner(host):
    command = program.command(host.socket)
    second = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert second.returncode == 3 and "another one runs here" in second.stderr and program.EXIT_MEANINGS[3]
    first = host.client()
    with pytest.raises(SpawnerUnavailableError, match="another controller"):
        SpawnerClient(host.socket, 0.05)
    first.close()
    host.client().list()


@pytest.mark.parametrize("words", [
    [], ["--socket"], ["--socket", ""], ["--socket", "/tmp/x", "--grace-ms", "x"], ["--socket", "/tmp/x", "y"],
    ["--socket", "/tmp/x", "--daemon"], ["--socket", "/tmp/x", "--ok", "256"], ["--socket", "/tmp/" + "x" * 100],
    ["--socket", "/tmp/x", "--what", "1"],
])  # fmt: skip
def test_wrong_usage_has_a_code_of_its_own(words):
    done = subprocess.run([program.program_path(), *words], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 2 and done.stderr.startswith("kvoshim-spawner: ")


def test_a_place_where_no_socket_can_be(place):
    done = subprocess.run(program.command("/proc/none/socket"), capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 8 and "No such file" in done.stderr


def test_flags_of_a_record_say_what_it_is(host):
    client = host.client()
    order = sleeper()
    client.spawn(order)
    event(client, Spawned)
    assert client.list().children[order.token].flags == Flag.SESSION | Flag.RUNNING
