"""A maker of controllers, `python controllers.py SOCKET DIRECTORY`: for each line it reads it forks one and prints its PID. Each keeps
SERVICES alive, by what the spawner says and nothing else, until it is killed.

A service's token is service * RUNS + run. Service 0 to LONG - 1 run for ever; the others write their token into `starts` and end soon
with code 3. The controller writes each end that it hears of into `ends`, starts the next run, and acknowledges then: in this order, so
that the spawner knows of a service at every moment.
"""

import os
import signal
import sys

from kvoshim.services.spawner.client import SpawnerClient
from kvoshim.services.spawner.messages import Exited, Failed, Order

LONG, SERVICES, RUNS = 6, 10, 1_000_000


def order(token, directory):
    service = token // RUNS
    script = "exec sleep 1000" if service < LONG else "sleep 0.02; exit 3"
    return Order(token=token, program="/bin/sh", args=("sh", "-c", f"echo {token} >> {directory}/starts; {script}"),
                 env={"PATH": os.environ["PATH"]})


def note(directory, name, text):
    fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


def ended(client, child, known, directory):
    note(directory, "ends", f"{child.token} {child.status}")
    following = child.token + 1
    if following not in known:
        known.add(following)
        client.spawn(order(following, directory))
    client.acknowledge(child.token)


def control(path, directory):
    client = SpawnerClient(path)
    known = set()
    children = client.list().children
    known.update(children)
    for child in children.values():
        if not child.alive:
            ended(client, child, known, directory)
    for service in range(SERVICES):
        if not any(token // RUNS == service for token in children):
            client.spawn(order(service * RUNS + 1, directory))
    while True:
        match client.receive(1000):
            case Exited(child) | Failed(child):
                ended(client, child, known, directory)


def main():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            sys.stdin.close()
            try:
                control(*sys.argv[1:])
            except BaseException as error:
                note(sys.argv[2], "problems", repr(error))
            finally:
                os._exit(1)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
