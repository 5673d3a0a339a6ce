"""Clients that lie, flood, stay silent or say nonsense hurt themselves alone."""

import os
import random
import struct
import time

import msgspec
import pytest
from registry_harness import until

from kvoshim import registry
from kvoshim.errors import AccessDeniedError, KvoshimError, LimitError, ProtocolError, UnknownNameError
from kvoshim.process.framing import frame
from kvoshim.registry import seat, wire
from kvoshim.registry.client.link import Link, LinkLost


class Raw:
    """A proven connection that says what it likes."""

    def __init__(self, greet=True):
        self.sock = seat.connect().sock
        self.sock.settimeout(30)
        self.frames = wire.PROTOCOL.of_daemon()
        self.got = []
        if greet:
            self.say(wire.Hello(wire.VERSION, "raw"))
            data, ancillary, _, _ = self.sock.recvmsg(4096, 64)
            for _, _, content in ancillary:
                os.close(struct.unpack("i", content[:4])[0])
            self.got = list(self.frames.feed(data))
            assert isinstance(self.got.pop(0), wire.Welcome)

    def say(self, message):
        self.sock.sendall(frame(message))

    def hear(self):
        while not self.got:
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionError("closed")
            self.got += self.frames.feed(data)
        return self.got.pop(0)

    def refused(self):
        """Waits for the end of the connection; what was said last."""
        last = None
        try:
            while True:
                last = self.hear()
        except (ConnectionError, OSError):
            return last

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


@pytest.fixture
def watched(stage):
    """A registry that others use meanwhile: they must not notice anything."""
    peer = stage.peer()
    peer.do("register", "steady", {})
    yield stage
    until(lambda: [entry.pid for entry in registry.find("steady")] == [peer.pid])
    assert registry.ping(registry.owner("steady"), 30) > 0
    assert not peer.seen("lost")


@pytest.mark.parametrize("data", [
    b"\xff\xff\xff\xff", struct.pack("<I", wire.CLIENT_MAX + 1), struct.pack("<I", 3) + b"abc", struct.pack("<I", 0),
    frame(wire.Done(1, 1)), struct.pack("<I", 6) + msgspec.msgpack.encode([99, 1, 2, 3, 4]), b"\x01\x00\x00\x00\xc1",
    struct.pack("<I", 16000) + b"\x91" * 16000,
])  # fmt: skip
def test_what_is_no_message_ends_the_connection(watched, data):
    with Raw() as raw:
        raw.sock.sendall(data)
        assert isinstance(raw.refused(), wire.Failed)


def test_nothing_is_done_before_hello_and_hello_is_said_once(watched):
    with Raw(greet=False) as raw:
        raw.say(wire.Register(1, registry.entry.Offer("early")))
        assert raw.refused().code == "protocol"
    with Raw() as raw:
        raw.say(wire.Hello(wire.VERSION, "again"))
        assert raw.refused().code == "protocol"
    with Raw(greet=False) as raw:
        raw.say(wire.Hello(99, "other"))
        assert "version 99" in raw.refused().text
    assert registry.find("early") == []


def test_what_is_anothers_cannot_be_changed(watched):
    theirs = registry.owner("steady")
    with Raw() as raw:
        raw.say(wire.Deregister(1, theirs.id))
        assert raw.hear().code == "unknown-name"
        raw.say(wire.Update(2, theirs.id, registry.entry.Offer("steady", "/stolen")))
        assert raw.hear().code == "unknown-name"
        raw.say(wire.Reply(1, "lie"))
        raw.say(wire.Ask(3, 12345, "ping"))
        assert raw.hear().code == "unknown-name"
        raw.say(wire.Deregister(4, -5))
        assert raw.hear().code == "unknown-name"
    assert registry.owner("steady") == theirs


