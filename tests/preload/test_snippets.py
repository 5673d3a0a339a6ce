"""Each small program prints the same on kernel sockets and under the library."""

import pytest
import snippetlib


def _cases():
    for name in snippetlib.names(".c"):
        for mode in snippetlib.directives(name).modes:
            for warm in (50, 0):
                state = "warm" if warm else "cold"
                yield pytest.param(name, mode, warm, id=f"{name}-{mode}-{state}")


@pytest.mark.parametrize("name, mode, warm", list(_cases()))
def test_snippet_behaves_as_on_the_kernel(place, name, mode, warm):
    plain, shimmed, shim = snippetlib.run_both(place, name, SNIPPET_MODE=mode, SNIPPET_WARM=str(warm))
    snippetlib.assert_same(plain, shimmed, shim)
    if warm:
        snippetlib.assert_accelerated(snippetlib.directives(name).accelerated, shim)


@pytest.mark.parametrize("name", ["io_calls", "epoll_level", "close_unread", "server_first", "threads_duplex"])
def test_server_speaks_first(place, name):
    plain, shimmed, shim = snippetlib.run_both(place, name, SNIPPET_MODE="process", SNIPPET_FIRST="server")
    snippetlib.assert_same(plain, shimmed, shim)
    snippetlib.assert_accelerated(snippetlib.directives(name).accelerated, shim)


def _sizes():
    # A ring smaller than what a program writes before anybody reads would rightly block it.
    for name in ("nonblock", "epoll_edge_out", "threads_duplex", "close_bulk", "server_first", "threads_early",
                 "lengths"):
        yield name, "4096"
    for name in ("io_calls", "nonblock", "epoll_edge_out", "threads_duplex", "close_bulk", "poll_out"):
        yield name, "65536"
        yield name, "8388608"


@pytest.mark.parametrize("name, size", list(_sizes()))
def test_other_ring_sizes(place, name, size):
    plain, shimmed, shim = snippetlib.run_both(place, name, SNIPPET_MODE="process", KVOSHIM_RING_SIZE=size)
    snippetlib.assert_same(plain, shimmed, shim)
    snippetlib.assert_accelerated(snippetlib.directives(name).accelerated, shim)


@pytest.mark.parametrize("name", ["io_calls", "poll_select", "epoll_early", "eintr", "shutdown_wakes"])
@pytest.mark.parametrize("spin", ["0", "2000"])
def test_other_spin_times(place, name, spin):
    plain, shimmed, shim = snippetlib.run_both(place, name, SNIPPET_MODE="process", KVOSHIM_SPIN_US=spin)
    snippetlib.assert_same(plain, shimmed, shim)
    snippetlib.assert_accelerated(snippetlib.directives(name).accelerated, shim)
