"""Connections that end before their warm-up are no longer marked once that is a habit; one that lasts has all marked again."""

import sys

import shimlib

PROGRAM = """
import os, socket, sys
path = sys.argv[1]

def serve(listener):
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            while data := connection.recv(100):
                connection.sendall(data)
            os._exit(0)
        connection.close()

def talk(times):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        for i in range(times):
            client.sendall(b"%d" % i)
            assert client.recv(100) == b"%d" % i

listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(64)
if (server := os.fork()) == 0:
    import signal
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    serve(listener)
listener.close()
for plan in sys.argv[2:]:
    count, times = map(int, plan.split("x"))
    for _ in range(count):
        talk(times)
os.kill(server, 9)
os.waitpid(server, 0)
print("all answered")
"""


def counted(place, name, *plan, warmup="4"):
    """(connections that the client left unmarked, those that it saw accelerated) after `plan`: COUNTxROUND-TRIPS each."""
    shim = place.shim(KVOSHIM_WARMUP=warmup)
    done = shimlib.run([sys.executable, "-c", PROGRAM, str(place / name), *plan], shim).check()
    assert done.out == b"all answered\n"
    short = sum(event.fields.get("reason") == "short-lived" for event in shim.log.events("plain"))
    return short, shim.log.accelerated("client")


def test_a_habit_of_short_connections_is_learned(place):
    assert counted(place, "learned", "32x1") == (0, 0)
    assert counted(place, "more", "192x1") == (150, 0)  # of the 160 after the first 32, one in 16 is marked


def test_a_lasting_connection_ends_the_habit(place):
    """The 15 that come before the next sample stay on the kernel; from that on all are accelerated again."""
    assert counted(place, "ended", "32x1", "40x50") == (15, 25)


def test_a_lasting_connection_in_between_keeps_it_from_beginning(place):
    assert counted(place, "between", "31x1", "1x50", "31x1", "3x50") == (0, 4)


def test_without_a_warm_up_nothing_is_short(place):
    short, accelerated = counted(place, "none", "64x1", warmup="0")
    assert short == 0 and accelerated > 0
