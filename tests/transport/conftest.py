"""Fixtures of the transport's behaviour suite: the same tests run on the standard module and on kvoshim.socket, on fresh
connections (which begin on the kernel) and on switched ones."""

import threading

import pytest
from transportlib import LIMIT, MODULES, Peer, connected, warm_up

from kvoshim import transport


@pytest.fixture(params=sorted(MODULES))
def module(request):
    return MODULES[request.param]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "socket")


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
