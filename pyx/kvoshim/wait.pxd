# Blocking: spin if that pays, then arm, look again, and sleep in the kernel.
from libc.stdint cimport uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.ancillary cimport take_bytes
from kvoshim.doorbell cimport *
from kvoshim.lock cimport NAP_NS, alone, nap
from kvoshim.ring cimport ring_readable
from kvoshim.spin cimport note_cpu, spin_until

cdef enum:
    SLICE_NS = 100000000


cdef struct sleeper_t:  # one call's sleep, what it takes back afterwards (sleep_over)
    conn_t *c
    int fd
    int slot      # its waiting slot, -1: none
    ssize_t need  # bytes of room that it waits for
    bint part     # bytes have been moved already, so a signal ends the wait even if its handler restarts calls


cdef inline bint receive_ended(conn_t *c) noexcept nogil:
    """Nothing more will come once the ring is empty."""
    # SYNC POINT shut: the bytes before the flag are visible with it, so an empty ring after this look is the end.
    return (is_set(&c.gone) or kvo_load32(&c.me.flags) & KVO_SHUT_RD
            or kvo_acquire32(&c.peer.flags) & KVO_SHUT_WR) != 0


cdef inline bint send_ended(conn_t *c) noexcept nogil:
    return (is_set(&c.gone) or kvo_load32(&c.me.flags) & KVO_SHUT_WR
            or kvo_load32(&c.peer.flags) & KVO_SHUT_RD) != 0


cdef inline bint unread_at_peer(conn_t *c) noexcept nogil:
    """The peer has closed and has left bytes of mine unread: the kernel would say ECONNRESET, once."""
    cdef uint32_t flags = kvo_acquire32(&c.peer.flags), both = KVO_SHUT_WR | KVO_SHUT_RD
    # gone means no more than that both directions are shut down; where an end has done that, the peer itself must say so.
    if not flags & KVO_CLOSED and (not is_set(&c.gone) or flags & both == both):
        return False
    return (kvo_load64(&c.peer.head) != kvo_load64(&c.news.tail)
            or kvo_load64(&c.peer.kernel_read) < kvo_load64(&c.me.cut))


cdef inline ssize_t receive_end(conn_t *c) noexcept nogil:
    """The ring is empty and nothing more will come: 0, or ECONNRESET once."""
    if unread_at_peer(c) and kvo_exchange32(&c.me.reset_seen, 1) == 0:
        return -ECONNRESET
    return 0


cdef inline timespec *socket_timeout(int fd, int option, timespec *out) noexcept nogil:
    """SO_RCVTIMEO or SO_SNDTIMEO; NULL: none."""
    cdef timeval tv
    cdef socklen_t n = sizeof(timeval)
    if kvo_next.getsockopt(fd, SOL_SOCKET, option, &tv, &n) or (tv.tv_sec == 0 and tv.tv_usec == 0):
        return NULL
    out.tv_sec = tv.tv_sec
    out.tv_nsec = tv.tv_usec * 1000
    return out


cdef inline int sleep_for(conn_t *c, int fd, const timespec *span, int when_over) noexcept nogil:
    """Sleeps until a bell or the peer's end, and leaves the bell where it is. 0 or -errno; when_over after span."""
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
    elif state_of(c) == LIVE:
        drop_surplus(c, fd)
    return 0


cdef inline int sleep_peeking(conn_t *c, int fd) noexcept nogil:
    """The same in a call that the kernel restarts after a signal whose handler says so, and that keeps SO_RCVTIMEO."""
    cdef char byte
    cdef ssize_t n = kvo_next.recv(fd, &byte, 1, MSG_PEEK)
    cdef int why = errno
    # A bell that nobody has counted: its ringer is about to, or was killed before it could, and lies behind it.
    if state_of(c) == LIVE and (n <= 0 or bells_out(c) <= 0):
        look_at_kernel(c, fd)
        if n > 0:
            drop_surplus(c, fd)
    if n < 0:
        return 0 if why == ECONNRESET and state_of(c) == LIVE else -why
    return 0


