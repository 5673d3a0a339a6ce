"""Many connections and many pairs: everybody is served, what is counted is what was asked for."""

import socket
import subprocess
import threading
from dataclasses import replace

import pytest

from kvoshim.bench import loads
from kvoshim.bench.cases import BY_NAME
from kvoshim.bench.model import ALONE, KERNEL, SHIM
from kvoshim.bench.processes import stage

from .test_drivers import check_figures

FEW = 20


@pytest.mark.parametrize("name", ["load-all", "load-one", "load-threads"])
def test_every_load_gives_figures(context, name):
    figures = loads.run_load(context, BY_NAME[name], FEW, "any", KERNEL)
    check_figures(figures, 64)
    assert figures["connections"] == FEW and figures["cpu_server_s"] > 0 and "proof" not in figures


def test_a_load_is_accelerated_to_the_last_connection(shimmed):
    for subject, connections in ((SHIM, FEW), (ALONE, 1)):
        figures = loads.run_load(shimmed, BY_NAME["load-one"], FEW, "any", subject)
        assert figures["connections"] == connections
        assert figures["proof"]["holds"] and figures["proof"]["client"] == figures["proof"]["server"] == connections


def test_a_load_that_is_not_accelerated_proves_nothing(shimmed):
    plain = replace(shimmed, settings={"KVOSHIM_WARMUP": "1000000"})
    assert not loads.run_load(plain, BY_NAME["load-one"], FEW, "any", SHIM)["proof"]["holds"]


@pytest.mark.parametrize("count", [1, 4])
def test_pairs_are_counted_together_and_compared(context, count):
    figures = loads.run_pairs(context, BY_NAME["pairs"], count, "any", KERNEL)
    assert figures["count"] >= count and 0 < figures["fair"] <= 1
    assert figures["fair"] == 1 or count > 1
    assert figures["cpu_client_s"] > 0 and figures["cpu_server_s"] > 0


def test_pairs_are_accelerated(shimmed):
    figures = loads.run_pairs(shimmed, BY_NAME["pairs"], 4, "any", SHIM)
    assert figures["proof"]["holds"] and figures["proof"]["client"] == 4


def one_word_server(listener: socket.socket, answer: bytes) -> None:
    """Another program's server: always the same answer to a line."""
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as lines:
        while lines.readline():
            try:
                connection.sendall(answer)
            except BrokenPipeError:
                return


@pytest.mark.parametrize("answer, status", [(b"VALUE 12\r\n", 0), (b"NO\r\n", None)])
def test_another_programs_server_is_asked_by_text(context, answer, status):
    with stage() as run, socket.socket(socket.AF_UNIX) as listener:
        path = str(run.folder / "s")
        listener.bind(path)
        listener.listen()
        server = threading.Thread(target=one_word_server, args=(listener, answer))
        server.start()
        command = [context.programs / "load", "client", "--path", path, "--connections", "1", "--seconds", "0.02"]
        command += ["--request", "get key\\r\\n", "--answer", "10"]
        client = run.start("load", command, {})
        if status is None:  # it waits for the rest of the answer: what it got was shorter
            with pytest.raises(subprocess.TimeoutExpired):
                client.process.wait(0.5)
            client.end()
        else:
            assert client.process.wait(30) == 0 and client.result()["size"] == 9
        server.join(30)


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["load", "client", "--connections", "0"], "--connections must be"),
        (["load", "client", "--connections", "2", "--active", "3"], "--active must be"),
        (["load", "sideways", "--connections", "1"], "say which end"),
        (["pairs", "--pairs", "0"], "--pairs must be"),
        (["pairs", "--pairs", "1", "--size", "1"], "--size must be"),
    ],
)
def test_a_bad_argument_is_refused(context, tmp_path, words, complaint):
    command = [context.programs / words[0], *words[1:], "--path", tmp_path / "s"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and complaint in done.stderr
