"""A service's output: into its log, rotated, over the death of whoever reads it."""

import fcntl
import os
import signal
import struct
import termios
import threading

import pytest
from spawner_harness import event, python, shell, until

from kvoshim.services.spawner import logs
from kvoshim.services.spawner.logs import Capture, LogFile, drop_pipe, open_pipe
from kvoshim.services.spawner.messages import Exited, Spawned


def everything(path) -> bytes:
    """What the files hold, oldest first."""
    files = sorted(path.parent.glob(path.name + ".*"), key=lambda one: -int(one.suffix[1:])) + [path]
    return b"".join(one.read_bytes() for one in files)


def test_rotation_cuts_between_lines_and_keeps_so_many(tmp_path):
    path = tmp_path / "log"
    log = LogFile(str(path), size=1000, keep=100)
    lines = b"".join(b"line %d %s\n" % (n, b"x" * (n % 90)) for n in range(500))
    for at in range(0, len(lines), 317):
        log.write(lines[at : at + 317])
    log.close()
    assert everything(path) == lines
    olds = [one for one in tmp_path.iterdir() if one != path]
    assert len(olds) >= len(lines) // 1000 and all(0 < one.stat().st_size <= 1000 for one in tmp_path.iterdir())
    assert path.stat().st_mode & 0o777 == 0o600
    log = LogFile(str(path), size=1000, keep=2)
    log.write(lines)
    log.close()
    assert lines.endswith(everything(path).split(b"\n", 1)[1][-2000:])
    assert {"log", "log.1", "log.2"} <= {one.name for one in tmp_path.iterdir()}
    alone = tmp_path / "alone"
    log = LogFile(str(alone), size=100, keep=0)
    log.write(lines)
    log.close()
    assert [one.name for one in tmp_path.glob("alone*")] == ["alone"] and lines.endswith(alone.read_bytes())


def test_a_line_longer_than_the_file_is_cut_not_lost(tmp_path):
    log = LogFile(str(tmp_path / "log"), size=100, keep=100)
    data = b"short\n" + b"y" * 950 + b"\nlast\n"
    log.write(data)
    log.close()
    assert everything(tmp_path / "log") == data


def test_a_log_that_somebody_else_renames_is_begun_anew(tmp_path):
    log = LogFile(str(tmp_path / "log"))
    log.write(b"one\n")
    (tmp_path / "log").rename(tmp_path / "moved")
    log.write(b"two\n")
    log.reopen()
    log.write(b"three\n")
    log.close()
    assert (tmp_path / "moved").read_bytes() == b"one\ntwo\n" and (tmp_path / "log").read_bytes() == b"three\n"


def test_what_a_full_disk_costs_is_said(tmp_path):
    now = [0.0]
    log = LogFile("/dev/full", clock=lambda: now[0])
    log.write(b"lost\n")
    assert log.lost == 5 and "space" in log.problem
    log.write(b"too\n")  # not tried
    log.path = str(tmp_path / "log")
    log.write(b"as well\n")
    assert log.lost == 17 and not (tmp_path / "log").exists()
    now[0] = 1.5
    log.write(b"kept\n")
    log.close()
    assert (tmp_path / "log").read_bytes() == b"[17 bytes of output are missing here: No space left on device]\nkept\n"
    assert log.lost == 17 and not log.problem
    gone = LogFile(str(tmp_path / "none" / "log"))
    gone.write(b"x")
    assert "No such file" in gone.problem
    (tmp_path / "link").symlink_to("/etc/passwd")
    linked = LogFile(str(tmp_path / "link"))
    linked.write(b"x")
    assert linked.lost == 1
    with pytest.raises(ValueError):
        LogFile("x", size=0)


def test_nothing_is_lost_while_readers_come_and_go(host, tmp_path):
    """A service prints all the time; its readers are controllers that go without a word. What they had read, they had written."""
    client = host.client()
    ends = open_pipe(client, "flood")
    count = 60000
    script = f"import os\nfor n in range({count}): os.write(1, b'line %d\\n' % n)"
    client.spawn(python(script, fds={1: ends[1], 2: ends[1]}))
    for fd in ends:
        os.close(fd)
    event(client, Spawned)
    path, rounds = tmp_path / "log", 0
    ended = False
    while not ended or rounds < 5:
        read_end, write_end = open_pipe(client, "flood")
        os.close(write_end)
        capture = Capture(read_end, LogFile(str(path), size=100000, keep=20))
        for _ in range(7):
            ended = (capture.pump() is False and bool(client.receive(0))) or ended
        if ended:
            capture.drain()
        capture.close()
        client.close()  # away
        client = host.client()
        rounds += 1
        if not ended:
            ended = not any(one.alive for one in client.list().children.values())
    assert everything(path) == b"".join(b"line %d\n" % n for n in range(count))
    read_end, write_end = open_pipe(client, "flood")
    capture = Capture(read_end, LogFile(str(path)))
    assert capture.pump() is False and not capture.ended
    os.close(write_end)
    drop_pipe(client, "flood")
    drop_pipe(client, "flood")
    assert not client.list().held
    assert capture.pump() is False and capture.ended
    capture.close()


def test_a_service_that_nobody_reads_waits(host, tmp_path):
    client = host.client()
    ends = open_pipe(client, "waits")
    client.spawn(order := python("import os\nwhile True: os.write(1, b'x' * 1000 + b'\\n')", fds={1: ends[1]}))
    os.close(ends[1])
    event(client, Spawned)
    size = fcntl.fcntl(ends[0], fcntl.F_GETPIPE_SZ)
    until(lambda: struct.unpack("i", fcntl.ioctl(ends[0], termios.FIONREAD, b"1234"))[0] > size // 2, "the pipe fills")
    capture = Capture(ends[0], LogFile(str(tmp_path / "log"), size=1 << 20, keep=1))
    for _ in range(100):
        capture.pump()
    assert len(everything(tmp_path / "log")) > size // 2
    client.signal(order.token, signal.SIGKILL)
    event(client, Exited)
    capture.close()


def test_the_pipe_of_a_startd_that_was_killed_half_way_is_made_anew(host):
    client = host.client()
    with open(os.devnull) as null:
        client.hold(logs.pipe_names("half")[0], null.fileno())
    ends = open_pipe(client, "half")
    os.write(ends[1], b"through")
    assert os.read(ends[0], 100) == b"through"
    for fd in ends:
        os.close(fd)
    assert client.list().held == set(logs.pipe_names("half"))


def test_output_without_a_pipe_goes_where_the_spawners_goes(host):
    client = host.client()
    client.spawn(shell("echo to the container >&2"))
    event(client, Spawned)
    event(client, Exited)
    assert "to the container" in host.said()
    assert threading.active_count() <= 2  # the watchdog's, and no other
