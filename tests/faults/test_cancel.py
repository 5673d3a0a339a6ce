"""A thread that is cancelled in the middle of a call ends where it holds nothing: the connection, and what it belongs to, goes on."""

import faultlib
import pytest
import shimlib

from kvoshim import _core

#: The calls to the C library that act on a cancellation, as far as the core makes them.
CALLS = "send recv sendmsg recvmsg connect accept4 close poll ppoll epoll_pwait getrandom".split()
#: By scene and end of cancelled.c: those that are made there whatever the threads' order.
CERTAIN = {
    ("stream", "client"): "send recvmsg accept4 close",
    ("stream", "server"): "send sendmsg recvmsg connect close",
    ("rights", "client"): "sendmsg accept4 close",
    ("rights", "server"): "sendmsg connect close",
    ("poll", "client"): "recvmsg accept4 close",
    ("poll", "server"): "sendmsg connect close",
    ("epoll", "client"): "accept4 close epoll_pwait",
    ("epoll", "server"): "sendmsg connect close epoll_pwait",
    ("back", "client"): "recvmsg accept4 close",
    ("back", "server"): "sendmsg recvmsg connect close",
    ("connect", "client"): "connect accept4 close getrandom",
}
MOST = 6  # of each call


def _run(place, shim, scene, end, cancel=""):
    """Whether the thread was cancelled. Afterwards no connection may be left in the library's table."""
    path, statistics = place / f"{scene}-{end}.sock", place / "statistics"
    path.unlink(missing_ok=True)
    statistics.unlink(missing_ok=True)
    start = [str(faultlib.cancelled()), str(path), scene, end]
    env = {"KVO_CANCEL": cancel, "STATISTICS": str(statistics), "KVOSHIM_SPIN_US": "0", "KVOSHIM_RING_SIZE": "4096"}
    if shim:  # a shell adds the library that cancels behind what is preloaded
        start = ["sh", "-c", f'LD_PRELOAD="$LD_PRELOAD:{faultlib.cancelling()}" exec "$@"', "sh", *start]
    said = shimlib.run(start, shim, **env)
    assert said.status == 0, f"{cancel or 'no cancellation'}: exit status {said.status} (-14: hangs)\n{said.out}\n{said.err}"
    if statistics.exists():  # whoever lists connections meanwhile may take one for a dead process's and remove it
        data = statistics.read_bytes()
        assert not _core.read_statistics(data, data)["connections"], cancel
        shim.looked = True
    assert said.out in (b"cancelled\n", b"finished\n") and not said.err, said
    return said.out == b"cancelled\n"


@pytest.mark.watchdog(300)
@pytest.mark.parametrize("scene, end", CERTAIN)
def test_cancelled_before_a_call(place, scene, end):
    shim = place.shim()
    for call in CALLS:
        for n in range(1, MOST + 1):
            if not _run(place, shim, scene, end, f"{call}:{n}"):
                assert n > 1 or call not in CERTAIN[scene, end].split(), f"{call} is not called"
                break
    assert shim.looked and shim.log.accelerated("client") and shim.log.accelerated("server")


@pytest.mark.parametrize("scene, end", CERTAIN)
def test_scenes_without_a_cancellation(place, scene, end):
    """The control: on kernel sockets, and accelerated, the thread finishes."""
    shim = place.shim()
    assert not _run(place, None, scene, end)
    assert not _run(place, shim, scene, end)
    assert shim.log.accelerated("client") and shim.log.accelerated("server")
