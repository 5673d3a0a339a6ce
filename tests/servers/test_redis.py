"""Redis and its own tools, unmodified: the same answers through shared memory as on kernel sockets."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import shimlib

HERE = Path(__file__).parent
COMMANDS = HERE / "redis_commands.txt"
SCENES = [sys.executable, str(HERE / "redis_scenes.py")]

pytestmark = pytest.mark.servers


def recorded() -> bytes:
    lines = [line for line in COMMANDS.read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) >= 200
    return "\n".join(lines).encode() + b"\n"


def answers(redis, path, shim, *options: str) -> bytes:
    """What redis-cli prints for the recorded session, one connection, without the times of slow commands."""
    done = shimlib.run([redis.cli, "-s", str(path), *options], shim, stdin=recorded(), timeout=60).check()
    assert not done.err, done.err
    return re.sub(rb"(?m)^\(\d+\.\d+s\)\n", b"", done.out)


def assert_all_accelerated(shim, path, count: int, *sides: str) -> None:
    for side in sides or ("client", "server"):
        assert shim.log.wait_accelerated(count, side, path=str(path)) == count, \
            f"{shim.log.accelerated(side, path=str(path))} of {count} on the {side} side; plain: " \
            f"{shim.log.plain_reasons(path=str(path))}\n{shim.log.text()[-2000:]}"


@pytest.mark.parametrize("options", [["--no-raw"], ["--raw"], ["-3", "--no-raw"], ["--csv"]], ids=lambda o: "".join(o))
def test_recorded_session_has_the_same_answers(redis, place, options):
    with redis.serving(place, None) as (path, _):
        wanted = answers(redis, path, None, *options)
    shim = place.shim()
    with redis.serving(place, shim) as (path, _):
        assert answers(redis, path, shim, *options) == wanted
        assert_all_accelerated(shim, path, 1)
    assert len(wanted) > 1_000_000


MIXES = {"both": (True, True), "client": (False, True), "server": (True, False)}


@pytest.mark.parametrize("mix", MIXES)
def test_scenes_of_many_clients_have_the_same_answers(redis, place, mix):
    with redis.serving(place, None) as (path, _):
        wanted = shimlib.run([*SCENES, str(path)]).check()
    shim = place.shim()
    server_side, client_side = MIXES[mix]
    with redis.serving(place, shim if server_side else None) as (path, _):
        got = shimlib.run([*SCENES, str(path)], shim if client_side else None).check()
        opened = int(got.err.split()[-1])
        assert opened > 50
        if mix == "both":
            assert_all_accelerated(shim, path, opened)
        else:
            assert shim.log.accelerated() == 0
            # A client that ended after a few answers may never have settled why it stayed where it was.
            assert 40 <= sum(shim.log.plain_reasons(path=str(path)).values()) <= opened, shim.log.plain_reasons()
    assert got.out == wanted.out


@pytest.mark.parametrize("mix", ["client", "server"])
def test_recorded_session_with_one_plain_peer(redis, place, mix):
    shim = place.shim()
    server_side, client_side = MIXES[mix]
    with redis.serving(place, None) as (path, _):
        wanted = answers(redis, path, None, "--no-raw")
    with redis.serving(place, shim if server_side else None) as (path, _):
        assert answers(redis, path, shim if client_side else None, "--no-raw") == wanted
    assert shim.log.accelerated() == 0


def test_redis_cli_subscribes_while_another_publishes(redis, place):
    outputs = []
    shim = place.shim()
    for use in (None, shim):
        with redis.serving(place, use) as (path, _):
            cli = [redis.cli, "-s", str(path)]
            with shimlib.Server([*cli, "--csv", "SUBSCRIBE", "one", "two"], use, place / "sub.out") as subscriber:
                subscriber.wait_until(lambda: subscriber.output.read_bytes().count(b"\n") >= 3)  # noqa: B023
                lines = [f"PUBLISH {'one' if i % 3 else 'two'} message-{i}-{'x' * (i * 11 % 3000)}" for i in range(400)]
                published = shimlib.run(cli, use, stdin="\n".join(lines).encode()).check()
                subscriber.wait_until(lambda: subscriber.output.read_bytes().count(b"\n") >= 403)  # noqa: B023
                outputs.append((published.out, subscriber.output.read_bytes()))
            if use:
                assert_all_accelerated(shim, path, 2)
    assert outputs[0] == outputs[1]


def test_client_kill_and_shutdown_end_the_sessions_of_redis_cli(redis, place):
    outputs = []
    shim = place.shim()
    for use in (None, shim):
        with redis.serving(place, use) as (path, server):
            cli = [redis.cli, "-s", str(path)]
            # Reads from a pipe that stays open: the session lives until it is killed.
            waiting = subprocess.Popen(cli, env=shimlib.env_of(use), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT)
            try:
                waiting.stdin.write(b"PING\nPING\nPING\nCLIENT SETNAME waiting\nBLPOP nothing 0\n")
                waiting.stdin.flush()
                end = time.monotonic() + 20
                while b"blocked_clients:1" not in shimlib.run([*cli, "INFO", "clients"], None).out:
                    assert time.monotonic() < end
                killed = shimlib.run(cli, use, stdin=b"PING\nPING\nCLIENT KILL TYPE normal\nPING\n").check()
                waiting.stdin.close()
                told = waiting.stdout.read()
                status = waiting.wait(20)
                stop = shimlib.run(cli, use, stdin=b"PING\nSET a b\nGET a\nSHUTDOWN NOSAVE\n")
                assert server.wait() == 0
                outputs.append((killed.out, told, status, stop.out, stop.status))
            finally:
                waiting.kill()
                waiting.wait()
                waiting.stdout.close()
    assert outputs[0] == outputs[1]
    assert shim.log.accelerated("client") >= 3


@pytest.mark.parametrize("options", [
    ["-c", "1"], ["-c", "50"], ["-c", "50", "-P", "16"], ["-c", "50", "--threads", "2"], ["-c", "20", "-d", "100000"],
], ids=lambda o: "".join(o).strip("-"))
def test_benchmark_completes_with_every_connection_accelerated(redis, place, options):
    shim = place.shim()
    # Of two threads, each has half of the clients, but both take from one count: neither may be through before the other begins.
    count = "1000" if "-d" in options else "200000" if "--threads" in options else "20000"
    tests = "ping_inline,ping_mbulk,set,get,incr,lpush,rpop,sadd,hset,zadd,mset"
    if "-d" in options:
        tests = "set,get,lpush,lpop"
    clients = int(options[1])
    with redis.serving(place, shim) as (path, server):
        done = shimlib.run([redis.benchmark, "-s", str(path), "-n", count, "--csv", "-t", tests, *options], shim,
                           timeout=100).check()
        rows = done.out.decode().splitlines()[1:]
        assert len(rows) == len(tests.split(",")), done.out
        assert all(float(row.split(",")[1].strip('"')) > 0 for row in rows)
        # Each test opens its clients anew; a further connection asks for the configuration and may be too short to switch.
        wanted = clients * len(rows)
        for side in ("client", "server"):
            got = shim.log.wait_accelerated(wanted, side, path=str(path))
            assert wanted <= got <= wanted + 2 * len(rows), f"{got} of {wanted} on the {side} side, plain: " \
                f"{shim.log.plain_reasons(path=str(path))}"
    assert server.process.returncode == 0


@pytest.mark.parametrize("mix", ["client", "server"])
def test_benchmark_completes_with_one_plain_peer(redis, place, mix):
    shim = place.shim()
    server_side, client_side = MIXES[mix]
    with redis.serving(place, shim if server_side else None) as (path, _):
        shimlib.run([redis.benchmark, "-s", str(path), "-n", "20000", "-q", "-t", "set,get", "-P", "4"],
                    shim if client_side else None).check()
    assert shim.log.accelerated() == 0


def test_idle_server_with_accelerated_clients_uses_no_cpu(redis, place):
    """Redis ticks ten times a second by itself; beside that, five idle accelerated clients must cost nothing."""
    shim = place.shim()
    with redis.serving(place, shim) as (path, server):
        shimlib.run([redis.cli, "-s", str(path), "CONFIG", "SET", "hz", "1"], None).check()
        cli = [subprocess.Popen([redis.cli, "-s", str(path)], env=shim.env(), stdin=subprocess.PIPE,
                                stdout=subprocess.DEVNULL) for _ in range(5)]
        try:
            for c in cli:
                c.stdin.write(b"PING\n" * 10 + b"SUBSCRIBE idle\n")
                c.stdin.flush()
            assert_all_accelerated(shim, path, 5)
            time.sleep(0.5)
            before = [shimlib.cpu_and_switches(p) for p in (server.pid, *(c.pid for c in cli))]
            time.sleep(5)
            after = [shimlib.cpu_and_switches(p) for p in (server.pid, *(c.pid for c in cli))]
            assert [a[0] - b[0] for a, b in zip(after[1:], before[1:])] == [0.0] * 5
            assert [a[1] - b[1] for a, b in zip(after[1:], before[1:])] == [0] * 5
            assert after[0][0] - before[0][0] <= 0.05
        finally:
            for c in cli:
                c.kill()
                c.wait()
                c.stdin.close()
