"""Whoever speaks to the controller without being a client: closed with a logged reason, while all others go
on."""

import json
import os
import random
import socket
import struct

import pytest
from kvo_harness import until

import kvoshim
from kvoshim.kvo import wire
from kvoshim.kvo.link import Link


@pytest.fixture
def working(place, request):
    """An observation that is checked before and after the test. The parameter: limits of the controller's."""
    file = place.directory / "controller.json"
    file.write_text(json.dumps({"controller": {"limits": getattr(request, "param", {})}}))
    place.controller("--config", str(file))
    changes = []
    with kvoshim.Observable("engine") as engine, kvoshim.Observer() as observer:
        observer.observe("engine", "rpm", changes.append)
        engine["rpm"] = 1
        until(lambda: changes)
        yield
        engine["rpm"] = 2
        until(lambda: changes[-1].new == 2)
        assert observer.connected


def stranger(path: str, kind=socket.SOCK_STREAM) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.settimeout(30)
    sock.connect(path)
    return sock


def closed(sock: socket.socket) -> bool:
    """Reads to the end."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def framed(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


HELLO = wire.frame(wire.Hello(wire.VERSION, "stranger"))

JUNK = {
    "http": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "a message of 542393671 bytes is announced"),
    "zeros": (bytes(64), "no message of version"),
    "too long": (struct.pack("<I", wire.CLIENT_MAX + 1), "bytes is announced"),
    "not MessagePack": (framed(b"\xc1\xc1\xc1"), "no message of version"),
    "unknown number": (framed(b"\x92\xcd\x03\xe7\x01"), "no message of version"),
    "the controller's own message": (wire.frame(wire.Done(1)), "no message of version"),
    "wrong types": (framed(b"\x93\x01\xa1x\xa1y"), "no message of version"),
    "without hello": (wire.frame(wire.List(1)), "the first message must be Hello"),
    "hello twice": (HELLO + HELLO, "Hello is not expected here"),
    "publish without a descriptor": (
        HELLO + wire.frame(wire.Publish(1, "x", 7)),
        "descriptor channel is not open",
    ),
}


@pytest.mark.parametrize("what", JUNK)
def test_a_strangers_bytes(place, working, what):
    data, reason = JUNK[what]
    with stranger(place.socket) as sock:
        sock.sendall(data)
        assert closed(sock)
    until(lambda: reason in place.log_text(), f"the log says {reason!r}")
    assert "WARNING" in next(line for line in place.log_text().splitlines() if reason in line)


def test_random_bytes(place, working):
    source = random.Random(7)
    for turn in range(60):
        with stranger(place.socket) as sock:
            data = source.randbytes(source.randrange(1, 300))
            if turn % 2:
                data = HELLO + framed(data)
            try:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, OSError):
                pass
            assert closed(sock)


def test_cut_off_in_the_middle_of_a_message(place, working):
    with stranger(place.socket) as sock:
        sock.sendall(HELLO[:7])
    with stranger(place.socket) as sock:
        sock.sendall(HELLO)
        assert sock.recv(4)


def test_a_message_that_comes_byte_by_byte(place, working):
    with stranger(place.socket) as sock:
        for byte in HELLO + wire.frame(wire.List(5)):
            sock.sendall(bytes([byte]))
        messages = []
        frames = wire.PROTOCOL.of_daemon()
        while len(messages) < 2:
            messages.extend(frames.feed(sock.recv(7)))
        assert isinstance(messages[0], wire.Welcome)
        assert [row.name for row in messages[1].rows] == ["engine"]


@pytest.mark.parametrize("working", [{"requests-per-s": 0}], indirect=True)
def test_a_stranger_who_never_reads_is_given_up(place, working):
    with stranger(place.socket) as sock:
        sock.sendall(HELLO)
        request = wire.frame(wire.List(1)) * 1000
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                sock.sendall(request)
    until(lambda: "were not read" in place.log_text())


@pytest.mark.parametrize("packet", [b"", b"wrong token 1234", bytes(16), b"x" * 1000])
def test_a_descriptor_channel_without_a_token(place, working, packet):
    with stranger(place.socket + ".fds", socket.SOCK_SEQPACKET) as sock:
        if packet:
            sock.send(packet)
        else:
            sock.shutdown(socket.SHUT_WR)
        assert closed(sock)
    until(lambda: "no valid token" in place.log_text())


def test_a_token_serves_once_and_only_its_process(place, working):
    with stranger(place.socket) as sock:
        sock.sendall(HELLO)
        frames = wire.PROTOCOL.of_daemon()
        (welcome,) = frames.feed(sock.recv(65536))
        with stranger(place.socket + ".fds", socket.SOCK_SEQPACKET) as first:
            first.send(welcome.token)
            data, fds, _, _ = socket.recv_fds(first, 64, 4)
            assert len(fds) == 1
            os.close(fds[0])
            with stranger(place.socket + ".fds", socket.SOCK_SEQPACKET) as second:
                second.send(welcome.token)
                assert closed(second)


def test_a_store_that_is_none(place, working):
    """Descriptors that are no sealed store of the sender's are refused; the sender may go on."""

    import tempfile

    from kvoshim.errors import CorruptStoreError
    from kvoshim.kvo.client import Client

    client = Client.acquire(None, True)
    try:
        memory = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
        os.ftruncate(memory, 1 << 20)
        with tempfile.TemporaryFile() as file:
            for fd in (memory, file.fileno()):
                client.request(lambda number: wire.Claim(number, "fake", bytes(16)))
                with pytest.raises(CorruptStoreError, match="no sealed shared memory"):
                    client.request(lambda number, ticket: wire.Publish(number, "fake", ticket), fd)
        os.close(memory)
        with kvoshim.Observable("fake") as honest:
            honest["x"] = 1
    finally:
        client.release()


