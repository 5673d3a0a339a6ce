# What Python sees of connections (waiting.pxi: of waiting for them). Functions that take "self" are methods of
# kvoshim.socket.socket: they live in its class body, so that a call is one step deep. Where a descriptor is not ours (its
# table entry is not negative), they call the standard module's method.
import errno as _errno
import socket as _standard

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals

cdef extern from "dlfcn.h" nogil:
    void *RTLD_DEFAULT
    void *dlsym(void *, const char *)

cdef extern from "pthread.h" nogil:
    int pthread_atfork(void (*)() noexcept nogil, void (*)() noexcept nogil, void (*)() noexcept nogil)

ctypedef int (*preloaded_t)(int) noexcept nogil

cdef object standard_recv = _standard.socket.recv
cdef object standard_send = _standard.socket.send
cdef object standard_sendall = _standard.socket.sendall
cdef object standard_sendmsg = _standard.socket.sendmsg
cdef object standard_recvmsg = _standard.socket.recvmsg
cdef object standard_recv_into = _standard.socket.recv_into
cdef object timed_out = TimeoutError
cdef preloaded_t preloaded = NULL


def start(paths=None):
    """Begins to accelerate in this process.

    paths: what KVOSHIM_PATHS would hold; None: read the variable, and take all paths if it is not set.
    Returns "active", "preloaded" (the preload library does it already) or "off" (nothing is selected, or a setting is
    unusable: see KVOSHIM_LOG). Further calls change nothing.
    """
    import os
    global preloaded
    if kvo_process.table_len:
        return "active"
    preloaded = <preloaded_t>dlsym(RTLD_DEFAULT, b"kvoshim_connection_id")
    if preloaded != NULL and preloaded(-1):
        return "preloaded"
    preloaded = NULL
    if paths is None:
        paths = os.environ.get("KVOSHIM_PATHS")
    if paths is None:
        paths = os.environ.get("USE_TSSX") or "*"
    if not paths:
        return "off"
    if kvo_start(os.fsencode(paths)) < 0 or not kvo_process.table_len:
        return "off"
    kvo_process.foreign_wait = 1
    pthread_atfork(kvo_before_fork, NULL, kvo_after_fork_in_child)
    return "active"


def connection_id(int fd):
    """The negative ID of a descriptor's connection; None when it is on the kernel alone."""
    cdef int32_t ident = preloaded(fd) if preloaded != NULL else ident_of_fd(fd)
    if ident < 0 and (preloaded != NULL or state_of(conn_at(ident)) != PLAIN):
        return ident
    return None


def accelerated():
    """How many ends of connections have switched to shared memory in this process (int)."""
    return kvo_load64(&kvo_process.stats.accelerated) if kvo_process.stats != NULL else 0


def refusals():
    """Counts of connections that stayed on the kernel, by reason: {str: int}."""
    if kvo_process.stats == NULL:
        return {}
    counts = [kvo_load64(&kvo_process.stats.refused[i]) for i in range(KVO_REASONS)]
    return {kvo_reason_name(i).decode(): counts[i] for i in range(1, KVO_REASONS) if counts[i]}


# ---- life ----

def before_connect(int fd, bytes name):
    """Marks a socket that is about to connect to a path (bytes as in sun_path) if that is selected."""
    cdef sockaddr_un address
    cdef size_t n = len(name)
    if ident_of_fd(fd) < 0 or n == 0 or n > 108 or not kvo_process.table_len:
        return
    memset(&address, 0, sizeof(address))
    address.sun_family = <unsigned short>AF_UNIX
    memcpy(address.sun_path, PyBytes_AS_STRING(name), n)
    if kvo_path_selected(address.sun_path, n) and stream_socket(fd):
        mark(fd, &address, <socklen_t>(sizeof(unsigned short) + n))


def before_bind(int fd):
    """A mark that a failed connect() has left makes way."""
    life_unmark(fd)


def after_connect(int fd):
    """The socket is connected."""
    cdef int32_t ident = ident_of_fd(fd)
    if ident < 0 and state_of(conn_at(ident)) == MARKED:
        enter(conn_at(ident), PENDING)


def after_accept(int listener, int fd, peer):
    """fd was accepted; peer: its name as the standard module gives it. Returns the name without a mark."""
    cdef sockaddr_un address
    cdef bytes raw
    if not isinstance(peer, bytes) or not kvo_process.table_len or len(peer) > 108:
        return peer
    raw = peer
    memset(&address, 0, sizeof(address))
    address.sun_family = <unsigned short>AF_UNIX
    memcpy(address.sun_path, PyBytes_AS_STRING(raw), len(raw))
    if life_accepted(listener, fd, &address, <socklen_t>(sizeof(unsigned short) + len(raw))):
        return ""
    return peer


