"""Between hosts: certificates, strangers, clocks, and what is missing or of no use."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import trustme
from hosts_harness import names
from registry_harness import until

from kvoshim.errors import HostsError
from kvoshim.federation import authority
from kvoshim.federation.server import addresses, program, split

PROBE = """
import json, socket, ssl, sys
address, port, authority, own = json.loads(sys.argv[1])
sock = socket.create_connection((address, port), 10)
sock.settimeout(10)
try:
    if own is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED if authority else ssl.CERT_NONE
        if authority:
            context.load_verify_locations(authority)
        if own:
            context.load_cert_chain(own)
        sock = context.wrap_socket(sock)
    else:
        sock.sendall(b'CONNECT {}\\r\\nSUB > 1\\r\\nPING\\r\\n')
    data = sock.recv(4096)
    print("talks" if data else "closed")
except OSError as error:
    print("refused", error)
"""


def probe(host, server, trusted="", own=None) -> str:
    """What a program on one host gets to hear from the server of another: own: its certificate; None: no TLS at all."""
    address, port = split(server.record().facts["hosts"].split()[0])
    words = [*host.prefix, sys.executable, "-c", PROBE, json.dumps([address, port, str(trusted), own])]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout.split()[0]


def test_a_stranger_is_refused(world):
    alpha, beta = world.two()
    folder = world.home / ".kvoshim" / "hosts"
    assert probe(beta, alpha, folder / "ca.pem", str(folder / "beta.pem")) == "talks"
    foreign = trustme.CA()
    stranger = world.directory / "stranger.pem"
    foreign.issue_cert(authority.NAME, common_name="beta").private_key_and_cert_chain_pem.write_to_path(str(stranger))
    assert probe(beta, alpha, own="") in ("refused", "closed"), "without a certificate"
    assert probe(beta, alpha, own=str(stranger)) in ("refused", "closed"), "with another authority's"
    assert probe(beta, alpha) in ("refused", "closed"), "without TLS"
    assert alpha.knows(beta)


def test_a_false_server_is_told_nothing(world):
    """Somebody listens where a port file says that a host's server is, and cannot show a certificate of the user's."""
    alpha = world.host("alpha")
    heard = world.directory / "heard"
    foreign = trustme.CA()
    foreign.issue_cert(authority.NAME).private_key_and_cert_chain_pem.write_to_path(str(world.directory / "false.pem"))
    code = textwrap.dedent("""
        import socket, ssl, sys
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1])
        listening = socket.create_server(("10.77.0.254", 4222))
        print("up", flush=True)
        while True:
            sock, _ = listening.accept()
            try:
                with context.wrap_socket(sock, server_side=True) as secure, open(sys.argv[2], "ab") as heard:
                    secure.sendall(b'INFO {"version": "2.12.0", "max_payload": 65536}\\r\\n')
                    heard.write(secure.recv(4096))
            except OSError as error:
                print(error, flush=True)
    """)
    words = ["ip", "netns", "exec", world.hub, sys.executable, "-c", code, str(world.directory / "false.pem"), str(heard)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as false:
        try:
            assert false.stdout.readline() == "up\n"
            alpha.up()
            a = alpha.peer()
            a.do("register", "secret-name", {})
            record = json.loads(alpha.port_file.read_text()) | {"facts": {"hosts": "10.77.0.254:4222"}}
            path = alpha.port_file.with_name("omega")
            path.touch(0o600)
            path.write_text(json.dumps(record) + "\n")
            until(lambda: "certificate verify failed" in alpha.status()["links"].get("omega", ""))
            assert "SSL" in false.stdout.readline()  # the handshake is given up
            assert not heard.exists() or heard.read_bytes() == b""
        finally:
            false.kill()


def test_certificates_are_the_users_alone_and_made_once(tmp_path):
    first = authority.prepare(str(tmp_path), "alpha")
    again, other = authority.prepare(str(tmp_path), "alpha"), authority.prepare(str(tmp_path), "beta")
    assert first == again and first.authority == other.authority and first.own != other.own
    folder = tmp_path / "hosts"
    assert {path.name for path in folder.iterdir()} == {"authority.pem", "ca.pem", "alpha.pem", "beta.pem"}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    mine = Path(first.own).read_bytes()
    shutil.copy(first.own, tmp_path / "kept")
    first.context(), other.context()
    # A certificate of an authority before, a broken one: another is made.
    Path(first.authority).unlink()
    (folder / "authority.pem").unlink()
    authority.prepare(str(tmp_path), "alpha")
    assert Path(first.own).read_bytes() != mine
    Path(first.own).write_bytes(b"nonsense")
    authority.prepare(str(tmp_path), "alpha").context()
    (folder / "authority.pem").write_bytes(b"nonsense")
    with pytest.raises(HostsError, match="authority.pem holds no key"):
        authority.prepare(str(tmp_path), "alpha")


@pytest.mark.parametrize("spoil", [
    lambda folder: folder.chmod(0o755), lambda folder: (folder / "authority.pem").chmod(0o644),
    lambda folder: (folder / "alpha.pem").chmod(0o640), lambda folder: os.chown(folder / "authority.pem", 54321, 54321),
])  # fmt: skip
def test_certificates_that_others_could_have_read_are_not_used(tmp_path, spoil):
    authority.prepare(str(tmp_path), "alpha")
    spoil(tmp_path / "hosts")
    with pytest.raises(HostsError, match="is not this user's alone"):
        authority.prepare(str(tmp_path), "alpha")


def test_many_hosts_that_begin_at_once_have_one_authority(tmp_path):
    code = "import sys; from kvoshim.federation import authority; authority.prepare(sys.argv[1], sys.argv[2])"
    words = [sys.executable, "-P", "-c", code, str(tmp_path)]
    started = [subprocess.Popen([*words, f"host{number}"]) for number in range(4)]
    assert [one.wait(60) for one in started] == [0] * 4
    trusted = tmp_path / "hosts" / "ca.pem"
    assert trusted.read_bytes() in (tmp_path / "hosts" / "authority.pem").read_bytes()
    for number in range(4):
        context = authority.Identity(str(trusted), str(tmp_path / "hosts" / f"host{number}.pem")).context()
        assert context.cert_store_stats()["x509_ca"] == 1
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(tmp_path / "hosts" / f"host{number}.pem")
        shake_hands(context, server)


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """SSLError if the client does not believe the server."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=authority.NAME),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass


