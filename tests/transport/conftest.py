"""Fixtures of the transport's behaviour suite: the same tests run on the standard module and on kvoshim.socket, on fresh
connections (which begin on the kernel) and on switched ones."""

import os
import socket as standard
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kvoshim import launcher, transport
from kvoshim import socket as shimmed

PEER = Path(__file__).with_name("peer.py")
MODULES = {"standard": standard, "kvoshim": shimmed}
LIMIT = 60  # seconds for a thread or a peer to end


@pytest.fixture(params=sorted(MODULES))
def module(request):
    return MODULES[request.param]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "socket")


def connected(module, path):
    """A client and a server socket of one process, on a path."""
    with module.socket(module.AF_UNIX, module.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        client = module.socket(module.AF_UNIX, module.SOCK_STREAM)
        client.connect(path)
        server, _ = listener.accept()
    return client, server


def warm_up(client, server):
    """A few exchanges, after which both directions of an accelerated connection have switched."""
    for _ in range(3):
        client.sendall(b"ping")
        assert server.recv(4) == b"ping"
        server.sendall(b"pong")
        assert client.recv(4) == b"pong"


@pytest.fixture(params=["standard", "standard-pair", "kvoshim-fresh", "kvoshim-switched", "kvoshim-pair"])
def ends(request, path):
    """Two connected sockets, client and server. The suite must give the same results on all kinds."""
    name, _, how = request.param.partition("-")
    module = MODULES[name]
    before = transport.accelerated()
    if how == "pair":
        client, server = module.socketpair()
    else:
        client, server = connected(module, path)
    if how == "switched":
        warm_up(client, server)
    if name == "kvoshim":
        assert client.connection_id <= -100 and server.connection_id <= -100
        assert transport.accelerated() - before == (0 if how == "fresh" else 2), "ends that have switched"
    with client, server:
        yield client, server


@pytest.fixture
def thread():
    """Starts functions in threads; each is joined, and what it raised is raised."""
    started = []

    def start(function, *args):
        def run():
            try:
                results[1] = function(*args)
            except BaseException as error:
                results[0] = error
        results = [None, None]
        one = threading.Thread(target=run)
        one.start()
        started.append((one, results))

        def wait():
            one.join(LIMIT)
            if results[0] is not None:
                error, results[0] = results[0], None
                raise error
            return results[1]
        return wait
    yield start
    for one, results in started:
        one.join(LIMIT)
        assert not one.is_alive()
        if results[0] is not None:
            raise results[0]


class Peer:
    """peer.py in a process of its own. kind: standard, kvoshim, or preload (the standard module under the library)."""

    def __init__(self, kind, path, scenario, *args):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("KVOSHIM_", "LD_PRELOAD"))}
        if kind == "preload":
            env |= launcher.variables("*")
        module = "standard" if kind == "preload" else kind
        self.process = subprocess.Popen([sys.executable, PEER, module, path, scenario, *map(str, args)], env=env,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def line(self):
        """The next line that the peer prints."""
        text = self.process.stdout.readline()
        if not text:
            raise AssertionError(f"the peer ended: {self.process.communicate()[1]}")
        return text.rstrip("\n")

    def tell(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def end(self):
        """Waits for its end; AssertionError with what it printed if it failed."""
        out, err = self.process.communicate(timeout=LIMIT)
        assert self.process.returncode == 0, f"the peer failed with {self.process.returncode}: {err}"
        return out.split("\n")[:-1]


@pytest.fixture
def peer(path):
    """Starts peers on the test's path; they are ended with the test."""
    started = []

    def start(kind, scenario, *args):
        started.append(Peer(kind, path, scenario, *args))
        return started[-1]
    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()
