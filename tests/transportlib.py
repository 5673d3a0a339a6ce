"""What the transport's behaviour suite shares: the three transports, connections in one process, peers in processes of
their own."""

import os
import socket as standard
import subprocess
import sys
from pathlib import Path

import pytest
import shimlib

from kvoshim import launcher, transport
from kvoshim import socket as shimmed

PEER = Path(__file__).with_name("transport") / "peer.py"
TRANSPORTS = {"kernel": standard, "preload": standard, "module": shimmed}  # the socket module that each is used through
LIMIT = 60  # seconds for a thread or a peer to end


def parameter(transport, *values):
    """A case of a test on one of TRANSPORTS, under its name; values: more of it, for a case of several arguments."""
    marks = [pytest.mark.preloaded] if transport.startswith("preload") else []
    return pytest.param(transport, *values, marks=marks, id="-".join([transport, *values]))


def accelerated():
    """How many ends of connections have switched in this process, be it by the module or by the preload library."""
    if "KVOSHIM_LOG_FILE" not in os.environ:
        return transport.accelerated()
    log = shimlib.Log(Path(os.environ["KVOSHIM_LOG_FILE"]))
    return sum(event.pid == os.getpid() for event in log.events("accelerated"))


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


class Peer:
    """peer.py in a process of its own. kind: one of TRANSPORTS."""

    def __init__(self, kind, path, scenario, *args):
        env = shimlib.plain_env(**(launcher.variables("*", environment={}) if kind == "preload" else {}))
        module = TRANSPORTS[kind].__name__
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