@pytest.mark.parametrize("offer", [
    ["a\nb"], ["x" * 256], ["a", 7], ["a", "", "", {"x": [1]}], ["a", "", "", {"x": {"y": 1}}], [], ["a", "x" * 2000], ["a", "", "zz"],
    ["a", "", "", {}, 1], ["a"] * 20,
])  # fmt: skip
def test_offers_that_no_client_of_ours_would_make(watched, offer):
    with Raw() as raw:
        body = msgspec.msgpack.encode([2, 1, offer, None])
        raw.sock.sendall(struct.pack("<I", len(body)) + body)
        assert isinstance(raw.hear(), wire.Failed)
    assert [entry.name for entry in registry.find()] == ["steady"]


def test_a_receipt_of_ones_own_making_is_no_use(watched):
    theirs = registry.owner("steady")
    with Raw() as raw:
        for seal in (b"", b"x" * 16, b"x" * 1000):
            receipt = wire.Receipt(theirs.id, 1, theirs.token, theirs.since, seal)
            raw.say(wire.Register(1, registry.entry.Offer("steady"), receipt))
            answer = raw.hear()
            assert answer.entry.id != theirs.id and not answer.entry.owner


def test_who_does_not_read_is_given_up_and_nobody_waits(watched):
    with Raw() as raw:
        raw.say(wire.Watch(True))
        raw.say(wire.Register(1, registry.entry.Offer("mute")))
        until(lambda: registry.find("mute"))
        raw.sock.settimeout(0.2)
        try:
            for number in range(200_000):
                raw.say(wire.Update(number, 1, registry.entry.Offer("mute", "/" + "x" * 200)))
        except OSError:
            pass
        with registry.register("quick", address="/q"):
            assert registry.owner("quick").address == "/q"
    until(lambda: not registry.find("mute"))


def test_a_flood_of_one_client_is_read_slowly(watched):
    stage = watched
    with Raw() as raw:
        raw.sock.setblocking(False)
        message = frame(wire.Sync(1)) * 1000
        deadline = time.monotonic() + 30
        while "it asks too often" not in stage.log_text() and time.monotonic() < deadline:
            try:
                raw.sock.send(message)
                raw.sock.recv(1 << 20)
            except BlockingIOError:
                pass
        assert "it asks too often" in stage.log_text()
        with registry.register("quick"):
            assert registry.owner("quick")


def test_bounds(stage):
    config = stage.configure(limits={"entries": 20, "entries-per-client": 15, "questions-per-client": 2, "clients": 5})
    stage.serve("--config", str(config))
    mine = [registry.register(f"n{number}") for number in range(15)]
    with pytest.raises(LimitError, match="a client may register 15 entries"):
        registry.register("more")
    peer = stage.peer()
    for number in range(5):
        peer.do("register", f"p{number}", {})
    with pytest.raises(AssertionError, match="LimitError: the registry has 20 entries"):
        peer.do("register", "more", {})
    for one in mine:
        one.close()
    links = []
    try:
        with pytest.raises(LimitError, match="5 clients"):
            while True:
                links.append(Link(seat.connect()))
    finally:
        for link in links:
            link.close()
            link.reader.close()
    assert len(links) == 3


def test_questions_are_bounded_and_each_gets_its_own_answer(stage):
    import signal

    config = stage.configure(limits={"questions-per-client": 2})
    stage.serve("--config", str(config))
    peer = stage.peer()
    peer.do("register", "engine", {})
    entry = registry.owner("engine")
    os.kill(peer.pid, signal.SIGSTOP)
    with Raw() as raw:
        for request in (1, 2, 3):
            raw.say(wire.Ask(request, entry.id, "ping"))
        refused = raw.hear()
        assert (refused.request, refused.code) == (3, "limit")
        os.kill(peer.pid, signal.SIGCONT)
        assert {raw.hear().request, raw.hear().request} == {1, 2}


