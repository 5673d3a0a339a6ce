# What poll would say of a LIVE connection: the kernel's rules for a stream socket, computed from rings and flags.
from libc.stdint cimport uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.doorbell cimport *
from kvoshim.ring cimport ring_readable, ring_space
from kvoshim.wait cimport receive_ended, send_ended, unread_at_peer


cdef inline short kernel_ready(int fd, short events) noexcept nogil:
    cdef pollfd p
    cdef int saved = errno
    cdef int r
    p.fd = fd
    p.events = events
    p.revents = 0
    r = kvo_poll_now(&p, 1)
    kvo_set_errno(saved)
    return p.revents & events if r == 1 else 0


cdef inline uint64_t kernel_position(conn_t *c, int fd) noexcept nogil:
    """LIVE: up to where data have come through the kernel. What lies behind the cut are bells."""
    cdef int bytes = 0, saved = errno
    cdef uint64_t at = kvo_load64(&c.me.kernel_read)
    if kvo_next.ioctl(fd, FIONREAD, &bytes) == 0 and bytes > 0:
        at += <uint64_t>bytes
    if kvo_acquire32(&c.peer.flags) & KVO_CUT and at > kvo_load64(&c.peer.cut):  # SYNC POINT cut
        at = kvo_load64(&c.peer.cut)
    kvo_set_errno(saved)
    return at


cdef inline bint kernel_readable(int fd) noexcept nogil:
    return kernel_ready(fd, POLLIN) != 0


cdef inline bint writable(conn_t *c, int fd) noexcept nogil:
    """As a kernel socket, writable only when there is room for more than a little; so a writer is not woken for each
    byte that is read."""
    if is_set(&c.send_back):
        return kernel_ready(fd, POLLOUT) != 0
    return 2 * ring_space(c) >= <ssize_t>c.size


cdef inline short readiness(conn_t *c, int fd) noexcept nogil:
    """POLLIN | POLLOUT | POLLRDHUP | POLLHUP | POLLERR, all that hold."""
    cdef short mask = 0
    cdef bint no_more, shut
    if kvo_load32(&c.peer.closing) != kvo_load32(&c.closing_seen):
        look_at_kernel(c, fd)
    no_more = receive_ended(c)
    shut = send_ended(c)
    if no_more:
        mask |= POLLIN | POLLRDHUP | POLLRDNORM
        if shut:
            mask |= POLLHUP
    elif is_set(&c.recv_back):
        mask |= kernel_ready(fd, POLLIN | POLLRDNORM | POLLRDHUP)
    elif switch_receiving(c):
        if ring_readable(c):
            mask |= POLLIN | POLLRDNORM
    elif kernel_readable(fd):
        # Bytes of data, or bells that came with the cut: then the ring decides.
        if not switch_receiving(c) or ring_readable(c):
            mask |= POLLIN | POLLRDNORM
    if departed(c):
        mask |= kernel_ready(fd, POLLPRI)
    if is_set(&c.gone) or writable(c, fd):
        mask |= POLLOUT | POLLWRNORM
    if unread_at_peer(c) and not kvo_load32(&c.me.reset_seen):
        mask |= POLLERR
    return mask


cdef inline uint32_t arm_for(conn_t *c, bint for_space) noexcept nogil:
    """Arms one of several connections, for which one fence_before_sleep() follows, if everywhere then fenced() for each."""
    return arm(c, KVO_WANT_DATA | (KVO_WANT_SPACE if for_space else 0))
