# Sleeping and waking.
#
# The kernel socket under the connection is doorbell and lifeline in one. After a direction's cut its kernel stream carries
# nothing but doorbell bytes; a sleeper sleeps in the kernel on the application's own descriptor, in recv, poll or
# epoll_wait, and the same sleep ends when the peer closes, dies, or when a signal or a timeout comes. No further
# descriptor is needed, and a loop whose registration we never saw wakes all the same.
#
#   sleeper:  old = bells outstanding            writer:  publish tail
#             wait |= WANT_DATA                           fence
#             fence                                       .
#             look at the ring again                      if wait & WANT_DATA: clear it (swap);
#             drain exactly old bells                        if it was set: rung += 1, send one byte
#             sleep
#
# The fences are StoreLoad: without them each could miss the other's store. Sleeping is rare and writing is not, so where
# both processes take part in membarrier's expedited fences the sleeper makes every CPU fence, and the writer's is free.
#
# Only the leader reads the kernel socket of a side; other threads and forked processes of the side wait for it to leave.
# Bells are counted (rung, drained), so nobody asks the kernel for a bell that was never rung.
#
# Invariant, while others wait on the descriptor unseen (kvo_process.foreign_wait, or no poll or epoll of ours has met the
# connection yet): "not armed" implies that at least one bell lies in the kernel socket, which keeps it readable until a
# receive finds the ring empty and arms again.
from libc.stdint cimport int32_t, uint32_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport conn_t
from kvoshim.lock cimport thread_is_dead
from kvoshim.ring cimport ring_readable, least
from kvoshim.ancillary cimport take_bytes

cdef enum:
    DRAIN_MOST = 256


cdef inline bint light(conn_t *c) noexcept nogil:
    """Both processes take part in expedited fences: the sleeper fences for both, the one that publishes does not."""
    return (kvo_load32(&c.me.flags) & kvo_load32(&c.peer.flags) & KVO_EXPEDITED) != 0


cdef inline void fence_after_publishing(conn_t *c) noexcept nogil:
    """Between the store of an index and the look whether the peer sleeps."""
    if light(c):
        kvo_light_fence()
    else:
        kvo_fence()


cdef inline void want(conn_t *c, uint32_t bits) noexcept nogil:
    """Arms, and fences before the second look at the ring."""
    kvo_or32(&c.me.wait, bits)
    if light(c):
        kvo_fence_everywhere()


cdef inline void look_at_kernel(conn_t *c, int fd) noexcept nogil:
    """Asks the kernel whether the peer has closed."""
    cdef pollfd p
    cdef int saved = errno
    c.closing_seen = kvo_load32(&c.peer.closing)
    p.fd = fd
    p.events = POLLRDHUP
    p.revents = 0
    if kvo_next.poll(&p, 1, 0) == 1 and p.revents & POLLHUP and not c.native_shut:
        c.gone = 1
    kvo_set_errno(saved)


cdef inline void ring_bell(conn_t *c, int fd, uint32_t what) noexcept nogil:
    """Rings the peer if it waits for what, once a sleep. My direction has been cut before (LIVE)."""
    cdef char byte = 0
    cdef int saved = errno
    if not (kvo_and32(&c.peer.wait, ~what) & what):
        return
    kvo_add32(&c.peer.rung, 1)
    if kvo_next.send(fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1:
        # EAGAIN: the socket is full of unread bytes, so it is readable already. Else the peer may be gone.
        kvo_add32(&c.peer.rung, <uint32_t>-1)
        if errno != EAGAIN:
            look_at_kernel(c, fd)
    c.stat_bells += 1
    c.rang = 1
    kvo_set_errno(saved)


cdef inline bint lead(conn_t *c) noexcept nogil:
    """Tries to become the one that reads the kernel socket."""
    cdef uint32_t holder
    if kvo_cas32(&c.me.leader, 0, <uint32_t>kvo_tid()):
        return True
    holder = kvo_load32(&c.me.leader)
    if holder and thread_is_dead(holder):
        return kvo_cas32(&c.me.leader, holder, <uint32_t>kvo_tid())
    return False


cdef inline void unlead(conn_t *c) noexcept nogil:
    kvo_exchange32(&c.me.leader, 0)
    if kvo_load32(&c.me.followers):
        kvo_add32(&c.me.handover, 1)
        syscall(SYS_futex, &c.me.handover, FUTEX_WAKE, 1 << 30, NULL, NULL, 0)


cdef inline void follow(conn_t *c) noexcept nogil:
    """Waits until the leader has left, 50 ms at most (it may have been killed)."""
    cdef timespec limit
    cdef int saved = errno
    cdef uint32_t seen
    limit.tv_sec = 0
    limit.tv_nsec = 50000000
    kvo_add32(&c.me.followers, 1)
    seen = kvo_load32(&c.me.handover)
    if kvo_load32(&c.me.leader):
        syscall(SYS_futex, &c.me.handover, FUTEX_WAIT, seen, &limit, NULL, 0)
    kvo_add32(&c.me.followers, <uint32_t>-1)
    kvo_set_errno(saved)


cdef inline uint32_t outstanding(conn_t *c) noexcept nogil:
    """Bells rung and not drained, capped: the count is the peer's word."""
    return <uint32_t>least(kvo_load32(&c.me.rung) - kvo_load32(&c.me.drained), DRAIN_MOST)


cdef inline bint switch_receiving(conn_t *c) noexcept nogil:
    """Has the peer's direction switched, and are its kernel bytes all read?"""
    if c.recv_ring:
        return True
    # SYNC POINT cut: pairs with go_live()
    if kvo_acquire32(&c.peer.flags) & KVO_CUT and kvo_load64(&c.me.kernel_read) >= kvo_load64(&c.peer.cut):
        c.recv_ring = 1
        return True
    return False


cdef inline void drain(conn_t *c, int fd, uint32_t bells) noexcept nogil:
    """Takes bells out of the kernel socket. As the leader, with the peer's direction cut and its bytes read."""
    cdef char scratch[DRAIN_MOST]
    cdef ssize_t n
    cdef int saved = errno
    if bells:
        n = take_bytes(c, fd, scratch, bells, MSG_DONTWAIT)
        if n == 0 or n == -ECONNRESET:
            look_at_kernel(c, fd)
    kvo_set_errno(saved)


cdef inline bint settle(conn_t *c, int fd) noexcept nogil:
    """The arm / second look / drain sequence for a thread that will not sleep here itself. True: armed, the ring is
    empty; False: look again. As the leader."""
    cdef uint32_t old = outstanding(c)
    if kvo_load32(&c.me.wait) & KVO_WANT_DATA and not old:
        return kvo_load64(&c.peer.tail) == kvo_load64(&c.me.head)
    want(c, KVO_WANT_DATA)
    if kvo_load64(&c.peer.tail) != kvo_load64(&c.me.head):
        kvo_and32(&c.me.wait, ~KVO_WANT_DATA)
        return False
    drain(c, fd, old)
    return True
