"""The same without injection: limits that are reached, a full /dev/shm, calls that a filter refuses."""

import os
import socket
import subprocess

import faultlib
import pytest

CLIENT, SERVER = "client", "server"


@pytest.mark.parametrize("end", faultlib.ENDS)
@pytest.mark.parametrize("limit", [40, 200, 1100])
def test_descriptors_run_out(place, end, limit):
    """With n numbers left, for each n: at socket() or accept(), at the rendezvous, the offer, the segment, epoll_create(). The
    program has as many for itself as on kernel sockets."""
    for spare in [0, 1, 2, 3, 4, 5, 6, 8, -1, -2, -3, -4, -6]:
        for scene in ("turns", "epoll") if limit == 200 else ("turns",):
            what = {"SPARE": str(spare)}
            under = {end: ["prlimit", f"--nofile={limit}", "env", f"SPARE={spare}"]}
            ends = faultlib.run(place, scene, under=under)
            wanted = faultlib.run(place, scene, under=under, shimmed=())
            assert {n: e.visible for n, e in ends.items()} == {n: e.visible for n, e in wanted.items()}, (scene, what, ends)
            # Nobody stays plain without a reason; where there is no number at all, neither log nor statistics can say it.
            assert ends[end].accelerated or ends["server"].refused or ends["client"].refused or spare == 0, (scene, what, ends)


def test_a_number_beyond_the_table(place):
    """A socket that was inherited under a number which the limit does not allow any more."""
    with socket.socket(socket.AF_UNIX) as made:
        os.dup2(made.fileno(), 300)
    try:
        ends = faultlib.run(place, "turns", under={CLIENT: ["prlimit", "--nofile=64:64", "env", "SOCKET=300"]}, pass_fds=(300,))
    finally:
        os.close(300)
    faultlib.assert_same("turns", ends)
    assert ends[CLIENT].refused == ends[CLIENT].logged == {"table-full": 1}


@pytest.mark.parametrize("megabytes, ring, end, reason", [
    (40, "262144", SERVER, None), (40, "262144", CLIENT, None),  # no room for the tables
    (150, "67108864", SERVER, "no-segment"), (150, "67108864", CLIENT, "no-segment")])
def test_memory_runs_out(place, megabytes, ring, end, reason):
    ends = faultlib.run(place, "poll", under={end: ["prlimit", f"--as={megabytes << 20}"]}, KVOSHIM_RING_SIZE=ring)
    faultlib.assert_same("poll", ends)
    if reason:
        assert ends[end].refused == ends[end].logged == {reason: 1}
    else:
        assert not ends[end].accelerated and "reason=no-memory" in ends[end].log


def test_the_kernel_socket_is_smaller_than_the_ring(place):
    """What lies in the ring goes through the kernel socket bit by bit, while its sender waits in a receive."""
    ends = faultlib.run(place, "answer", KVOSHIM_RING_SIZE="67108864")
    faultlib.assert_same("answer", ends)
    assert ends[SERVER].refused == {"signals": 1} and ends[CLIENT].refused == {"peer-left": 1}


def test_exec_where_memory_is_rationed(place):
    """What the successor may have no memory for goes on through the kernel."""
    for scene, end in (("exec", SERVER), ("exec_client", CLIENT)):
        ends = faultlib.run(place, scene, under={end: ["prlimit", f"--as={200 << 20}"]})
        faultlib.assert_same(scene, ends)
        assert ends[end].accelerated and ends[end].logged["exec"] == 1


@pytest.mark.parametrize("setting", [
    "KVOSHIM_PATHS", "KVOSHIM_PATHS=", "KVOSHIM_PATHS=/tmp/[unclosed", "KVOSHIM_PATHS=/tmp/" + "x" * 250 + " :: lone\\",
    "KVOSHIM_RING_SIZE=large", "KVOSHIM_SPIN_US=-1", "KVOSHIM_WARMUP=4x", "KVOSHIM_STATS=sometimes", "LD_PRELOAD="])
@pytest.mark.parametrize("scene, end", [("exec", SERVER), ("exec_client", CLIENT), ("spawn", SERVER)])
def test_exec_into_a_program_whose_library_stays_away(place, scene, end, setting):
    """Its settings select nothing, or are unusable: it goes on through the kernel."""
    ends = faultlib.run(place, scene, SETTING=setting)
    faultlib.assert_same(scene, ends)
    assert ends[end].accelerated and ends[end].logged["exec"] == 1
    assert not any(" lost " in one.log for one in ends.values())


@pytest.mark.parametrize("setting", ["KVOSHIM_PATHS=/nowhere", "KVOSHIM_PATHS=/a\\ b:[c]", "KVOSHIM_RING_SIZE=5000", "KVOSHIM_STATS="])
def test_exec_into_a_program_with_other_settings(place, setting):
    ends = faultlib.run(place, "exec", SETTING=setting)
    faultlib.assert_same("exec", ends)
    assert ends[SERVER].accelerated and not ends[SERVER].logged["exec"]


@pytest.mark.parametrize("end", faultlib.ENDS)
@pytest.mark.parametrize("size", ["4096,nr_inodes=2", "4096", "8192"])
def test_dev_shm_is_full(place, end, size):
    """A file system of one page, with and without a name left in it, or of two pages, one of them taken: the segment is no
    file there, and the statistics stay private."""
    script = f'mount -t tmpfs -o size={size} none /dev/shm && head -c 4096 /dev/zero >/dev/shm/full && exec "$@"'
    under = ["unshare", "--mount", "sh", "-c", script, "sh"]
    if os.getuid() or subprocess.run([*under, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    for scene in ("turns", "fork", "late_fork", "exec"):
        ends = faultlib.run(place, scene, under={end: under})
        faultlib.assert_same(scene, ends)
        assert ends[end].accelerated or scene == "fork"


@pytest.mark.parametrize("what, end, reason", [
    ("memfd", SERVER, "no-segment"), ("seals", SERVER, "no-segment"), ("getting-seals", CLIENT, "bad-offer"),
    ("random", CLIENT, "no-mark"), ("membarrier", SERVER, ""), ("membarrier", CLIENT, ""), ("fences", SERVER, ""),
    ("fences", CLIENT, ""), ("statistics", SERVER, ""), ("statistics", CLIENT, "")])
def test_the_kernel_refuses(place, what, end, reason):
    for scene in ("turns", "sleep", "fork", "exec", "exec_client", "dup"):
        ends = faultlib.run(place, scene, under={end: [str(faultlib.refuse()), what]})
        faultlib.assert_same(scene, ends)
        if scene != "fork":  # where the client gives up before
            assert ends[end].logged[reason] if reason else ends[end].accelerated, ends[end]
