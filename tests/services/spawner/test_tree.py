"""Which processes are a service's: by control group, and without one."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from spawner_harness import event, shell, until

from kvoshim import identity
from kvoshim.services.spawner import cgroup, tree
from kvoshim.services.spawner.cgroup import ControlGroup
from kvoshim.services.spawner.messages import Exited, Failed, Spawned, Stranger
from kvoshim.services.spawner.tree import Entry, Member, Tree, members

# A service with a child, a grandchild whose parent ends, and a daemon in a session of its own.
FAMILY = "sleep 1000 & (sleep 1000 &) ; setsid sh -c 'exec sleep 1000' & wait"


def test_members_of_a_process_table():
    processes = {
        1: Entry(0, 1, 5, "S"), 10: Entry(1, 10, 100, "S"), 11: Entry(10, 10, 101, "S"), 12: Entry(1, 10, 102, "S"),
        13: Entry(11, 13, 103, "S"), 14: Entry(13, 13, 104, "Z"), 20: Entry(1, 20, 105, "S"), 21: Entry(20, 20, 200, "S"),
    }  # fmt: skip
    # Descendants, an orphan of the session, another session below; no zombie, no stranger.
    assert {m.pid for m in members(processes, [10], [])} == {10, 11, 12, 13}
    assert {m.pid for m in members(processes, [], [Member(11, 101), Member(21, 999)])} == {11, 13}
    assert members(processes, [], [Member(20, 105)]) == {Member(20, 105), Member(21, 200)}
    assert members({}, [10], [Member(11, 101)]) == frozenset()


def test_a_session_whose_number_is_anothers_means_nothing():
    service = Tree(10, 100)
    assert {m.pid for m in service.look({10: Entry(1, 10, 100, "S"), 11: Entry(10, 10, 101, "S")})} == {10, 11}
    assert {m.pid for m in service.look({11: Entry(1, 10, 101, "S"), 12: Entry(1, 10, 300, "S")})} == {11, 12}
    assert service.look({10: Entry(1, 10, 500, "S"), 12: Entry(10, 10, 600, "S")}) == frozenset()
    assert service.look({12: Entry(1, 10, 600, "S")}) == frozenset()  # for good


def settled(look):
    """The members, once the family is complete."""
    family = ["sh", "sleep", "sleep", "sleep"]
    return until(lambda: sorted(map(name_of, found := look())) == family and found, "the family is complete")


def name_of(member: Member) -> str:
    try:
        return Path(f"/proc/{member.pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_a_whole_tree_is_found_and_killed(host):
    client = host.client()
    client.spawn(shell(FAMILY))
    child = event(client, Spawned).child
    service = Tree(child.pid, child.start)
    there = settled(service.look)
    assert all(service.contains(member.pid) for member in there)
    assert not service.contains(os.getpid()) and not service.contains(2**22 - 1)
    os.kill(child.pid, signal.SIGKILL)  # the main process only
    until(lambda: isinstance(client.receive(), Exited), "it has ended")
    left = service.look()
    assert len(left) >= 3 and child.pid not in {m.pid for m in left}
    again = Tree(child.pid, child.start)  # a startd that comes now: what is in the session still is
    assert len(again.look()) >= 2
    assert service.signal(signal.SIGKILL) >= 3
    until(lambda: not service.look(), "all are gone")
    assert service.signal(signal.SIGKILL) == 0
    assert not any(identity.alive(m.pid, m.start) for m in there)


def test_a_number_that_belongs_to_another_is_left_alone():
    process = subprocess.Popen(["/bin/sleep", "1000"])
    try:
        start = identity.start_time(process.pid)
        assert not tree.send(Member(process.pid, start + 1), signal.SIGKILL) and process.poll() is None
        assert not Tree(2**22 - 1, start).look()
        assert tree.send(Member(process.pid, start), signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM
        assert not tree.send(Member(process.pid, start), signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def base():
    """A directory for control groups, in the hierarchy of version 2. Root can make one wherever that is mounted for writing."""
    name = f"kvo-test-{os.getpid()}"
    path = cgroup.base(name)
    yield path
    if path:
        os.rmdir(path)


def test_what_a_control_group_tells(host, base):
    """Where there is none to be had, base() has said so, and that is what is checked."""
    if not base:
        own = cgroup.own_path()
        assert not own or not os.access(own, os.W_OK) or os.statvfs(own).f_flag & os.ST_RDONLY
        return
    client = host.client()
    group = ControlGroup(os.path.join(base, "web:default"))
    assert not group.populated() and not group.look() and group.fileno() >= 0
    entrance = group.entrance()
    client.spawn(shell(FAMILY, cgroup=entrance))
    os.close(entrance)
    child = event(client, Spawned).child
    there = settled(group.look)
    assert group.populated() and all(group.contains(m.pid) for m in there) and not group.contains(os.getpid())
    group.close()
    group = ControlGroup(os.path.join(base, "web:default"))  # another startd
    assert group.look() == there and not group.remove()
    group = ControlGroup(os.path.join(base, "web:default"))
    assert group.signal(signal.SIGTERM) >= 1
    group.signal(signal.SIGKILL)
    until(lambda: not group.populated(), "all are gone")
    assert not identity.alive(child.pid, child.start)
    assert group.remove(5) and not os.path.exists(group.path)
    while isinstance(message := client.receive(0.5), Stranger | Exited | Failed):
        assert not isinstance(message, Failed)


def test_where_no_control_group_can_be(tmp_path):
    assert cgroup.base("x", str(tmp_path)) == ""
    (tmp_path / "mountinfo").write_text("24 20 0:1 / /sys/fs/c\\040g rw - cgroup2 none rw\n25 20 0:2 / /proc rw - proc proc rw\n")
    assert cgroup.mount_point(str(tmp_path / "mountinfo")) == "/sys/fs/c g"
    (tmp_path / "mountinfo").write_text("25 20 0:2 / /proc rw - proc proc rw\n")
    assert cgroup.mount_point(str(tmp_path / "mountinfo")) == ""