def test_clocks_that_are_hours_apart_do_not_matter(world):
    """The time of day is five hours ahead on one host, its monotonic clock ten hours; and then its clock is set back by two days."""
    ahead = world.directory / "ahead"
    ahead.mkdir()
    (ahead / "sitecustomize.py").write_text(textwrap.dedent("""
        import time
        _time, _time_ns = time.time, time.time_ns
        def shift():
            try:
                return int(open(__file__.replace("sitecustomize.py", "hours")).read()) * 3600
            except (OSError, ValueError):
                return 5 * 3600
        time.time = lambda: _time() + shift()
        time.time_ns = lambda: _time_ns() + shift() * 1_000_000_000
    """))
    alpha, beta = world.host("alpha"), world.host("beta", clock=36000)
    beta.environment["PYTHONPATH"] = str(ahead)
    alpha.up()
    beta.up()
    world.meet(alpha, beta)
    a, b = alpha.peer(), beta.peer()
    a.do("register", "a", {})
    b.do("register", "b", {})
    for peer in (a, b):
        peer.do("watch", "*")
        until(lambda: names(peer) == [("a", "alpha"), ("b", "beta")])
    since = {entry["name"]: entry["since"] for entry in a.do("find", "*")}
    assert 17900 < since["b"] - since["a"] < 18100, "the clocks are apart"
    (ahead / "hours").write_text("-48")
    b.do("register", "c", {})
    until(lambda: ("c", "beta") in names(a))
    time.sleep(3.5)  # more than a lease: nobody is taken for silent
    assert alpha.knows(beta) and beta.knows(alpha)
    assert not a.seen("removed") and not b.seen("removed")
    beta.link("down")
    until(lambda: names(a) == [("a", "alpha")])
    until(lambda: names(b) == [("b", "beta"), ("c", "beta")])
    beta.link("up")
    until(lambda: len(names(a)) == len(names(b)) == 3)


def test_without_nats_py_the_registry_serves_its_host(world):
    lacking = world.directory / "lacking"
    lacking.mkdir()
    (lacking / "nats.py").write_text("raise ImportError('no nats-py here')")
    alpha, beta = world.host("alpha"), world.host("beta")
    alpha.environment["PYTHONPATH"] = str(lacking)
    alpha.up()
    beta.up()
    a = alpha.peer()
    a.do("register", "here", {})
    until(lambda: "other hosts cannot be linked: no nats-py here; pip install 'kvoshim[nats]'" in alpha.log_text())
    assert names(a) == [("here", "alpha")]


def test_a_server_that_cannot_be_run(world):
    alpha, beta = world.host("alpha"), world.host("beta")
    broken = world.directory / "broken"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    alpha.up(server="/nonexistent/nats-server")
    beta.up(server=str(broken))
    until(lambda: "/nonexistent/nats-server cannot be run: No such file" in alpha.log_text())
    until(lambda: "broken ended with exit code 3: it has written no log" in beta.log_text())
    a = alpha.peer()
    a.do("register", "here", {})
    assert names(a) == [("here", "alpha")]


def test_a_host_may_stay_by_itself(world):
    alpha, beta = world.host("alpha"), world.host("beta")
    alpha.up(enabled=False)
    beta.up()
    until(lambda: beta.status()["server"])
    assert alpha.status() == {} and not alpha.record().facts


def test_addresses():
    assert split("10.0.0.1:4222") == ("10.0.0.1", 4222) and split("[::1]") == ("[::1]", 0) and split("[::1]:5") == ("[::1]", 5)
    assert split("host.example") == ("host.example", 0)
    assert addresses(5, "0.0.0.0", ("a.example", "b.example:7")) == ("a.example:5", "b.example:7")
    assert addresses(5, "10.9.8.7:5", ()) == ("10.9.8.7:5",)
    assert not any(one.startswith("127.") for one in addresses(5, "0.0.0.0", ()))
    assert os.access(program(""), os.X_OK) and program("/x") == "/x"