def hide(name):
    """A socket's name without a mark."""
    return "" if isinstance(name, bytes) and name[:4] == b"\0kvo" and len(name) == MARK_BYTES else name


def after_dup(int old, int new):
    kvo_dup(old, new)


def pair(int a, int b):
    """Both ends of a new socketpair() go live at once."""
    cdef uint64_t signals
    if kvo_process.table_len and kvo_path_selected(b"socketpair", 10):
        signals = kvo_hold_signals()
        life_pair(a, b)
        kvo_release_signals(signals)


def before_detach(int fd):
    """The descriptor will be used by others: the connection goes back to the kernel, since we would not see their bytes."""
    cdef int32_t ident = ident_of_fd(fd)
    cdef conn_t *c
    if ident < 0 and demote(conn_at(ident), fd, KVO_DETACHED):
        c = life_forget(fd)
        if c != NULL:
            dispose(c)


def check_in(int fd):
    """A socket object begins to use a descriptor. What the table has for its number may be about a detached one that was
    closed behind our back."""
    cdef int32_t ident = ident_of_fd(fd)
    cdef conn_t *c
    cdef stat_t info
    if ident < 0:
        c = conn_at(ident)
        if c.me != NULL and (fstat(fd, &info) or c.me.inode != info.st_ino):
            c = life_forget(fd)
            if c != NULL:
                dispose(c)


def before_close(int fd):
    """The descriptor leaves the table. Returns a handle for after_close()."""
    cdef conn_t *c = life_forget(fd)
    if c == NULL:
        return 0
    epollset_forget(c, fd)
    return ident_of(c)


def after_close(int32_t handle):
    """The descriptor is closed in the kernel."""
    if handle:
        dispose(conn_at(handle))


def shutdown(int fd, int how):
    """True if the connection is ours and was shut down; OSError."""
    cdef int32_t ident = ident_of_fd(fd)
    cdef int r
    if ident >= 0:
        return False
    r = kvo_shutdown(ident, fd, how)
    if r < 0:
        raise_errno(-r)
    return True


def socket_error(int fd):
    """SO_ERROR of a live connection; None: ask the kernel."""
    cdef int32_t ident = ident_of_fd(fd)
    cdef int r = kvo_socket_error(ident, fd) if ident < 0 else -1
    return None if r < 0 else r


# ---- moving bytes ----

cdef class Endpoint:
    """What a method needs of its socket: descriptor and timeout (seconds; < 0: none, 0: non-blocking)."""
    cdef public int fd
    cdef public double timeout

    def __init__(self, int fd, timeout):
        self.fd = fd
        self.set_timeout(timeout)

    def set_timeout(self, timeout):
        cdef int32_t ident = ident_of_fd(self.fd)
        self.timeout = -1 if timeout is None else timeout
        if ident < 0:
            kvo_set_nonblock(ident, timeout is not None)


cdef object raise_errno(int number):
    import os
    raise OSError(number, os.strerror(number))


cdef int wait_ready(Endpoint e, short events, timespec *deadline) except -1:
    """Waits until the deadline. 1: ready."""
    cdef pollfd p
    cdef timespec left
    cdef int r
    while True:
        p.fd = e.fd
        p.events = events
        p.revents = 0
        time_left(deadline, &left)
        with nogil:
            r = kvo_poll(&p, 1, &left, NULL)
        if r > 0:
            return 1
        if r == 0:
            raise timed_out("timed out")
        if r != -EINTR:
            raise_errno(-r)
        PyErr_CheckSignals()


cdef void deadline_in(timespec *deadline, double seconds):
    cdef timespec span
    span.tv_sec = <long>seconds
    span.tv_nsec = <long>((seconds - <double>span.tv_sec) * 1e9)
    deadline_after(deadline, &span)


cdef ssize_t receive(Endpoint e, int32_t ident, msghdr *m, int flags) except -1:
    cdef conn_t *c = conn_at(ident)
    cdef ssize_t n
    cdef timespec deadline
    cdef bint timing = False
    cdef int fd
    # What lies in the ring is taken without letting go of the interpreter.
    if m.msg_iovlen == 1 and m.msg_control == NULL:
        if e.timeout != 0 and not flags & MSG_DONTWAIT:
            be_patient(c)
        n = receive_at_once(c, e.fd, m.msg_iov.iov_base, m.msg_iov.iov_len, flags)
        if n:
            return n
    if state_of(c) == LIVE and is_set(&c.recv_ring) and not flags & MSG_WAITALL and ring_readable(c) > 0:
        n = stream_receive(c, e.fd, m, flags | MSG_DONTWAIT)  # another thread may be first: never block here
        if n >= 0:
            return n
    while True:
        fd = e.fd  # a close() in another thread changes it once the interpreter is let go of
        if e.timeout == 0:
            n = stream_receive(c, fd, m, flags | MSG_DONTWAIT)
        elif e.timeout > 0:
            n = stream_receive(c, fd, m, flags | MSG_DONTWAIT)
            if n == -EAGAIN:
                if not timing:
                    deadline_in(&deadline, e.timeout)
                    timing = True
                wait_ready(e, POLLIN, &deadline)
                continue
        else:
            with nogil:
                n = stream_receive(c, fd, m, flags)
        if n >= 0:
            return n
        if n != -EINTR:
            raise_errno(<int>-n)
        PyErr_CheckSignals()


