"""Fixtures of the transport's behaviour suite: the same tests run over three transports, [kernel], [preload] (the standard
module in a process under the library) and [module] (kvoshim.socket); over the last two on fresh connections, which begin
on the kernel, and on switched ones."""

import threading

import pytest
from preloadedrun import pytest_runtest_protocol, pytest_runtestloop, pytest_sessionfinish  # noqa: F401
from transportlib import LIMIT, TRANSPORTS, Peer, accelerated, connected, parameter, warm_up


@pytest.fixture(params=map(parameter, TRANSPORTS))
def module(request):
    return TRANSPORTS[request.param]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "socket")


@pytest.fixture(params=map(parameter, ["kernel", "kernel-pair", "preload-fresh", "preload-switched", "module-fresh",
                                       "module-switched", "module-pair"]))
def ends(request, path):
    """Two connected sockets, client and server. The suite must give the same results on all kinds."""
    name, _, how = request.param.partition("-")
    module = TRANSPORTS[name]
    before = accelerated()
    if how == "pair":
        client, server = module.socketpair()
    else:
        client, server = connected(module, path)
    if how == "switched":
        warm_up(client, server)
    if name == "module":
        assert client.connection_id <= -100 and server.connection_id <= -100
    assert accelerated() - before == (2 if name != "kernel" and how in ("switched", "pair") else 0), "ends that have switched"
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