cdef inline void slice_of(timespec *span) noexcept nogil:
    span.tv_sec = 0
    span.tv_nsec = SLICE_NS


cdef inline bint breathe() noexcept nogil:
    """A bell lies there that somebody else still has to be woken by. True: a signal came."""
    cdef int i
    for i in range(4):
        sched_yield()
    return nap()


cdef inline int nap_within(int fd, int option, bint begun, long *naps) noexcept nogil:
    """A millisecond of a receive or send that waits for what nobody rings for; naps counts those of the call, option is its
    time limit, begun: bytes have been moved. 0, -EAGAIN, or -EINTR as in the kernel."""
    cdef timespec limit
    cdef uint32_t nobody = 0
    cdef bint timed = socket_timeout(fd, option, &limit) != NULL
    if timed and naps[0] > limit.tv_sec * 1000 + limit.tv_nsec // 1000000:
        return -EAGAIN
    naps[0] += 1
    return kvo_sleep_on(&nobody, 0, NAP_NS, not timed and not begun)


cdef inline void begin_sleep(sleeper_t *s, conn_t *c, int fd, ssize_t need, bint part) noexcept nogil:
    kvo_add32(&c.sleepers, 1)
    s.c = c
    s.fd = fd
    s.slot = -1
    s.need = need
    s.part = part


cdef inline void sleep_over(void *about) noexcept nogil:
    cdef sleeper_t *s = <sleeper_t *>about
    slot_give(s.c, s.slot)
    kvo_add32(&s.c.sleepers, <uint32_t>-1)


cdef inline int wait_data(conn_t *c, int fd, bint part_read) noexcept nogil:
    """Returns 0 when there is something to look at, -EAGAIN after SO_RCVTIMEO, -EINTR; -EINPROGRESS: it can't sleep for a bell
    now."""
    cdef sleeper_t s
    if kvo_load32(&c.spun):
        kvo_store32(&c.spun, 0)
    elif spin_until(c, &c.receiving, &their_news(c).tail, kvo_load64(&c.me.head)):
        return 0
    begin_sleep(&s, c, fd, 0, part_read)
    s.slot = slot_take(c, <uint32_t>kvo_tid())
    return kvo_asleep(sleep_for_data, sleep_over, &s)


cdef inline int sleep_for_data(void *about) noexcept nogil:
    cdef sleeper_t *s = <sleeper_t *>about
    cdef conn_t *c = s.c
    cdef int fd = s.fd, slot = s.slot
    cdef char byte
    cdef timespec span
    cdef ssize_t n
    cdef uint32_t target = kvo_load32(&c.me.rung)
    note_cpu(c)
    want(c, KVO_WANT_DATA)
    if kvo_load64(&their_news(c).tail) != kvo_load64(&c.me.head) or receive_ended(c) or departed(c):
        if alone(c) and not kvo_process.foreign_wait:  # to those who wait unseen, "not armed" means that a bell lies there
            kvo_and32(&c.me.wait, ~KVO_WANT_DATA)
        return 0
    if not settled(c, fd, target, slot):
        return -EINPROGRESS if kvo_load32(&c.me.rung) == target else 0
    if is_set(&c.gone):
        return 0
    count_sleep(c)
    if slot < 0:
        slice_of(&span)
        return sleep_for(c, fd, &span, 0)
    if s.part:
        return sleep_for(c, fd, socket_timeout(fd, SO_RCVTIMEO, &span), -EAGAIN)
    if kvo_process.foreign_wait or not alone(c):
        return sleep_peeking(c, fd)
    # Nobody else: the bell is drained by the very call that sleeps, as many system calls as a plain blocking recv.
    # One byte: behind a bell may come bytes of a peer that goes back to the kernel.
    kick(c)
    n = take_bytes(c, fd, &byte, 1, 0)
    if n == 0 or n == -ECONNRESET:
        look_at_kernel(c, fd)
        return 0
    return <int>n if n < 0 else 0
