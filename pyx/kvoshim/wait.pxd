# Blocking: spin if that pays, then arm, look again, and sleep in the kernel.
from libc.stdint cimport uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.ancillary cimport take_bytes
from kvoshim.doorbell cimport *
from kvoshim.lock cimport alone
from kvoshim.ring cimport ring_readable, ring_space
from kvoshim.spin cimport spin_until

cdef enum:
    NAP_NS = 1000000
    SLICE_NS = 100000000


cdef inline bint receive_ended(conn_t *c) noexcept nogil:
    """Nothing more will come once the ring is empty."""
    return (c.gone or kvo_load32(&c.me.flags) & KVO_SHUT_RD
            or kvo_acquire32(&c.peer.flags) & KVO_SHUT_WR) != 0


cdef inline bint send_ended(conn_t *c) noexcept nogil:
    return (c.gone or kvo_load32(&c.me.flags) & KVO_SHUT_WR
            or kvo_load32(&c.peer.flags) & KVO_SHUT_RD) != 0


cdef inline bint unread_at_peer(conn_t *c) noexcept nogil:
    """The peer is gone and has left bytes of mine unread: the kernel would say ECONNRESET, once."""
    return (kvo_load64(&c.peer.head) != kvo_load64(&c.me.tail)
            or kvo_load64(&c.peer.kernel_read) < kvo_load64(&c.me.cut))


cdef inline void nap() noexcept nogil:
    """A millisecond, for the rare wait that nobody rings for."""
    cdef timespec span
    span.tv_sec = 0
    span.tv_nsec = NAP_NS
    kvo_next.ppoll(NULL, 0, &span, NULL)


cdef inline timespec *socket_timeout(int fd, int option, timespec *out) noexcept nogil:
    """SO_RCVTIMEO or SO_SNDTIMEO; NULL: none."""
    cdef timeval tv
    cdef socklen_t n = sizeof(timeval)
    if kvo_next.getsockopt(fd, SOL_SOCKET, option, &tv, &n) or (tv.tv_sec == 0 and tv.tv_usec == 0):
        return NULL
    out.tv_sec = tv.tv_sec
    out.tv_nsec = tv.tv_usec * 1000
    return out


cdef inline int sleep_polling(conn_t *c, int fd, int option) noexcept nogil:
    """Sleeps until a bell or the peer's end, and leaves the bell where it is. 0 or -errno."""
    cdef timespec slice
    if option == SO_SNDTIMEO and not alone(c) and socket_timeout(fd, option, &slice) == NULL:
        # Another thread may shut the connection down, which rings no bell here.
        slice.tv_sec = 0
        slice.tv_nsec = SLICE_NS
        return sleep_for(c, fd, &slice, 0)
    return sleep_for(c, fd, socket_timeout(fd, option, &slice), -EAGAIN)


cdef inline int sleep_for(conn_t *c, int fd, const timespec *span, int when_over) noexcept nogil:
    cdef pollfd p
    cdef int r
    p.fd = fd
    p.events = POLLIN | POLLRDHUP
    p.revents = 0
    r = kvo_next.ppoll(&p, 1, span, NULL)
    if r < 0:
        return -errno
    if r == 0:
        return when_over
    if p.revents & POLLHUP:
        look_at_kernel(c, fd)
    return 0


cdef inline int wait_data(conn_t *c, int fd, bint part_read) noexcept nogil:
    """Returns 0 when there is something to look at, -EAGAIN after SO_RCVTIMEO, -EINTR. part_read: bytes have been read
    already, so a signal ends the wait even if its handler restarts calls."""
    cdef char scratch[64]
    cdef uint32_t old
    cdef ssize_t n
    cdef int r = 0
    if spin_until(c, &c.receiving, &c.peer.tail, kvo_load64(&c.me.head)):
        return 0
    if not lead(c):
        follow(c)
        return 0
    old = outstanding(c)
    want(c, KVO_WANT_DATA)
    if kvo_load64(&c.peer.tail) != kvo_load64(&c.me.head) or receive_ended(c):
        kvo_and32(&c.me.wait, ~KVO_WANT_DATA)
        unlead(c)
        return 0
    drain(c, fd, old)
    if c.gone:
        unlead(c)
        return 0
    c.stat_sleeps += 1
    kvo_add32(&c.sleepers, 1)
    if kvo_process.foreign_wait or part_read:
        r = sleep_polling(c, fd, SO_RCVTIMEO)
    else:
        # The bell is drained by the very call that sleeps: as many system calls as a plain blocking recv.
        n = take_bytes(c, fd, scratch, sizeof(scratch), 0)
        if n == 0 or n == -ECONNRESET:
            look_at_kernel(c, fd)
        elif n < 0:
            r = <int>n
    kvo_add32(&c.sleepers, <uint32_t>-1)
    unlead(c)
    return r


cdef inline int wait_space(conn_t *c, int fd) noexcept nogil:
    """As wait_data(), for room in my outgoing ring."""
    cdef uint32_t old
    cdef bint quiet
    cdef int r
    if spin_until(c, &c.sending, &c.peer.head, kvo_load64(&c.me.head_cache)):
        return 0
    if not lead(c):
        follow(c)
        return 0
    old = outstanding(c)
    # With no data waiting, data are waited for as well: then an old bell tells nobody anything, and may be drained.
    quiet = kvo_load64(&c.peer.tail) == kvo_load64(&c.me.head)
    want(c, KVO_WANT_SPACE | (KVO_WANT_DATA if quiet else 0))
    if ring_space(c) > 0 or send_ended(c):
        kvo_and32(&c.me.wait, ~KVO_WANT_SPACE)
        unlead(c)
        return 0
    if quiet and kvo_load64(&c.peer.tail) != kvo_load64(&c.me.head):
        kvo_and32(&c.me.wait, ~KVO_WANT_DATA)
        quiet = False
    if not switch_receiving(c) or (old and not quiet and not kvo_load32(&c.me.wait) & KVO_WANT_DATA
                                   and (c.shadow or c.registrations != NULL or kvo_process.foreign_wait)):
        # Unread data lie there, which are not mine to take, or a bell for somebody who waits for data, which must
        # stay readable. Look again soon.
        unlead(c)
        nap()
        look_at_kernel(c, fd)
        return 0
    drain(c, fd, old)
    c.stat_sleeps += 1
    kvo_add32(&c.sleepers, 1)
    r = sleep_polling(c, fd, SO_SNDTIMEO)
    kvo_add32(&c.sleepers, <uint32_t>-1)
    unlead(c)
    return r
