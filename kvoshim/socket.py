"""Drop-in for the standard socket module: `from kvoshim import socket`.

Stream sockets of the family AF_UNIX move their bytes through shared memory when both ends use kvoshim (this module or the
preload library); every other socket, and every other name here, is the standard module's own. KVOSHIM_PATHS narrows which
paths are accelerated (default here: all). In a process under the preload library this module leaves the work to it.

Readiness seen from outside (select, selectors, asyncio on the file descriptor) follows the standard rule for
level-triggered loops, with one addition: read until BlockingIOError before you wait again.
"""

import _socket
import os as _os
import socket as _standard
import warnings as _warnings
from socket import *  # noqa: F403
from socket import __all__  # noqa: F401

from kvoshim import _core

_mode = _core.start()

_UNIX_STREAM = (_standard.AF_UNIX, _standard.SOCK_STREAM)


def _name_bytes(address):
    """sun_path of an AF_UNIX address; None if the standard module would refuse it."""
    if isinstance(address, str):
        return _os.fsencode(address)
    if isinstance(address, (bytes, bytearray, memoryview)):
        return bytes(address)
    return None


class socket(_standard.socket):
    """The standard socket class, with AF_UNIX streams through shared memory.

    connection_id: the connection's negative ID, None while it is not one of ours. fileno() is the real descriptor.
    Errors are the standard module's.
    """

    __slots__ = ("_endpoint",)

    def __init__(self, family=-1, type=-1, proto=-1, fileno=None):
        super().__init__(family, type, proto, fileno)
        _core.check_in(super().fileno())
        self._endpoint = _core.Endpoint(super().fileno(), super().gettimeout())

    # Hot paths, one step deep; each falls back to the standard method for descriptors that are not ours.
    send = _core.send
    sendall = _core.sendall
    recv = _core.recv
    recv_into = _core.recv_into
    sendmsg = _core.sendmsg
    recvmsg = _core.recvmsg

    @property
    def connection_id(self):
        return _core.connection_id(self.fileno())

    def _ours(self):
        return _core.connection_id(self.fileno()) is not None and _mode == "active"

    def _markable(self):
        return _mode == "active" and (self.family, self.type) == _UNIX_STREAM

    # ---- life ----

    def connect(self, address):
        if self._markable() and (name := _name_bytes(address)):
            _core.before_connect(self.fileno(), name)
        super().connect(address)
        _core.after_connect(self.fileno())

    def bind(self, address):
        if _mode == "active":
            _core.before_bind(self.fileno())
        super().bind(address)

    def connect_ex(self, address):
        if self._markable() and (name := _name_bytes(address)):
            _core.before_connect(self.fileno(), name)
        result = super().connect_ex(address)
        if result == 0:
            _core.after_connect(self.fileno())
        return result

    def accept(self):
        fd, address = self._accept()
        if self._markable():
            address = _core.after_accept(self.fileno(), fd, address)
        accepted = self.__class__(self.family, self.type, self.proto, fileno=fd)
        if _standard.getdefaulttimeout() is None and self.gettimeout():
            accepted.setblocking(True)
        return accepted, address

    def dup(self):
        copy = super().dup()
        if _mode == "active":
            _core.after_dup(self.fileno(), copy.fileno())
        return copy

    def _real_close(self, _ss=_standard.socket):
        handle = _core.before_close(self.fileno()) if _mode == "active" and self.fileno() >= 0 else 0
        try:
            super()._real_close()
        finally:
            self._endpoint.fd = -1
            _core.after_close(handle)

    def detach(self):
        """The descriptor. A connection that has switched stays in the table, so that socket(fileno=...) here takes it up
        again; only that can use it. One that has not switched stays on the kernel for good, for everybody to use."""
        if _mode == "active":
            _core.before_detach(self.fileno())
        self._endpoint.fd = -1
        return super().detach()

    def __del__(self):
        # The standard class warns of a forgotten socket and closes its descriptor; ours must leave the table too.
        endpoint = getattr(self, "_endpoint", None)  # None: it could not be made
        if endpoint is not None and not self._closed and endpoint.fd >= 0 and self._ours():
            _warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def shutdown(self, how):
        if not (_mode == "active" and _core.shutdown(self.fileno(), how)):
            super().shutdown(how)

    # ---- settings ----

    def settimeout(self, value):
        super().settimeout(value)
        self._endpoint.set_timeout(super().gettimeout())

    def setblocking(self, flag):
        super().setblocking(flag)
        self._endpoint.set_timeout(super().gettimeout())

    def getsockopt(self, level, optname, *buflen):
        if (level, optname) == (_standard.SOL_SOCKET, _standard.SO_ERROR) and not buflen and _mode == "active":
            error = _core.socket_error(self.fileno())
            if error is not None:
                return error
        return super().getsockopt(level, optname, *buflen)

    def getsockname(self):
        return _core.hide(super().getsockname())

    def getpeername(self):
        return _core.hide(super().getpeername())

    # ---- the rest of the send and receive family ----

    def recvfrom(self, bufsize, flags=0):
        if not self._ours():
            return super().recvfrom(bufsize, flags)
        return self.recv(bufsize, flags), self._sender()

    def recvfrom_into(self, buffer, nbytes=0, flags=0):
        if not self._ours():
            return super().recvfrom_into(buffer, nbytes, flags)
        return self.recv_into(buffer, nbytes, flags), self._sender()

    def _sender(self):
        return self.getpeername() or None

    def sendto(self, data, *args):
        if not self._ours():
            return super().sendto(data, *args)
        raise OSError(106, "Transport endpoint is already connected")  # EISCONN, as the kernel answers

    def recvmsg_into(self, buffers, ancbufsize=0, flags=0):
        if not self._ours():
            return super().recvmsg_into(buffers, ancbufsize, flags)
        views = [memoryview(b).cast("B") for b in buffers]
        if any(view.readonly for view in views):
            raise TypeError("recvmsg_into() argument 1 must be an iterable of single-segment read-write buffers")
        data, ancdata, flags, sender = self.recvmsg(sum(map(len, views)), ancbufsize, flags)
        at = 0
        for view in views:
            part = data[at:at + len(view)]
            view[:len(part)] = part
            at += len(part)
        return len(data), ancdata, flags, sender

    def sendfile(self, file, offset=0, count=None):
        if not self._ours():
            return super().sendfile(file, offset, count)
        return self._sendfile_use_send(file, offset, count)


SocketType = _standard.SocketType


def fromfd(fd, family, type, proto=0):
    """As socket.fromfd: a socket on a duplicate of fd."""
    new = _os.dup(fd)
    if _mode == "active":
        _core.after_dup(fd, new)
    return socket(family, type, proto, new)


def socketpair(family=None, type=_standard.SOCK_STREAM, proto=0):
    """As socket.socketpair; a Unix stream pair is accelerated at once."""
    family = _standard.AF_UNIX if family is None else family
    a, b = (socket(family, type, proto, s.detach()) for s in _socket.socketpair(family, type, proto))
    if a._markable():
        _core.pair(a.fileno(), b.fileno())
        a.setblocking(a.gettimeout() is None)
        b.setblocking(b.gettimeout() is None)
    return a, b


def create_connection(*args, **kwargs):
    """The standard module's: TCP stays on the kernel."""
    return _standard.create_connection(*args, **kwargs)