def ask(link, message):
    link.send(message)
    return link.receive(30)[0]


def observe(target, key, pattern=None):
    return wire.Observe(1, 1, target, key, True, 0, b"", 0, pattern)


WRONG = {
    "a key that is too long": (observe("engine", "k" * 256), "key"),
    "a key of too many bytes": (observe("engine", "é" * 128), "key"),
    "an empty key": (observe("engine", ""), "key"),
    "a pattern that is too long": (observe("engine", None, "a*" + "x" * 255), "key"),
    "a name that is too long": (observe("n" * 256, "k"), "name"),
    "an empty name": (observe("", "k"), "name"),
    "a negative PID": (observe(-1, "k"), "unknown-name"),
    "no PID": (observe(0, "k"), "unknown-name"),
    "a PID that cannot be": (observe(1 << 40, "k"), "unknown-name"),
    "a process without an observable": (observe(os.getppid(), "k"), "unknown-name"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_registration_that_cannot_be_is_refused_and_leaves_nothing(place, working, what):
    message, code = WRONG[what]
    link = Link(place.socket)
    try:
        rows = link.table.rows()
        refusal = ask(link, message)
        assert isinstance(refusal, wire.Failed) and refusal.code == code, refusal
        assert link.table.rows() == rows
        assert isinstance(ask(link, observe("engine", "k" * 255)), wire.Observed), "the client goes on"
        assert len(link.table.rows()) == len(rows) + 1
    finally:
        link.close()


def test_a_store_of_another_process_is_not_published_again(place, working):
    """Whoever was given a store to read has its descriptor."""
    from kvoshim.errors import CorruptStoreError
    from kvoshim.kvo.client import Client

    peer, link, client = place.peer(), Link(place.socket), Client.acquire(None, True)
    peer.do("publish", "theirs")
    peer.do("set", "theirs", "x", 1)
    fd = link.channel.take(ask(link, wire.Open(1, "theirs", False)).info.ticket)
    try:
        def publish(name):
            _, former = client.request(lambda number: wire.Claim(number, name, bytes(16)))
            if former >= 0:  # what the name has had before
                os.close(former)
            client.request(lambda number, ticket: wire.Publish(number, name, ticket), fd)

        with pytest.raises(CorruptStoreError, match="calls itself 'theirs'"):
            publish("mine")
        peer.do("close", "theirs")
        with pytest.raises(CorruptStoreError, match=f"belongs to PID {peer.pid}, but PID {os.getpid()} sent it"):
            publish("theirs")
        with kvoshim.Observer() as observer:
            assert observer.get("theirs", "x") == 1
    finally:
        os.close(fd)
        client.release()
        link.close()


def test_limits_are_told(place):
    from kvoshim.errors import LimitError

    place.controller()
    observables = [kvoshim.Observable(f"name{number}", max_keys=1, capacity=1 << 16) for number in range(256)]
    try:
        with pytest.raises(LimitError, match="256 observables"):
            kvoshim.Observable("one too many")
        with kvoshim.Observer() as observer:
            assert len(observer.observables()) == 256
            for number in range(4096):
                observer.observe("name0", f"key{number}", print)
            with pytest.raises(LimitError, match="4096 keys"):
                observer.observe("name0", "one too many", print)
            observables[0]["key4095"] = 1
    finally:
        for observable in observables:
            observable.close()
