# Waiting for room in the outgoing ring.
#
# A sender that is certainly alone sleeps on the kernel socket, as a receiver does: the peer's end ends that sleep too. It
# can't where the socket stays readable (data from before the cut, a reading direction that is shut down), where another thread
# may shut the connection down (which rings no bell on its own side), or with a time limit. There it sleeps on the word of
# its wishes in the segment, a futex. The peer, or the thread that shuts down, clears KVO_WANT_ROOM and wakes it; it asks the
# kernel now and then whether the peer has died.
#
# As in the kernel, a signal ends the wait with EINTR, unless its handler has SA_RESTART, nothing has been sent and there is
# no time limit.
from libc.stdint cimport uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.clock cimport deadline_after, time_left
from kvoshim.connection cimport *
from kvoshim.doorbell cimport *
from kvoshim.lock cimport alone
from kvoshim.ring cimport ring_space
from kvoshim.spin cimport spin_until
from kvoshim.wait cimport *


cdef inline bint room_awaited(conn_t *c, ssize_t need) noexcept nogil:
    """The second look, armed: need bytes are not free, and nothing else ends the wait."""
    return 0 <= ring_space(c) < need and not send_ended(c) and not departed(c)


cdef inline int wait_space(conn_t *c, int fd, ssize_t need, bint part_sent) noexcept nogil:
    """For need bytes of room in my outgoing ring (at most half of it: that much is rung for). 0 when there is something to
    look at, -EAGAIN after SO_SNDTIMEO, -EINTR."""
    cdef sleeper_t s
    if spin_until(c, &c.sending, &c.peer.head, kvo_load64(&c.me.head_cache)):
        return 0
    begin_sleep(&s, c, fd, need, part_sent)
    return kvo_asleep(sleep_for_space, sleep_over, &s)


cdef inline int sleep_for_space(void *about) noexcept nogil:
    cdef sleeper_t *s = <sleeper_t *>about
    cdef conn_t *c = s.c
    cdef int fd = s.fd
    cdef timespec limit
    cdef int r = -EINPROGRESS
    # SO_RCVTIMEO would keep the kernel from restarting a receive.
    if alone(c) and socket_timeout(fd, SO_SNDTIMEO, &limit) == NULL \
            and (s.part or socket_timeout(fd, SO_RCVTIMEO, &limit) == NULL):
        s.slot = slot_take(c, <uint32_t>kvo_tid())
        if s.slot >= 0:
            r = sleep_on_socket(c, fd, s.slot, s.need, s.part)
        slot_give(c, s.slot)
        s.slot = -1
    return sleep_on_segment(c, fd, s.need, s.part) if r == -EINPROGRESS else r


cdef inline int sleep_on_socket(conn_t *c, int fd, int slot, ssize_t need, bint part_sent) noexcept nogil:
    """-EINPROGRESS: not possible now."""
    cdef uint32_t target = kvo_load32(&c.me.rung)
    # With no data waiting, data are waited for as well: then an old bell tells nobody anything, and may be drained.
    cdef bint quiet = kvo_load64(&their_news(c).tail) == kvo_load64(&c.me.head)
    want(c, KVO_WANT_SPACE | (KVO_WANT_DATA if quiet else 0))
    if not room_awaited(c, need):
        kvo_and32(&c.me.wait, ~KVO_WANT_SPACE)
        return 0
    # Unread kernel bytes are not mine to take, and where reading is shut down the kernel socket is readable for ever.
    if not settled(c, fd, target, slot) or not switch_receiving(c) or kvo_load32(&c.me.flags) & KVO_SHUT_RD:
        return -EINPROGRESS
    count_sleep(c)
    return sleep_for(c, fd, NULL, 0) if part_sent else sleep_peeking(c, fd)


cdef inline int sleep_on_segment(conn_t *c, int fd, ssize_t need, bint part_sent) noexcept nogil:
    cdef timespec limit, deadline, left
    cdef bint timed = socket_timeout(fd, SO_SNDTIMEO, &limit) != NULL
    cdef uint64_t ns = SLICE_NS
    if timed:
        deadline_after(&deadline, &limit)
    while state_of(c) == LIVE:
        want(c, KVO_WANT_ROOM)
        if not room_awaited(c, need):
            return 0
        look_at_kernel(c, fd)
        if is_set(&c.gone):
            return 0
        if timed:
            time_left(&deadline, &left)
            if left.tv_sec == 0 and left.tv_nsec == 0:
                return -EAGAIN
            ns = <uint64_t>left.tv_nsec if left.tv_sec == 0 and left.tv_nsec < SLICE_NS else SLICE_NS
        count_sleep(c)
        # A word without the wish has been answered: then this does not sleep.
        if kvo_sleep_on(&c.me.wait, kvo_load32(&c.me.wait) | KVO_WANT_ROOM, ns, not timed and not part_sent) < 0:
            return -EINTR
    return 0


cdef inline int wait_kernel_room(conn_t *c, int fd, bint part_sent) noexcept nogil:
    """The same for room in the kernel socket, before the switch or after the way back, without sending a byte that counts.
    0: look again, or -errno."""
    cdef sleeper_t s
    begin_sleep(&s, c, fd, 0, part_sent)
    return kvo_asleep(sleep_for_kernel_room, sleep_over, &s)


cdef inline int sleep_for_kernel_room(void *about) noexcept nogil:
    cdef sleeper_t *s = <sleeper_t *>about
    cdef int fd = s.fd
    cdef pollfd p
    cdef timespec limit
    cdef timespec *span
    cdef bint sliced = False
    cdef int r
    if s.part:
        span = socket_timeout(fd, SO_SNDTIMEO, &limit)
        if span == NULL and not alone(s.c):  # another thread may shut it down, which no poll for room reports
            sliced = True
            slice_of(&limit)
            span = &limit
        p.fd = fd
        p.events = POLLOUT
        r = kvo_next.ppoll(&p, 1, span, NULL)
        r = -errno if r < 0 else (-EAGAIN if r == 0 and not sliced else 0)
    else:
        # Waits for room as any send, with the kernel's own rules; then it finds nothing to send.
        r = -errno if kvo_next.send(fd, kvo_process.unreadable, 1, MSG_NOSIGNAL) < 0 else 0
        if r == -EFAULT or r == -EPIPE:
            r = 0
    return r
