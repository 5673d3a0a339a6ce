"""Proof, both ways, that both ends of a connection know the cookie of the port file: the client that it talks to the registry
and not to whoever listens there now, the registry that a client has read the file. The cookie itself never travels.

    client -> registry   magic, 8; the client's nonce, 16
    registry -> client   its nonce, 16; HMAC-SHA256 of "registry" and both nonces, 32
    client -> registry   HMAC-SHA256 of "client" and both nonces, 32; its own messages may follow at once
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time

from kvoshim import socket
from kvoshim.errors import ProofError

MAGIC = b"KVOSEAT1"
_NONCE = 16
_HELLO = len(MAGIC) + _NONCE
_DIGEST = 32


def _digest(cookie: bytes, role: bytes, client: bytes, registry: bytes) -> bytes:
    return hmac.digest(cookie, role + b"\0" + client + registry, hashlib.sha256)


class Proof:
    """The registry's half, for one connection. done: the client has proved itself; rest: what it has sent behind its proof."""

    def __init__(self, cookie: bytes) -> None:
        self.done = False
        self.rest = b""
        self._cookie = cookie
        self._nonce = os.urandom(_NONCE)
        self._client = b""
        self._data = b""

    def feed(self, data: bytes) -> bytes:
        """Takes what was received; returns what is to be sent. ProofError: this is no client of ours, close the connection."""
        if self.done:
            raise ValueError("the proof is complete")
        self._data += data
        answer = b""
        if not self._client:
            if not self._data.startswith(MAGIC[: len(self._data)]):
                raise ProofError("it speaks another protocol")
            if len(self._data) < _HELLO:
                return b""
            self._client, self._data = self._data[len(MAGIC) : _HELLO], self._data[_HELLO:]
            answer = self._nonce + _digest(self._cookie, b"registry", self._client, self._nonce)
        if len(self._data) >= _DIGEST:
            expected = _digest(self._cookie, b"client", self._client, self._nonce)
            if not hmac.compare_digest(self._data[:_DIGEST], expected):
                raise ProofError("it does not know the cookie")
            self.done, self.rest, self._data = True, self._data[_DIGEST:], b""
        return answer


def prove(sock: socket.socket, cookie: bytes, deadline: float) -> None:
    """The client's half, on a connected socket. ProofError: no registry, or not this one; TimeoutError; OSError."""
    nonce = os.urandom(_NONCE)
    _patience(sock, deadline)
    sock.sendall(MAGIC + nonce)
    answer = b""
    while len(answer) < _NONCE + _DIGEST:
        _patience(sock, deadline)
        data = sock.recv(_NONCE + _DIGEST - len(answer))
        if not data:
            raise ProofError("it closed the connection before it had proved itself")
        answer += data
    other = answer[:_NONCE]
    if not hmac.compare_digest(answer[_NONCE:], _digest(cookie, b"registry", nonce, other)):
        raise ProofError("it does not know the cookie")
    _patience(sock, deadline)
    sock.sendall(_digest(cookie, b"client", nonce, other))


def accept(sock: socket.socket, cookie: bytes, timeout: float) -> bytes:
    """The registry's half with a socket of its own and time to wait; returns what the client has sent behind it."""
    deadline = time.monotonic() + timeout
    proof = Proof(cookie)
    while not proof.done:
        _patience(sock, deadline)
        data = sock.recv(4096)
        if not data:
            raise ProofError("it closed the connection before it had proved itself")
        if answer := proof.feed(data):
            sock.sendall(answer)
    return proof.rest


def _patience(sock: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("it says nothing")
    sock.settimeout(left)
