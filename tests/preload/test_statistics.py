"""The statistics segment: there while its process lives, gone when it ends, and no harm where it cannot be made."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import shimlib
import snippetlib

from kvoshim import statistics

KVOSHIM = str(Path(sys.executable).parent / "kvoshim")


def ends(place, way, shim=None, **options):
    return shimlib.run([*options.pop("under", []), str(snippetlib.compiled("ends", "programs")), way], shim,
                       SNIPPET_PATH=str(place / f"{way}{shim is None}.sock"), **options)


def lines(done) -> list[list[str]]:
    return [line.split() for line in done.out.decode().splitlines() if "kvoshim-stats" in line]


@pytest.mark.parametrize("way", ["return", "exit", "_exit", "_Exit", "vfork", "fork", "forked-use"])
def test_it_goes_with_its_process(place, way):
    done = ends(place, way, place.shim()).check()
    said = lines(done)
    who = {"vfork": ["self", "after"], "fork": ["self", "after"], "forked-use": ["self", "child", "after"]}.get(way, ["self"])
    assert [line[0] for line in said] == who
    assert not [name for _, name in said if Path("/dev/shm", name).exists()]
    plain = ends(place, way)
    assert plain.out.splitlines()[0] == done.out.splitlines()[0], "the program's descriptors have the same numbers"


def test_a_signal_leaves_it_to_the_next_command(place):
    done = ends(place, "term", place.shim())
    assert done.status == -signal.SIGTERM
    (_, name), = lines(done)
    subprocess.run([KVOSHIM, "connections"], check=True, capture_output=True, timeout=60)
    assert not Path("/dev/shm", name).exists()


def test_exec_into_another_program_forgets_it(place):
    """The PID lives on, with the same start time, but the statistics are of a program that is no more."""
    with shimlib.Server([str(snippetlib.compiled("ends", "programs")), "exec"], place.shim(), place / "out",
                        stop_signal=signal.SIGKILL, SNIPPET_PATH=str(place / "s.sock")) as server:
        server.wait_until(lambda: Path(f"/proc/{server.pid}/stat").read_text().split()[2] == "T")
        name = server.output.read_text().split()[-1]
        assert Path("/dev/shm", name).exists()
        rows = json.loads(subprocess.run([KVOSHIM, "connections", "--json", "--all"], check=True, capture_output=True,
                                         timeout=60).stdout)
        assert server.pid not in [row["pid"] for row in rows]
        server.wait_until(lambda: statistics.processes() is None or not Path("/dev/shm", name).exists())


def test_a_segment_that_is_about_to_be_mapped_stays(place):
    """Between its making and its mapping a segment looks as one that exec has left behind."""
    with subprocess.Popen(["sleep", "100"]) as maker:
        path = Path(f"/dev/shm/kvoshim-stats-{os.getuid()}-{maker.pid}-{os.stat('/proc/self/ns/pid').st_ino}")
        path.touch()
        try:
            assert maker.pid not in [one["pid"] for one in statistics.processes()] and path.exists()
            while path.exists():
                statistics.processes()
                time.sleep(0.05)
        finally:
            path.unlink(missing_ok=True)
            maker.kill()


def private_shm(size) -> list[str]:
    """A /dev/shm of its own, so large (bytes; 0: a file in its place; ro: read-only)."""
    mount = {0: "mount -t tmpfs -o size=4096,mode=0 none /dev/shm && touch /dev/shm/x && mount --bind /dev/shm/x /dev/shm",
             "ro": "mount -t tmpfs -o ro none /dev/shm",
             }.get(size, f"mount -t tmpfs -o size={size},nr_inodes=100 none /dev/shm")
    fill = "head -c 8192 /dev/zero >/dev/shm/full 2>/dev/null;" if size == 8192 else ""
    return ["unshare", "--mount", "sh", "-c", f'{mount} || exit 77; {fill} exec "$@"', "sh"]


@pytest.mark.parametrize("size", ["ro", 8192, 4096])
def test_no_room_no_harm(place, size):
    if os.getuid() or subprocess.run(private_shm(size) + ["true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    shim = place.shim()
    done = ends(place, "return", shim, under=private_shm(size)).check()
    assert len(lines(done)) == (1 if size == 4096 else 0)
    assert shim.log.accelerated("client") == shim.log.accelerated("server") == 1
    assert done.out.splitlines()[0] == ends(place, "return").out.splitlines()[0]


@pytest.mark.parametrize("limit, segments", [(3000, 0), (100000, 1)])
def test_a_file_size_limit_is_no_signal(place, limit, segments):
    """Neither the statistics nor a connection's segment may be longer."""
    shim = place.shim()
    under = ["prlimit", f"--fsize={limit}"]
    done = ends(place, "return", shim, under=under).check()
    assert len(lines(done)) == segments
    assert shim.log.plain_reasons("server") == {"no-segment": 1}
    assert done.out.splitlines()[0] == ends(place, "return", under=under).out.splitlines()[0]
