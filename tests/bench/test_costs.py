"""Foreign calls, the free lock, the idle crowd: the drivers do what they say, and prove it where the shim is under them."""

import socket
import subprocess
import threading
from contextlib import suppress
from dataclasses import replace

import pytest

from kvoshim.bench import costs
from kvoshim.bench.cases import CASES
from kvoshim.bench.cases.costs import FOREIGN_CALLS
from kvoshim.bench.model import KERNEL, SHIM
from kvoshim.bench.processes import clean_environment, stage

from .test_drivers import check_figures

BY_NAME = {case.name: case for case in CASES}
CROWD = BY_NAME["idle-crowd"]
FEW = 50


@pytest.mark.parametrize("call", FOREIGN_CALLS)
def test_every_call_gives_figures(context, call):
    figures = costs.run_calls(context, BY_NAME[f"call-{call}"], 0, "0-0", KERNEL)
    check_figures(figures, 0)
    assert figures["what"] == call and figures["time_ns"] == figures["min_ns"]


def test_the_calls_are_made_beside_an_accelerated_connection(shimmed):
    figures = costs.run_calls(shimmed, BY_NAME["call-read"], 0, "0-0", SHIM)
    assert figures["proof"]["holds"] and figures["proof"]["words"] == "1"


def test_the_fastest_process_counts_unless_one_was_not_accelerated(context, monkeypatch):
    def once(times: list[int], unproved: int | None = None):
        runs = iter([{"time_ns": time, "proof": {"holds": time != unproved}} for time in times])
        monkeypatch.setattr(costs, "run_calls_once", lambda *_: next(runs))
        return costs.run_calls(context, BY_NAME["call-read"], 0, "0-0", SHIM)["time_ns"]

    assert once([95, 91, 99, 90, 97]) == 90
    assert once([95, 91, 99, 90, 97], unproved=99) == 99


def test_an_unknown_call_is_refused(context, tmp_path):
    command = [context.programs / "calls", "ioctl", "--path", tmp_path / "s"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and "unknown call 'ioctl'" in done.stderr


@pytest.mark.parametrize("name", ["core-lock", "core-lock-threads"])
def test_the_lock_gives_figures(context, name):
    figures = costs.run_lock(context, BY_NAME[name], 0, "0-0", SHIM)
    assert figures["batches"] >= 10 and figures["locked_ns"] > 0 and figures["empty_ns"] > 0
    assert figures["time_ns"] == figures["locked_ns"] - figures["empty_ns"]


def test_a_kernel_crowd_uses_no_cpu_and_little_memory(context):
    figures = costs.run_crowd(context, CROWD, FEW, "0-0", KERNEL)
    assert figures["connections"] == FEW and figures["cpu_s"] == 0 and figures["wake_ups"] == 0
    assert figures["memory"]["pss_shmem"] == 0 and "proof" not in figures
    assert figures["bytes_per_connection"] == sum(figures["memory"][kind] for kind in ("pss", "page_tables")) / FEW


def test_a_shimmed_crowd_is_accelerated_to_the_last_and_its_segments_are_counted(shimmed):
    figures = costs.run_crowd(shimmed, CROWD, FEW, "0-0", SHIM)
    assert figures["proof"]["holds"] and figures["proof"]["words"] == str(FEW)
    # The header and a page of each ring; each process's sum is rounded down to a kilobyte.
    assert figures["memory"]["pss_shmem"] >= FEW * 3 * 4096 - 2048
    assert figures["bytes_per_connection"] * FEW >= figures["memory"]["pss_shmem"]


def test_a_crowd_that_is_not_accelerated_proves_nothing(shimmed):
    figures = costs.run_crowd(replace(shimmed, settings={"KVOSHIM_WARMUP": "1000"}), CROWD, FEW, "0-0", SHIM)
    assert not figures["proof"]["holds"] and figures["memory"]["pss_shmem"] < FEW * 4096


@pytest.mark.parametrize(
    "hard, size", [(1024, (1024 - costs.SPARE) // 2), (10, 1), (10**6, 10000), (costs.resource.RLIM_INFINITY, 10000)]
)
def test_a_crowd_has_room_for_its_descriptors(monkeypatch, hard, size):
    monkeypatch.setattr(costs.resource, "getrlimit", lambda _which: (hard, hard))
    assert costs.crowd_size(10000) == size


def one_answer_too_many(listener: socket.socket, ready: threading.Event) -> None:
    """A server that answers, and speaks again when the client believes that all is quiet."""
    connection, _ = listener.accept()
    with connection:
        for _ in range(6):
            connection.sendall(connection.recv(8, socket.MSG_WAITALL))
        if ready.wait(60):
            connection.sendall(b"!")
            with suppress(ConnectionResetError):  # the byte is never read
                connection.recv(1)


def test_a_crowd_that_is_not_idle_ends_loudly(context):
    ready = threading.Event()
    with stage() as run, socket.socket(socket.AF_UNIX) as listener:
        path = str(run.folder / "s")
        listener.bind(path)
        listener.listen()
        server = threading.Thread(target=one_answer_too_many, args=(listener, ready))
        server.start()
        command = [context.programs / "crowd", "client", "--path", path, "--connections", "1"]
        client = run.start("client", command, clean_environment(), stdin=subprocess.PIPE)
        run.await_condition(client, "ready", lambda: client.out.read_text() == "ready\n")
        ready.set()
        assert client.process.wait(30) == 1
        assert "an idle connection became ready" in client.said()
        server.join(30)