cdef ssize_t transmit(Endpoint e, int32_t ident, msghdr *m, int flags, timespec *deadline) except -1:
    """deadline NULL: counts from here."""
    cdef conn_t *c = conn_at(ident)
    cdef ssize_t n
    cdef timespec own
    cdef int fd
    # A message that fits is written without letting go of the interpreter.
    if m.msg_iovlen == 1 and m.msg_control == NULL:
        n = send_at_once(c, e.fd, m.msg_iov.iov_base, m.msg_iov.iov_len, flags)
        if n:
            return n
    if state_of(c) == LIVE and ring_space(c) >= <ssize_t>total_of(m):
        n = stream_send(c, e.fd, m, flags | MSG_DONTWAIT)
        if n >= 0:
            return n
        if n != -EINTR and n != -EAGAIN:
            raise_errno(<int>-n)
    while True:
        fd = e.fd  # a close() in another thread changes it once the interpreter is let go of
        if e.timeout == 0:
            n = stream_send(c, fd, m, flags | MSG_DONTWAIT)
        elif e.timeout > 0:
            with nogil:
                n = stream_send(c, fd, m, flags | MSG_DONTWAIT)
            if n == -EAGAIN:
                if deadline == NULL:
                    deadline = &own
                    deadline_in(&own, e.timeout)
                wait_ready(e, POLLOUT, deadline)
                continue
        else:
            with nogil:
                n = stream_send(c, fd, m, flags)
        if n >= 0:
            return n
        if n != -EINTR:
            raise_errno(<int>-n)
        PyErr_CheckSignals()


def recv(self, Py_ssize_t bufsize, int flags=0):
    """As socket.recv: up to bufsize bytes; b"" at the end of the stream."""
    cdef Endpoint e = self._endpoint
    cdef int32_t ident = ident_of_fd(e.fd)
    cdef msghdr m
    cdef iovec v
    cdef ssize_t n
    if ident >= 0 or bufsize < 0:
        return standard_recv(self, bufsize, flags)
    cdef conn_t *c = conn_at(ident)
    if state_of(c) == LIVE and is_set(&c.recv_ring) and not flags & MSG_WAITALL:
        n = ring_promised(c)
        if 0 < n < bufsize:
            bufsize = n  # no larger buffer than there is data
    cdef bytes data = PyBytes_FromStringAndSize(NULL, bufsize)
    one_piece(&m, &v, PyBytes_AS_STRING(data), <size_t>bufsize)
    n = receive(e, ident, &m, flags)
    return data if n == bufsize else data[:n]


def write(int fd, data):
    """As os.write, on a descriptor of ours."""
    cdef int32_t ident = ident_of_fd(fd)
    cdef msghdr m
    cdef iovec v
    cdef Py_buffer view
    cdef ssize_t n
    if ident >= 0:
        raise_errno(EBADF)
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        one_piece(&m, &v, view.buf, <size_t>view.len)
        while True:
            with nogil:
                n = stream_send(conn_at(ident), fd, &m, MSG_NOSIGNAL)
            if n >= 0:
                return n
            if n != -EINTR:
                raise_errno(<int>-n)
            PyErr_CheckSignals()
    finally:
        PyBuffer_Release(&view)


def recv_into(self, buffer, Py_ssize_t nbytes=0, int flags=0):
    """As socket.recv_into: bytes received into a writable buffer."""
    cdef Endpoint e = self._endpoint
    cdef int32_t ident = ident_of_fd(e.fd)
    cdef msghdr m
    cdef iovec v
    cdef Py_buffer view
    if ident >= 0 or nbytes < 0:
        return standard_recv_into(self, buffer, nbytes, flags)
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        if nbytes > view.len:
            raise ValueError("buffer too small for requested bytes")
        one_piece(&m, &v, view.buf, <size_t>(nbytes if nbytes else view.len))
        if v.iov_len == 0:
            return 0
        return receive(e, ident, &m, flags)
    finally:
        PyBuffer_Release(&view)


