"""The proof of identity, both ways: who does not know the cookie learns nothing and gets nowhere."""

import os
import threading
import time

import pytest

from kvoshim import socket
from kvoshim.errors import ProofError
from kvoshim.registry.seat import proof

COOKIE, OTHER = bytes(range(32)), bytes(32)


@pytest.fixture
def pair():
    a, b = socket.socketpair()
    yield a, b
    a.close()
    b.close()


def prove_in_thread(sock, cookie):
    """The client's half; returns what became of it, when joined."""
    result = []

    def run():
        try:
            proof.prove(sock, cookie, time.monotonic() + 30)
            sock.sendall(b"first message")
            result.append("proven")
        except (ProofError, OSError) as error:
            result.append(error)
            sock.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, result


def test_both_know_the_cookie(pair):
    """(h) prove it is a registry."""
    thread, result = prove_in_thread(pair[0], COOKIE)
    rest = proof.accept(pair[1], COOKIE, 30)
    thread.join()
    assert result == ["proven"]
    while len(rest) < len(b"first message"):
        rest += pair[1].recv(100)
    assert rest == b"first message"


def test_the_registry_does_not_know_it(pair):
    thread, result = prove_in_thread(pair[0], COOKIE)
    with pytest.raises(ProofError, match="closed"):
        try:
            proof.accept(pair[1], OTHER, 30)
        finally:
            thread.join()
    assert isinstance(result[0], ProofError) and "cookie" in str(result[0])


def test_what_the_registry_said_is_no_use_to_another(pair):
    """A stranger that asks the true registry, and repeats its answer to somebody else's question."""
    true = proof.Proof(COOKIE)
    answer = true.feed(proof.MAGIC + bytes(16))
    thread, result = prove_in_thread(pair[0], COOKIE)
    pair[1].settimeout(30)
    pair[1].recv(100)
    pair[1].sendall(answer)
    thread.join()
    assert isinstance(result[0], ProofError)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n" * 4, bytes(48), os.urandom(4096)])
def test_a_stranger_answers(pair, said):
    thread, result = prove_in_thread(pair[0], COOKIE)
    pair[1].settimeout(30)
    pair[1].recv(100)
    pair[1].sendall(said) if said else pair[1].shutdown(socket.SHUT_RDWR)
    thread.join()
    assert isinstance(result[0], ProofError)


def test_a_stranger_says_nothing(pair):
    with pytest.raises(TimeoutError):
        proof.prove(pair[0], COOKIE, time.monotonic() + 0.05)
    with pytest.raises(TimeoutError):
        proof.accept(pair[1], COOKIE, 0.05)


def test_the_clients_half_comes_in_pieces():
    """An event loop gets it as it comes; what follows at once is not lost."""
    nonce = os.urandom(16)
    for size in (1, 7, 24, 25, 1000):
        one, said, given = proof.Proof(COOKIE), b"", proof.MAGIC + nonce
        for at in range(0, len(given), size):
            said += one.feed(given[at : at + size])
        assert len(said) == 48 and not one.done
        mine = proof._digest(COOKIE, b"client", nonce, said[:16])
        given = mine + b"and more"
        for at in range(0, len(mine), size):
            assert one.feed(given[at : at + size] if size < 33 else given) == b""
        assert one.done
        assert one.rest == b"and more"[: len(one.rest)]
        with pytest.raises(ValueError):
            one.feed(b"x")


def test_a_client_that_does_not_know_it():
    nonce = bytes(16)
    one = proof.Proof(COOKIE)
    said = one.feed(proof.MAGIC + nonce)
    digests = [proof._digest(OTHER, b"client", nonce, said[:16]), proof._digest(COOKIE, b"registry", nonce, said[:16])]
    for wrong in (bytes(32), said[16:], *digests):
        again = proof.Proof(COOKIE)
        again._nonce = said[:16]
        again.feed(proof.MAGIC + nonce)
        with pytest.raises(ProofError, match="cookie"):
            again.feed(wrong)
        assert not again.done


@pytest.mark.parametrize("said", [b"G", b"KVOSEAT2", b"\0" * 24, b"KVOSEAT" + b"\xff" * 4096])
def test_a_client_of_another_protocol(said):
    with pytest.raises(ProofError, match="another protocol"):
        proof.Proof(COOKIE).feed(said)
