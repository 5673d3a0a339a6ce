"""The C and Python drivers and the floors: every mode gives figures that fit together; failures are loud."""

import os
import socket
import subprocess
import threading
from dataclasses import replace

import pytest

from kvoshim.bench import drivers
from kvoshim.bench.cases import BY_NAME, CASES
from kvoshim.bench.model import KERNEL, QUANTILES, Case
from kvoshim.bench.processes import RunError, clean_environment, listens, stage

STREAM = [case for case in CASES if case.program in ("stream", "python", "loops")]
MODES = {(case.program, case.mode, case.api, case.take): case for case in STREAM}


def check_figures(figures: dict, size: int) -> None:
    """What holds of any measured stretch, however fast the machine."""
    assert figures["count"] > 0 and figures["seconds"] > 0
    assert 0 < figures["min_ns"] <= figures["median_ns"] <= figures["p99_ns"] <= figures["p999_ns"]
    quantiles = figures["quantiles_ns"]
    assert len(quantiles) == len(QUANTILES) and quantiles == sorted(quantiles)
    assert quantiles[0] == figures["min_ns"] and quantiles[QUANTILES.index(50)] == figures["median_ns"]
    assert figures["messages_per_s"] == pytest.approx(figures["count"] / figures["seconds"], rel=1e-2)
    assert figures["bytes_per_s"] == pytest.approx(figures["messages_per_s"] * size, rel=1e-2)
    assert figures["mean_ns"] == pytest.approx(1e9 / figures["messages_per_s"], rel=1e-2)
    assert figures["cpu_client_s"] >= 0 and figures["cpu_server_s"] >= 0
    assert figures["time_ns"] > 0


@pytest.mark.parametrize("key", sorted(MODES), ids="-".join)
@pytest.mark.parametrize("size", [8, 65536])
def test_every_mode_gives_figures(context, key, size):
    case = MODES[key]
    size = size if size in case.sizes else case.sizes[0]
    figures = drivers.run_stream(context, case, size, "any", KERNEL)
    check_figures(figures, 8 if case.unit == "us" else size)
    assert figures["what"] == case.mode
    if case.mode != "connect":
        assert figures["cpu_per_op_s"] == pytest.approx(figures["cpu_per_s"] / figures["messages_per_s"], rel=1e-3)


@pytest.mark.parametrize("program", ["stream", "python"])
@pytest.mark.parametrize(
    "placement, first, second", [("0-0", {0}, {0}), ("0-1", {0}, {1}), ("any", None, None)]
)
def test_programs_run_on_the_cpus_of_their_placement(context, program, placement, first, second):
    if placement == "0-1" and len(context.cpus) < 2:
        pytest.skip("this process may use only one CPU")
    case = replace(MODES[program, "rtt", "block", "exact"], mode="rtt")
    with stage() as run:
        path = str(run.folder / "s")
        patient = replace(context, seconds=60)
        server_command, client_command = drivers.commands(patient, case, 8, placement, KERNEL, path)
        server = run.start("server", server_command, clean_environment())
        run.await_condition(server, "listening", lambda: listens(path))
        client = run.start("client", client_command, clean_environment())
        for running, wanted in ((server, first), (client, second)):
            cpus = set(context.cpus) if wanted is None else {context.cpus[index] for index in wanted}
            pid = running.process.pid
            run.await_condition(running, f"on CPUs {cpus}", lambda: os.sched_getaffinity(pid) == cpus)  # noqa: B023


@pytest.mark.parametrize("mode", ["line", "rtt", "oneway", "copy"])
@pytest.mark.parametrize("placement", ["0-0", "any"])
def test_floors_give_figures(context, mode, placement):
    check_figures(drivers.run_floor(context, mode, 8, placement), 8)


def test_a_message_larger_than_its_ring_goes_through_the_floor(context):
    check_figures(drivers.run_floor(context, "rtt", 1024 * 1024, "any"), 1024 * 1024)


def test_thinking_takes_its_time(context):
    figures = drivers.run_stream(context, BY_NAME["c-think"], 5000, "any", KERNEL)
    assert figures["count"] >= 20 and figures["seconds"] >= figures["count"] * 0.005


def test_the_cpus_are_kept_busy_where_the_case_asks_for_it(context):
    with stage() as run:
        with drivers.company(context, BY_NAME["c-rtt-busy"], run):
            assert len(run.running) == len(context.cpus)
            for burner, cpu in zip(run.running, context.cpus, strict=True):
                pid = burner.process.pid
                run.await_condition(burner, "busy", lambda: drivers.scheduled(pid)[0] > 0)  # noqa: B023
                assert os.sched_getaffinity(pid) == {cpu}
        assert all(burner.process.poll() is not None for burner in run.running)


def test_an_idle_kernel_connection_uses_no_cpu_and_a_busy_one_does(context):
    case = next(case for case in CASES if case.program == "idle")
    assert drivers.run_idle(context, case, 8, "any", KERNEL)["cpu_s"] == 0
    with stage() as run:
        busy = run.start("busy", ["sh", "-c", "while :; do :; done"], {"PATH": "/usr/bin:/bin"})
        run.await_condition(busy, "busy", lambda: drivers.scheduled(busy.process.pid)[0] > 0)


def test_a_client_without_a_server_says_so(context, tmp_path):
    command = [context.programs / "client", "--path", tmp_path / "nobody"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and "cannot connect" in done.stderr and "nobody" in done.stderr


@pytest.mark.parametrize(
    "words", [["--size", "7"], ["--mode", "sideways"], ["--size", "many"], ["--api", "hope"]]
)
def test_a_bad_argument_is_refused(context, words):
    # The path has a listener, so that nothing but the argument can be wrong.
    with stage() as run, socket.socket(socket.AF_UNIX) as listener:
        path = str(run.folder / "s")
        listener.bind(path)
        listener.listen()
        command = [context.programs / "client", "--path", path, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    complaint = "at least 8" if words == ["--size", "7"] else words[1]
    assert done.returncode == 1 and complaint in done.stderr


def wrong_answers(listener: socket.socket) -> None:
    """A server whose every answer is off by one."""
    connection, _ = listener.accept()
    with connection:
        connection.recv(24, socket.MSG_WAITALL)
        while request := connection.recv(8, socket.MSG_WAITALL):
            try:
                connection.sendall(bytes([(request[0] + 1) % 256]) + request[1:])
            except BrokenPipeError:
                return


def test_a_wrong_answer_ends_the_client(context):
    with stage() as run, socket.socket(socket.AF_UNIX) as listener:
        path = str(run.folder / "s")
        listener.bind(path)
        listener.listen()
        server = threading.Thread(target=wrong_answers, args=(listener,))
        server.start()
        command = [context.programs / "client", "--path", path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        server.join(30)
    assert done.returncode == 1 and "answer 1 to request 0" in done.stderr


def test_a_server_that_fails_is_reported_with_its_words(context):
    case = Case("x", "x", "stream", "rtt", api="hope")
    with pytest.raises(RunError, match=r"server: exit code 1: .*unknown --api 'hope'.*before listening"):
        drivers.run_stream(context, case, 8, "any", KERNEL)


def test_a_program_that_hangs_is_ended(context):
    with stage() as run:
        hung = run.start("hung", ["sleep", "600"], {"PATH": "/usr/bin:/bin"})
        with pytest.raises(RunError, match="hung: hangs"):
            hung.wait(0.1)
        assert hung.process.poll() is None
    assert hung.process.poll() is not None
