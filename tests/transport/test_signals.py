"""Signals while a call blocks: handlers run, exceptions come out, other calls go on (PEP 475)."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from transportlib import connected, warm_up


class Interrupted(Exception):
    pass


def raising(*_):
    raise Interrupted


@pytest.fixture
def handler():
    """Sets SIGUSR1's handler, and sends the signal after a while."""
    before = signal.getsignal(signal.SIGUSR1)
    timers = []

    def start(function, delay=0.15):
        signal.signal(signal.SIGUSR1, function)
        timers.append(threading.Timer(delay, os.kill, (os.getpid(), signal.SIGUSR1)))
        timers[-1].start()
    yield start
    for timer in timers:
        timer.join()
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("timeout", [None, 30])
def test_an_exception_ends_a_receive(ends, handler, timeout):
    client, server = ends
    server.settimeout(timeout)
    handler(raising)
    with pytest.raises(Interrupted):
        server.recv(1)
    client.sendall(b"usable")
    assert server.recv(10) == b"usable"


@pytest.mark.parametrize("timeout", [None, 30])
def test_an_exception_ends_a_send(ends, handler, timeout):
    client, server = ends
    client.settimeout(timeout)
    handler(raising)
    with pytest.raises(Interrupted):
        while True:
            client.sendall(bytes(100_000))


@pytest.mark.parametrize("timeout", [None, 30])
def test_a_handler_that_returns_does_not_end_the_call(ends, handler, timeout):
    client, server = ends
    server.settimeout(timeout)
    calls = []

    def on_signal(*_):
        calls.append(1)
        client.sendall(b"sent by the handler")
    handler(on_signal)
    assert server.recv(100) == b"sent by the handler"
    assert calls == [1]


def test_a_timeout_counts_across_signals(ends, handler):
    _, server = ends
    server.settimeout(0.5)
    handler(lambda *_: None, 0.1)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        server.recv(1)
    assert time.monotonic() - began >= 0.49


def test_keyboard_interrupt(module, tmp_path):
    """Ctrl-C ends a program that blocks in recv."""
    program = tmp_path / "program.py"
    program.write_text(f"""
import importlib
socket = importlib.import_module({module.__name__!r})
a, b = socket.socketpair()
print("blocking", flush=True)
try:
    a.recv(1)
except KeyboardInterrupt:
    print("interrupted", flush=True)
""")
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "blocking\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait() == 0


def test_a_storm_of_signals_loses_no_byte(module, path):
    client, server = connected(module, path)
    count = [0]

    def on_signal(*_):
        count[0] += 1
    before = signal.signal(signal.SIGALRM, on_signal)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        with client, server:
            warm_up(client, server)
            content = os.urandom(4_000_000)
            sender = threading.Thread(target=client.sendall, args=(content,))
            sender.start()
            received = bytearray()
            while len(received) < len(content):
                received += server.recv(30_000)
                time.sleep(0.0001)
            sender.join()
            assert received == content
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert count[0] > 5
