# Receiving before the switch, while the bytes still come through the kernel socket. All results are >= 0 or -errno.
from libc.stdint cimport uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.doorbell cimport *
from kvoshim.negotiate cimport *
from kvoshim.ring cimport least, total_of
from kvoshim.wait cimport *


cdef inline ssize_t data_of(conn_t *c, ssize_t n) noexcept nogil:
    """n bytes lie in the kernel socket; how many of them are data. What lies behind the peer's cut are bells: they
    are sent after the cut is published, so a look at the flag after the look at the bytes knows them."""
    cdef uint64_t before = kvo_load64(&c.me.kernel_read), cut
    if kvo_acquire32(&c.peer.flags) & KVO_CUT:  # SYNC POINT cut
        cut = kvo_load64(&c.peer.cut)
        if cut < before:
            cut = before
        if before + <uint64_t>n > cut:
            return <ssize_t>(cut - before)
    return n


cdef inline ssize_t receive_kernel(conn_t *c, int fd, msghdr *m, size_t skip, int flags) noexcept nogil:
    """One receive from the kernel while the peer's direction has not switched. 0: end of stream; -EINPROGRESS: look
    again, it may have switched. Takes data only: a bell stays, for whoever has to be woken by it."""
    cdef msghdr one
    cdef iovec v
    cdef iovec *from_iov = m.msg_iov
    cdef ssize_t n
    if skip:
        memset(&one, 0, sizeof(one))
        while skip >= from_iov.iov_len:
            skip -= from_iov.iov_len
            from_iov += 1
        v.iov_base = <char *>from_iov.iov_base + skip
        v.iov_len = from_iov.iov_len - skip
        one.msg_iov = &v
        one.msg_iovlen = 1
        m = &one
    if not lead(c):
        return -EAGAIN
    if switch_receiving(c):
        unlead(c)
        return -EINPROGRESS
    n = take_data(c, fd, m, flags)
    unlead(c)
    if n == -EAGAIN and not flags & MSG_DONTWAIT and not kvo_next.fcntl(fd, F_GETFL) & O_NONBLOCK:
        n = wait_kernel_data(c, fd)
        return n if n < 0 else -EINPROGRESS
    if n <= 0 and n != -EINPROGRESS:
        refresh(c, fd)
        if state_of(c) == LIVE and (n == 0 or n == -ECONNRESET):
            look_at_kernel(c, fd)
            if is_set(&c.gone):  # a bell that the peer left unread is no byte of mine: the counts tell
                n = -EINPROGRESS if switch_receiving(c) else receive_end(c)
    return n


cdef inline ssize_t take_parts(int fd, msghdr *m, size_t limit, int flags) noexcept nogil:
    """Receives limit bytes, which lie in the kernel socket and are fewer than m has room for, and no more; a part of m at a
    time. All of them: who waits for edges takes a short read to mean that nothing is left. -1 with errno."""
    cdef msghdr part = m[0]
    cdef iovec v
    cdef size_t i = 0, done = 0
    cdef ssize_t n = 0
    part.msg_iov = &v
    part.msg_iovlen = 1
    while done < limit:
        v = m.msg_iov[i]
        i += 1
        if v.iov_len == 0:
            continue
        v.iov_len = least(v.iov_len, limit - done)
        part.msg_controllen = m.msg_controllen
        n = kvo_recvmsg_now(fd, &part, flags & ~MSG_WAITALL | MSG_DONTWAIT)
        if n <= 0:
            part.msg_controllen = 0
            break
        done += <size_t>n
        if <size_t>n < v.iov_len or part.msg_controllen:
            break
    m.msg_controllen = part.msg_controllen
    m.msg_flags = part.msg_flags
    return <ssize_t>done if done else n


cdef inline ssize_t take_data(conn_t *c, int fd, msghdr *m, int flags) noexcept nogil:
    """Without waiting; under the kernel lock."""
    cdef msghdr look
    cdef ssize_t n, ahead
    memset(&look, 0, sizeof(look))
    look.msg_iov = m.msg_iov
    look.msg_iovlen = m.msg_iovlen
    n = kvo_recvmsg_now(fd, &look, MSG_PEEK | MSG_DONTWAIT)
    if n <= 0:
        return -errno if n < 0 else 0
    n = data_of(c, n)
    if n == 0:
        return -EINPROGRESS
    if flags & MSG_PEEK:
        ahead = kvo_recvmsg_now(fd, m, flags & ~MSG_WAITALL | MSG_DONTWAIT)  # once more, for the control data
        return -errno if ahead < 0 else n if n < ahead else ahead
    if <size_t>n < total_of(m):
        n = take_parts(fd, m, <size_t>n, flags)
    else:
        n = kvo_recvmsg_now(fd, m, flags & ~MSG_WAITALL | MSG_DONTWAIT)
    if n < 0:
        return -errno
    kvo_store64(&c.me.kernel_read, kvo_load64(&c.me.kernel_read) + <uint64_t>n)
    return n


