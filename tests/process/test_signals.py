"""Signals reach a daemon as numbered events of its loop."""

import os
import signal
import threading

import pytest
from process_harness import until

from kvoshim.process import Loop
from kvoshim.process.signals import SignalQueue


def test_hangup_reads_the_configuration_again(daemon):
    daemon.place.write(greeting="new")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.call("greet") == {"greeting": "new"})


def test_hangup_with_a_broken_file_keeps_serving(daemon):
    daemon.place.write('{"greeter": {"greeting": "new",}}')
    daemon.process.send_signal(signal.SIGHUP)
    failure = until(lambda: daemon.call("status-get")["configuration"]["failure"])
    assert failure.startswith(f"{daemon.place.file}:1:32: ")
    assert daemon.call("greet") == {"greeting": "hello"}
    assert f"the old one is: {failure}" in daemon.log()
    daemon.place.write(greeting="mended")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.call("greet") == {"greeting": "mended"})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_end_in_order(daemon, number):
    with daemon.client() as client:
        client.call("greet")
        daemon.process.send_signal(number)
        assert daemon.end()[:2] == (0, "stopped: normal\n")
    assert list((daemon.place.runtime / "kvoshim").iterdir()) == []


def test_a_processs_own_signals_and_what_its_handlers_raise(daemon):
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
        before = daemon.log().count(": SIGUSR")
        daemon.process.send_signal(number)
        until(lambda: daemon.log().count(": SIGUSR") > before)
    until(lambda: len(daemon.call("status-get")["events"]) == 2)
    assert daemon.call("status-get")["events"] == [[1, "SIGUSR1"], [3, "SIGUSR1"]]
    log = daemon.log()
    assert "signal 2: SIGUSR2 could not be handled" in log and "a handler's own fault" in log
    assert daemon.call("statistic-get", {"name": "signals"})["signals"][0][0] == 3


def test_a_flood_of_hangups_does_not_hide_the_end(daemon):
    for _ in range(2000):
        daemon.process.send_signal(signal.SIGHUP)
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.end()[:2] == (0, "stopped: normal\n")


def test_events_come_in_order_between_other_events():
    loop, seen = Loop(), []
    before = [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)]

    def note(event):
        assert not inside
        seen.append(event)
        if len(seen) == 4:
            loop.stop()

    inside = []

    def raise_all():
        inside.append(1)
        for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), number)
        inside.clear()

    queue = SignalQueue(loop, {signal.SIGUSR1: note})
    queue.add({signal.SIGUSR2: note})
    loop.call_soon(raise_all)
    loop.call_later(0.01, signal.raise_signal, signal.SIGUSR1)
    loop.run_forever()
    assert [event[:3] for event in seen] == [
        (1, signal.SIGUSR2, "SIGUSR2"),
        (2, signal.SIGUSR1, "SIGUSR1"),
        (3, signal.SIGUSR2, "SIGUSR2"),
        (4, signal.SIGUSR1, "SIGUSR1"),
    ]
    assert [event.time for event in seen] == sorted(event.time for event in seen)
    queue.close()
    queue.close()
    loop.close()
    assert [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)] == before


def test_a_signal_that_another_thread_gets_wakes_the_loop():
    loop, seen = Loop(), []
    queue = SignalQueue(loop, {signal.SIGUSR1: lambda event: (seen.append(event.sequence), loop.stop())})
    release = threading.Event()
    thread = threading.Thread(target=lambda: (release.wait(), signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)))
    thread.start()
    loop.call_soon(release.set)
    loop.run_forever()
    thread.join()
    queue.close()
    loop.close()
    assert seen == [1]
