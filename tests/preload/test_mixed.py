"""Any mix of shimmed and plain peers: byte for byte what the kernel gives, whoever speaks first."""

import pytest
import shimlib
import snippetlib

SIDES = ["both", "server", "client", "neither"]


@pytest.mark.parametrize("first", ["listen", "connect"])
@pytest.mark.parametrize("shimmed", SIDES)
def test_turns(place, shimmed, first):
    program, path, shim = str(snippetlib.compiled("turns", "programs")), place / "t.sock", place.shim()
    with shimlib.Server([program, "listen", str(path), first], shim if shimmed in ("both", "server") else None,
                        place / "server.out") as server:
        server.wait_until(lambda: listens(path))
        client = shimlib.run([program, "connect", str(path), first], shim if shimmed in ("both", "client") else None).check()
        assert server.wait() == 0, server.output.read_text()
    assert client.out == server.output.read_bytes() == b"%d bytes, then 0\n" % int(client.out.split()[0])
    wanted = 1 if shimmed == "both" else 0
    assert (shim.log.accelerated("client"), shim.log.accelerated("server")) == (wanted, wanted), shim.log.text()
    if shimmed in ("client", "server"):
        assert sum(shim.log.plain_reasons(shimmed).values()) == 1, shim.log.text()


def listens(path) -> bool:
    """Whether a socket at `path` takes connections, found out without making one."""
    with open("/proc/net/unix") as f:
        return any(line.rstrip().endswith(f" {path}") and line.split()[3] == "00010000" for line in f)


@pytest.mark.parametrize("server_ring, client_ring", [("4096", "8388608"), ("8388608", "4096"), ("bad", "65536")])
def test_peers_with_different_ring_sizes(place, server_ring, client_ring):
    program, path = str(snippetlib.compiled("turns", "programs")), place / "t.sock"
    log = shimlib.Log(place / "log")
    shims = [shimlib.Shim(f"{place.dir}/*", log, {"KVOSHIM_RING_SIZE": size}) for size in (server_ring, client_ring)]
    with shimlib.Server([program, "listen", str(path), "listen"], shims[0], place / "server.out") as server:
        server.wait_until(lambda: listens(path))
        client = shimlib.run([program, "connect", str(path), "listen"], shims[1]).check()
        assert server.wait() == 0, server.output.read_text()
    assert client.out == server.output.read_bytes()
    wanted = 0 if server_ring == "bad" else 1
    assert (log.accelerated("client"), log.accelerated("server")) == (wanted, wanted), log.text()


def test_peers_that_select_different_paths(place):
    """Only a path that both sides select is accelerated."""
    program, path = str(snippetlib.compiled("turns", "programs")), place / "t.sock"
    server_shim, client_shim = place.shim("/nowhere/*"), place.shim()
    with shimlib.Server([program, "listen", str(path), "connect"], server_shim, place / "server.out") as server:
        server.wait_until(lambda: listens(path))
        client = shimlib.run([program, "connect", str(path), "connect"], client_shim).check()
        assert server.wait() == 0
    assert client.out == server.output.read_bytes()
    assert server_shim.log.accelerated() == client_shim.log.accelerated() == 0