def test_random_bytes_behind_a_greeting(watched):
    chance = random.Random(7)
    samples = [
        frame(message) for message in (
            wire.Register(1, registry.entry.Offer("r", "/a", "1.0.0", {"x": 1})), wire.Sync(2), wire.Watch(True),
            wire.Ask(3, 4, "info"), wire.Deregister(5, 6), wire.Reply(7, "x"),
        )
    ]  # fmt: skip
    for _ in range(150):
        with Raw() as raw:
            data = bytearray(b"".join(chance.choices(samples, k=3)))
            for _ in range(chance.randrange(1, 6)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            raw.sock.settimeout(0.02)
            try:
                raw.sock.sendall(bytes(data))
                raw.say(wire.Sync(9))
                raw.refused()
            except (OSError, KvoshimError):
                pass
    until(lambda: [entry.name for entry in registry.find()] == ["steady"])


def test_a_store_that_is_not_what_it_should_be(stage):
    """What the registry's store holds is looked at before it is used."""
    from kvoshim._store import Reader, Writer

    from kvoshim.registry.client.mirror import Mirror
    from kvoshim.registry.entry import Pattern

    writer = Writer("registry", 64, 1 << 20, history=1 << 16)
    reader = Reader(writer.fd)
    good = registry.Entry(1, "good", 1, "h", 1, 1, 1, "", "", {}, 1, False, 0.0, "", "user")
    encode = msgspec.msgpack.encode
    values = {"1": encode(good), "2": encode(good), "zz": encode(good), "3": b"\xc1", "4": 7, "6": "text", "7": b""}
    values["5"] = b"\x91" * 5000
    for key, value in values.items():
        writer.set(key, value)
    mirror = Mirror(reader, True)
    assert mirror.find(Pattern("*")) == [good]
    for key, value in values.items():
        writer.set(key, value)
        writer.remove(key)
    mirror.catch_up()
    assert mirror.find(Pattern("*")) == []
    mirror.close()
    writer.close()


def test_a_registry_that_says_nonsense_is_left(stage):
    """A client whose registry breaks the protocol takes it for dead."""
    from kvoshim import socket

    ours, theirs = socket.socketpair()
    link = object.__new__(Link)
    link.sock, link.waiting = ours, []
    link._frames = wire.PROTOCOL.of_daemon()
    theirs.sendall(struct.pack("<I", 5) + b"hello")
    with pytest.raises(LinkLost):
        link.receive(30)
    ours.close()
    theirs.close()


def test_a_stranger_without_the_cookie_gets_nothing(watched):
    from kvoshim import socket

    path = seat.Scope().places()[0].read().record.address
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(30)
        sock.connect(path)
        sock.sendall(frame(wire.Hello(wire.VERSION, "stranger")) + b"x" * 100)
        data = b""
        try:
            while more := sock.recv(4096):
                data += more
        except OSError:
            pass
    assert not any(isinstance(message, wire.Welcome) for message in _messages(data))


def _messages(data):
    try:
        return list(wire.PROTOCOL.of_daemon().feed(data))
    except ProtocolError:
        return []


def test_errors_cross_the_wire_as_what_they_are():
    for kind in (AccessDeniedError, LimitError, UnknownNameError):
        assert wire.ERRORS[wire.PROTOCOL.code_of(kind("x"))] is kind


def test_an_entry_that_is_in_the_journal_before_it_is_in_force(stage):
    """Its owner was held up, or died, between the two: whoever begins then does not miss it."""
    import threading

    from kvoshim._store import Reader, Writer

    from kvoshim.registry.client.mirror import Mirror

    writer = Writer("registry", 4096, 1 << 24, history=1 << 22)
    encode, done = msgspec.msgpack.encode, threading.Event()

    def write():
        for number in range(1, 4001):
            writer.set(f"{number:x}", encode(registry.Entry(number, "n", number, "h", 1, 1, 1, "", "", {}, 0, False, 0.0, "", "user")))
        done.set()

    thread = threading.Thread(target=write)
    mirrors = []
    thread.start()
    while not done.is_set():
        mirrors.append(Mirror(Reader(writer.fd), True))
    thread.join()
    for mirror in mirrors:
        mirror.catch_up()
        assert len(mirror.entries) == 4000
        mirror.close()
    writer.close()