cdef inline int wait_kernel_data(conn_t *c, int fd) noexcept nogil:
    """The kernel socket is empty, data or a bell will come. 0 or -errno."""
    cdef sleeper_t s
    cdef int r
    begin_sleep(&s, c, fd, 0, False)
    s.slot = slot_take(c, <uint32_t>kvo_tid())
    r = kvo_asleep(sleep_for_kernel_data, sleep_over, &s)
    if r == -ECONNRESET and state_of(c) == LIVE:
        look_at_kernel(c, fd)
        return 0
    return r


cdef inline int sleep_for_kernel_data(void *about) noexcept nogil:
    cdef sleeper_t *s = <sleeper_t *>about
    cdef timespec span
    if state_of(s.c) == LIVE:
        want(s.c, KVO_WANT_DATA)
    refresh(s.c, s.fd)
    if switch_receiving(s.c):
        return 0
    if s.slot < 0:
        slice_of(&span)
        return sleep_for(s.c, s.fd, &span, 0)
    return sleep_peeking(s.c, s.fd)


cdef inline int sleep_undecided(void *about) noexcept nogil:
    cdef char byte
    return -errno if kvo_next.recv((<sleeper_t *>about).fd, &byte, 1, MSG_PEEK) < 0 else 0


cdef inline void undecided_sleep_over(void *about) noexcept nogil:
    cdef conn_t *c = (<sleeper_t *>about).c
    private_lock(&c.lock)
    c.early_sleepers -= 1
    if c.early_sleepers == 0 and c.early_slot >= 0:
        slot_give(c, c.early_slot)
        c.early_slot = -1
    private_unlock(&c.lock)
    sleep_over(about)


cdef inline ssize_t receive_undecided(conn_t *c, int fd, msghdr *m, int flags) noexcept nogil:
    """PENDING or CANDIDATE. -EINPROGRESS: the connection is in another state now. A kernel call that counts bytes ends before
    c.lock is given up (or holds up the switch, see may_block), so any thread can switch at any time between two of them. A
    signal handler that has interrupted such a call makes its own."""
    cdef ssize_t n
    cdef sleeper_t s
    cdef bint blocks, direct, locked
    while True:
        locked = own_lock(&c.lock)
        if not (still_undecided(c, fd) if locked else undecided(c)):
            if locked:
                private_unlock(&c.lock)
            return -EINPROGRESS
        direct = not locked or may_block(c, total_of(m))
        if direct and locked:
            kvo_add32(&c.calls, 1)
            private_unlock(&c.lock)
        if direct:
            n = kvo_next.recvmsg(fd, m, flags)
        else:
            n = kvo_recvmsg_now(fd, m, flags & ~MSG_WAITALL | MSG_DONTWAIT)
        if n < 0:
            n = -errno
        if n > 0 and not flags & MSG_PEEK:
            count_early(c, 0, n)
        if direct and locked:
            kvo_add32(&c.calls, <uint32_t>-1)
        if direct:
            return n
        lose_patience(c, fd)
        blocks = n == -EAGAIN and not flags & MSG_DONTWAIT and not kvo_next.fcntl(fd, F_GETFL) & O_NONBLOCK
        if blocks:
            c.early_sleepers += 1
        private_unlock(&c.lock)
        if not blocks:
            return n
        begin_sleep(&s, c, fd, 0, False)
        n = kvo_asleep(sleep_undecided, undecided_sleep_over, &s)
        if n < 0 and not (n == -ECONNRESET and state_of(c) == LIVE):
            return n


cdef inline ssize_t kernel_receive(conn_t *c, int fd, msghdr *m, int flags) noexcept nogil:
    cdef ssize_t n = kvo_next.recvmsg(fd, m, flags)
    count_received(c, n, flags & MSG_PEEK)
    return n if n >= 0 else -errno
