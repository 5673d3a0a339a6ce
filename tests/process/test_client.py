"""The caller's end: what it makes of daemons that do not behave."""

import json
import socket
import threading

import pytest

from kvoshim.errors import ControlError, ControlUnavailableError
from kvoshim.process import ControlClient, client


@pytest.fixture
def speak(tmp_path):
    """A false daemon: takes one command, says these pieces, and closes. Gives a client of it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "ctl"))
    listener.listen()
    threads, clients, release = [], [], threading.Event()

    def start(*pieces, stay=False):
        def serve():
            connection, _ = listener.accept()
            with connection:
                assert json.loads(connection.recv(65536))["command"] == "x"
                for piece in pieces:
                    connection.sendall(piece)
                if stay:
                    release.wait()

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        clients.append(ControlClient(str(tmp_path / "ctl"), timeout=0.1 if stay else 30))
        return clients[-1]

    yield start
    release.set()
    for one in clients:
        one.close()
    for thread in threads:
        thread.join()
    listener.close()


def test_an_answer_in_pieces(speak):
    assert speak(b'{"res', b'ult": 0, "arg', b'uments": [1]}', b"\n").call("x") == [1]


def test_text_stands_in_for_arguments_and_empty_is_no_error(speak):
    assert speak(b'{"result": 3, "text": "nothing"}\n').call("x") == "nothing"


def test_a_refusal(speak):
    with pytest.raises(ControlError, match="no use") as caught:
        speak(b'{"result": 4, "text": "no use"}\n').call("x")
    assert caught.value.result == 4 and not isinstance(caught.value, ConnectionError)


@pytest.mark.parametrize(
    "said, problem",
    [
        (b"", "closed the connection"),
        (b'{"result": 0}', "closed the connection"),
        (b"hello\n", "this is no answer: b'hello'"),
        (b"[]\n", "this is no answer"),
        (b'{"text": "x"}\n', "this is no answer"),
    ],
)
def test_what_is_no_answer(speak, said, problem):
    with pytest.raises(ControlUnavailableError, match=problem):
        speak(said).ask("x")


def test_silence(speak):
    with pytest.raises(ControlUnavailableError, match="timed out"):
        speak(stay=True).ask("x")


def test_an_answer_without_an_end(speak, monkeypatch):
    monkeypatch.setattr(client, "_ANSWER_MAX", 1000)
    with pytest.raises(ControlUnavailableError, match="more than 1000 bytes"):
        speak(b"x" * 5000).ask("x")


def test_nobody(tmp_path):
    for path in (tmp_path / "none", tmp_path / ("x" * 200)):
        with pytest.raises(ControlUnavailableError, match="no daemon answers at") as caught:
            ControlClient(str(path))
        assert isinstance(caught.value, ConnectionError)
