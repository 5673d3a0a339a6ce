"""The native interface: connections by ID or descriptor.

A handle is an int. Negative (-100 and below): the ID of a connection that moves through shared memory or may come to;
zero or positive: the descriptor of one that stays on the kernel. Every call takes either and branches on the sign.
Descriptors returned here are non-inheritable. Bytes in, bytes out; times in seconds, None waits for ever. Errors: OSError
with the kernel's errno, TimeoutError, ValueError for an unknown ID.
"""

import os
import socket as _standard
from select import POLLIN

from kvoshim import _core
from kvoshim import socket as _socket

__all__ = ["accelerated", "accept", "close", "connect", "connection_id", "fileno", "listen", "recv", "refusals", "send", "wait"]

accelerated = _core.accelerated
connection_id = _core.connection_id
refusals = _core.refusals

_sockets: dict[int, _socket.socket] = {}  # by handle, and by descriptor: the sockets behind the handles given out


def _handle(sock):
    ident = sock.connection_id
    handle = sock.fileno() if ident is None else ident
    _sockets[handle] = _sockets[sock.fileno()] = sock
    return handle


def _sock(handle):
    try:
        return _sockets[handle]
    except KeyError:
        raise ValueError(f"handle {handle} was not made by kvoshim.transport, or is closed") from None


def fileno(handle):
    """The descriptor of a handle."""
    return _sock(handle).fileno() if handle < 0 else handle


def listen(path, backlog=128):
    """Binds and listens on a socket path (str or bytes; abstract with a leading zero byte). Returns a descriptor."""
    sock = _socket.socket(_standard.AF_UNIX, _standard.SOCK_STREAM)
    try:
        sock.bind(os.fspath(path))
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return _handle(sock)


def connect(path):
    """Connects to a socket path. Returns a handle."""
    sock = _socket.socket(_standard.AF_UNIX, _standard.SOCK_STREAM)
    try:
        sock.connect(os.fspath(path))
    except BaseException:
        sock.close()
        raise
    return _handle(sock)


def accept(listener):
    """Waits for the next connection of a listening descriptor. Returns a handle."""
    return _handle(_sock(listener).accept()[0])


def send(handle, data, timeout=None):
    """Sends all of data (bytes-like)."""
    sock = _sock(handle)
    if sock.gettimeout() != timeout:
        sock.settimeout(timeout)
    sock.sendall(data)


def recv(handle, size, timeout=None):
    """Up to size bytes; b"" at the end of the stream."""
    sock = _sock(handle)
    if sock.gettimeout() != timeout:
        sock.settimeout(timeout)
    return sock.recv(size)


def wait(handles, timeout=None):
    """The handles that are readable or at their end, in the given order; [] when the time is up."""
    handles = list(handles)
    ready = dict(_core.poll({fileno(h): POLLIN for h in handles}, timeout))
    return [h for h in handles if fileno(h) in ready]


def close(handle):
    """Closes a handle. ValueError when it is not open."""
    sock = _sock(handle)
    for name in [name for name, other in _sockets.items() if other is sock]:
        del _sockets[name]
    sock.close()