def send(self, data, int flags=0):
    """As socket.send: bytes taken, which may be fewer than given."""
    cdef Endpoint e = self._endpoint
    cdef int32_t ident = ident_of_fd(e.fd)
    cdef msghdr m
    cdef iovec v
    cdef Py_buffer view
    if ident >= 0:
        return standard_send(self, data, flags)
    if PyBytes_CheckExact(data):
        one_piece(&m, &v, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data))
        return transmit(e, ident, &m, flags, NULL)
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        one_piece(&m, &v, view.buf, <size_t>view.len)
        return transmit(e, ident, &m, flags, NULL)
    finally:
        PyBuffer_Release(&view)


def sendall(self, data, int flags=0):
    """As socket.sendall: all of data, within one timeout for the whole."""
    cdef Endpoint e = self._endpoint
    cdef int32_t ident = ident_of_fd(e.fd)
    cdef msghdr m
    cdef iovec v
    cdef Py_buffer view
    cdef timespec deadline
    cdef Py_ssize_t done = 0
    if ident >= 0:
        return standard_sendall(self, data, flags)
    if e.timeout > 0:
        deadline_in(&deadline, e.timeout)
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        while True:
            one_piece(&m, &v, <char *>view.buf + done, <size_t>(view.len - done))
            done += transmit(e, ident, &m, flags, &deadline if e.timeout > 0 else NULL)
            if done >= view.len:
                return None
            PyErr_CheckSignals()  # a signal may have ended the call after a part
    finally:
        PyBuffer_Release(&view)


def sendmsg(self, buffers, ancdata=(), int flags=0, address=None):
    """As socket.sendmsg: gathers buffers; ancdata: (level, type, bytes-like) items."""
    cdef Endpoint e = self._endpoint
    cdef int32_t ident = ident_of_fd(e.fd)
    cdef msghdr m
    cdef iovec v
    cdef bytes control = b"".join([_pack(item) for item in ancdata])
    if ident >= 0 or address is not None:
        arguments = () if address is None else (address,)
        return standard_sendmsg(self, buffers, ancdata, flags, *arguments)
    cdef bytes data = b"".join(buffers)
    one_piece(&m, &v, PyBytes_AS_STRING(data), <size_t>len(data))
    if control:
        withdraw(conn_at(ident), e.fd, KVO_ANCILLARY)
        m.msg_control = PyBytes_AS_STRING(control)
        m.msg_controllen = <size_t>len(control)
    return transmit(e, ident, &m, flags, NULL)


cdef bytes _pack(item):
    """One item of ancdata as the kernel takes it. TypeError."""
    cdef cmsghdr head
    if not isinstance(item, tuple) or len(item) != 3:
        raise TypeError("[sendmsg() ancillary data items] must be (level, type, data) tuples")
    level, kind, data = item[0], item[1], memoryview(item[2]).tobytes()
    head.cmsg_len = CMSG_LEN(<size_t>len(data))
    head.cmsg_level = level
    head.cmsg_type = kind
    return (<char *>&head)[:sizeof(cmsghdr)] + data + bytes(CMSG_SPACE(<size_t>len(data)) - CMSG_LEN(<size_t>len(data)))


def recvmsg(self, Py_ssize_t bufsize, Py_ssize_t ancbufsize=0, int flags=0):
    """As socket.recvmsg: (data, ancdata, flags, address)."""
    cdef Endpoint e = self._endpoint
    cdef int32_t ident = ident_of_fd(e.fd)
    cdef msghdr m
    cdef iovec v
    cdef cmsghdr *part
    if ident >= 0 or bufsize < 0 or ancbufsize < 0:
        return standard_recvmsg(self, bufsize, ancbufsize, flags)
    cdef bytes data = PyBytes_FromStringAndSize(NULL, bufsize)
    cdef bytes control = bytes(ancbufsize)
    one_piece(&m, &v, PyBytes_AS_STRING(data), <size_t>bufsize)
    if ancbufsize:
        m.msg_control = PyBytes_AS_STRING(control)
        m.msg_controllen = <size_t>ancbufsize
    cdef ssize_t n = receive(e, ident, &m, flags | MSG_CMSG_CLOEXEC)
    ancdata = []
    part = CMSG_FIRSTHDR(&m) if n and m.msg_control != NULL else NULL
    while part != NULL:
        ancdata.append((part.cmsg_level, part.cmsg_type,
                        (<char *>CMSG_DATA(part))[:part.cmsg_len - CMSG_LEN(0)]))
        part = CMSG_NXTHDR(&m, part)
    return data[:n], ancdata, m.msg_flags & ~MSG_CMSG_CLOEXEC, self._sender()
