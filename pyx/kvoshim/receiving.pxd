# Receiving on one connection, in every state. All results are >= 0 or -errno.
from libc.stdint cimport uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.lock cimport nap, side_lock, side_unlock
from kvoshim.ring cimport *
from kvoshim.ancillary cimport *
from kvoshim.demote cimport attend, follow
from kvoshim.doorbell cimport *
from kvoshim.early cimport kernel_receive, receive_kernel, receive_undecided
from kvoshim.negotiate cimport *
from kvoshim.readiness cimport kernel_ready
from kvoshim.spin cimport elsewhere
from kvoshim.wait cimport *


cdef inline void fetch_record(conn_t *c, int fd) noexcept nogil:
    """A record's byte lies somewhere among the bells: takes them out one by one until it has come, when nobody has to
    be woken by them any more (or does not wake: a busy program's registration)."""
    cdef char byte
    cdef uint32_t rung = kvo_load32(&c.me.rung)
    cdef int tries = 0
    while tries < 50 and drainable(c, rung, -1) != rung:
        breathe()
        tries += 1
    if not lead(c):
        return
    kick(c)
    while not record_waits(c) and take_bytes(c, fd, &byte, 1, MSG_DONTWAIT) > 0:
        pass
    unlead(c)


cdef inline stash_t *stash_take(conn_t *c) noexcept nogil:
    """The oldest record's descriptors, or NULL: they are lost. Under my receive lock; the kernel lock keeps off those who add
    to them."""
    cdef stash_t *s = NULL
    cdef uint32_t number = c.records_given
    if lead(c):
        if record_waits(c):
            kvo_store32(&c.records_given, number + 1)
            if not kvo_and32(&c.records_lost, ~bit_of(number)) & bit_of(number):
                s = c.stash
        if s != NULL:
            kvo_store_pointer(&c.stash, s.next)
        unlead(c)
    return s


cdef inline int settle_accounts(conn_t *c, int fd) noexcept nogil:
    """The connection is on its way back, its kernel socket carries the peer's bytes, and there was no room in it yet for all that
    the peer has left in my ring. A receive that blocks must not keep that back: the peer may answer to it. 0 or -EINTR."""
    cdef int naps = 0
    while state_of(c) == LIVE and is_set(&c.recv_back) and not is_set(&c.send_back) and not kernel_ready(fd, POLLIN | POLLRDHUP):
        kvo_cancellation_point()
        follow(c, fd)
        naps += 1
        if not is_set(&c.send_back) and nap() and naps > 100:
            return -EINTR
    return 0


cdef inline ssize_t look_behind(conn_t *c, msghdr *m, size_t got, size_t asked) noexcept nogil:
    """MSG_PEEK has found got bytes in the kernel socket: if those are all before the cut, those in the ring come next. How
    many of these it has added."""
    cdef uint64_t gap
    cdef size_t limit
    cdef ssize_t n
    if state_of(c) != LIVE or got >= asked or not kvo_acquire32(&c.peer.flags) & KVO_CUT:  # SYNC POINT cut
        return 0
    if kvo_load64(&c.me.kernel_read) + got != kvo_load64(&c.peer.cut) or side_lock(c, &c.me.recv_lock):
        return 0
    n = ring_look(c, asked - got)
    if n > 0:
        limit = record_limit(c, least(<size_t>n, asked - got), &gap)
        n = ring_read(c, m.msg_iov, got, least(limit, gap), True)
    side_unlock(&c.me.recv_lock)
    return n if n > 0 else 0


cdef inline void tell_received(conn_t *c, int fd) noexcept nogil:
    """The peer waits for room in its ring, which is worth waking it when half is free; or has wished for a fence."""
    if kvo_load32(&c.peer.wait) & KVO_WANT_FENCE:
        fence_as_wished(c)
    if kvo_load32(&c.peer.wait) & (KVO_WANT_SPACE | KVO_WANT_ROOM) and 2 * ring_readable(c) <= <ssize_t>c.size:
        ring_bell(c, fd, KVO_WANT_SPACE)


cdef inline bint next_piece_comes(conn_t *c) noexcept nogil:
    """A piece of a long message has been read: lies the next one there, or is it being written? That takes the peer a microsecond,
    on a CPU of its own; to come back for it costs more."""
    cdef uint64_t head = kvo_load64(&c.me.head), start
    if kvo_load64(&their_news(c).tail) != head:
        return True
    if kvo_load64(&c.peer.promised) - head - 1 >= c.size or not elsewhere(c):
        return False
    start = kvo_ticks()
    while kvo_ticks() - start < 2 * kvo_process.pause_ticks:
        if kvo_load64(&their_news(c).tail) != head:
            return True
        kvo_relax()
    return False


cdef inline ssize_t receive_live(conn_t *c, int fd, msghdr *m, int flags) noexcept nogil:
    cdef size_t asked = total_of(m)
    cdef ssize_t n = receive_on(c, fd, m, asked, flags, 0)
    if n == -EINPROGRESS:
        if (state_of(c) == LIVE and is_set(&c.recv_back) and not is_set(&c.send_back) and not flags & MSG_DONTWAIT
                and not kvo_load32(&c.me.flags) & KVO_NONBLOCK and settle_accounts(c, fd)):
            return -EINTR
        return kernel_receive(c, fd, m, flags)
    if flags & MSG_WAITALL and n > 0 and <size_t>n < asked and not flags & MSG_PEEK \
            and (is_set(&c.recv_back) or state_of(c) == PLAIN):
        return receive_rest(c, fd, m, <size_t>n, flags)
    return n


cdef inline ssize_t receive_on(conn_t *c, int fd, msghdr *m, size_t asked, int flags, size_t got) noexcept nogil:
    """LIVE; the first got bytes of m have been filled already. -EINPROGRESS: the kernel has the rest."""
    cdef bint peek = (flags & MSG_PEEK) != 0
    cdef bint all_of_it = flags & MSG_WAITALL and not peek
    cdef size_t limit
    cdef bint record = False, before_the_cut, leaving
    cdef stash_t *descriptors = NULL
    cdef uint64_t gap, now
    cdef long naps = 0
    cdef ssize_t n
    cdef int r
    if flags & MSG_OOB:
        attend(c, fd)
        return -EINPROGRESS if state_of(c) == PLAIN or kvo_load32(&c.peer.flags) & KVO_BACK else -EINVAL
    while True:
        if state_of(c) != LIVE or is_set(&c.recv_back):
            return <ssize_t>got if got else (-EBADF if state_of(c) == FREE else -EINPROGRESS)  # FREE: closed by another thread
        if kvo_load32(&c.shared) and kvo_load32(&c.me.flags) & KVO_LEFT:
            follow(c, fd)
            if not is_set(&c.recv_back):
                nap()
            continue
        before_the_cut = not is_set(&c.recv_ring) and not switch_receiving(c)
        if before_the_cut:
            n = receive_kernel(c, fd, m, got, flags)
            if n == -EINPROGRESS:
                continue
            if n <= 0:
                return <ssize_t>got if got else n
            if peek:
                n += look_behind(c, m, <size_t>n, asked)
        else:
            if side_lock(c, &c.me.recv_lock):
                return <ssize_t>got if got else -EAGAIN
            if is_set(&c.recv_back):
                side_unlock(&c.me.recv_lock)
                continue
            n = ring_look(c, asked - got)
            if n > 0:
                limit = record_limit(c, least(<size_t>n, asked - got), &gap)
                if gap < limit and not record_waits(c):
                    fetch_record(c, fd)
                n = ring_read(c, m.msg_iov, got, limit, peek)
            record = n > 0 and <uint64_t>n > gap and (not peek or record_waits(c))
            if record and peek:
                descriptors = stash_copy(c)
            elif record:
                descriptors = stash_take(c)  # here: with the next record's bytes, another thread takes the next ones
                kvo_add32(&c.me.records_taken, 1)
            side_unlock(&c.me.recv_lock)
            if n > 0 and not peek:
                fence_after_publishing(c)
                if kvo_load32(&c.peer.wait) & (KVO_WANT_SPACE | KVO_WANT_ROOM):
                    tell_received(c, fd)
            if n < 0:
                return (<ssize_t>got if got else n) if n == -EFAULT else -ECONNRESET
            if n > 0:
                m.msg_flags = flags & MSG_CMSG_CLOEXEC
                if record:
                    count_received(c, n, peek)
                    deliver(descriptors, m, flags)
                    return <ssize_t>got + n
                m.msg_controllen = 0
        got += <size_t>n
        if n and not peek:
            count(&c.stats.received, <uint64_t>n)
        if n and got < asked and before_the_cut and not peek and not m.msg_controllen and switch_receiving(c) \
                and ring_readable(c) > 0:
            continue  # the last bytes before the cut: those behind it belong to the same read
        if n >= PIECE and got < asked and not before_the_cut and not peek and m.msg_control == NULL and next_piece_comes(c):
            continue
        if n and (got == asked or not all_of_it):
            kvo_store32(&c.silent_sends, 0)
            bump(&c.silent_receives)
            if not peek:
                count(&c.stats.receives, 1)
            return <ssize_t>got
        if asked == 0 and ring_readable(c):
            return 0
        if n:
            continue
        # The ring is empty.
        if anything_outside(m):
            return <ssize_t>got if got else -EFAULT
        if got and not all_of_it:
            return <ssize_t>got
        leaving = departed(c)
        if leaving:
            attend(c, fd)
            if state_of(c) != LIVE or is_set(&c.recv_back) or ring_readable(c):
                continue
            if not flags & MSG_DONTWAIT and not kvo_load32(&c.me.flags) & KVO_NONBLOCK:
                # The last bell is on its way; from a peer that breaks the rules it never comes.
                r = nap_within(fd, SO_RCVTIMEO, got > 0, &naps)
                if r < 0:
                    return <ssize_t>got if got else r
                continue
        if kvo_load32(&c.peer.closing) != kvo_load32(&c.closing_seen):
            look_at_kernel(c, fd)
        if receive_ended(c):
            # An end that has begun to go back since the look at that has sent its last bytes through the kernel.
            if ring_readable(c) or not leaving and departed(c):
                continue
            if leaving and not is_set(&c.gone):
                return <ssize_t>got if got else -EAGAIN  # they lie behind a bell that is on its way
            return <ssize_t>got if got else receive_end(c)
        if flags & MSG_DONTWAIT or kvo_load32(&c.me.flags) & KVO_NONBLOCK:
            if got:
                return <ssize_t>got
            now = kvo_ticks()
            if now - kvo_load64(&c.looked_ticks) > 1000 * kvo_process.ticks_per_us:
                kvo_store64(&c.looked_ticks, now)  # a killed peer clears nothing: a loop that never waits must see it all the same
                look_at_kernel(c, fd)
                if is_set(&c.gone):
                    continue
            if kvo_process.foreign_wait or not kvo_load32(&c.shadow):
                if not settle(c, fd) or receive_ended(c):
                    continue
            return -EAGAIN
        r = wait_data(c, fd, got > 0)
        if r == -EINPROGRESS:  # a bell lies there that somebody else still has to be woken by
            r = nap_within(fd, SO_RCVTIMEO, got > 0, &naps)
        if r < 0:
            return <ssize_t>got if got else r


cdef inline ssize_t stream_receive(conn_t *c, int fd, msghdr *m, int flags) noexcept nogil:
    cdef size_t want
    cdef ssize_t n
    if state_of(c) == LIVE:
        return receive_live(c, fd, m, flags)
    if state_of(c) == PENDING or state_of(c) == CANDIDATE:
        n = receive_undecided(c, fd, m, flags)
        if n > 0 and flags & MSG_WAITALL and <size_t>n < total_of(m) and not flags & MSG_PEEK:
            return receive_rest(c, fd, m, <size_t>n, flags)
        if n != -EINPROGRESS:
            return n
    return stream_receive_again(c, fd, m, flags)


cdef inline ssize_t stream_receive_again(conn_t *c, int fd, msghdr *m, int flags) noexcept nogil:
    cdef ssize_t n
    while state_of(c) == OFFERED:
        refresh(c, fd)
        if state_of(c) != OFFERED:
            break
        n = receive_kernel(c, fd, m, 0, flags)
        if n == -EINPROGRESS:
            continue
        count_received(c, n, flags & MSG_PEEK)
        if n > 0:
            bump(&c.answers)
            if kvo_load32(&c.answers) > QUESTIONS_MOST:  # each came from a client that has looked for the offer
                withdraw(c, fd, KVO_WITHDRAWN_OFFER)
        if n > 0 and flags & MSG_PEEK:
            refresh(c, fd)
            n += look_behind(c, m, <size_t>n, total_of(m))
        elif n > 0 and not m.msg_controllen and <size_t>n < total_of(m):
            refresh(c, fd)
            if state_of(c) == LIVE and switch_receiving(c) and ring_readable(c) > 0:
                return receive_on(c, fd, m, total_of(m), flags, <size_t>n)
        if n > 0 and flags & MSG_WAITALL and <size_t>n < total_of(m) and not flags & MSG_PEEK:
            return receive_rest(c, fd, m, <size_t>n, flags)
        return n
    if state_of(c) == LIVE:
        return receive_live(c, fd, m, flags)
    return kernel_receive(c, fd, m, flags)


cdef inline ssize_t receive_rest(conn_t *c, int fd, msghdr *m, size_t got, int flags) noexcept nogil:
    """MSG_WAITALL that began on the kernel: byte ranges after the first, one array element at a time."""
    cdef msghdr one
    cdef iovec v
    cdef size_t i, skip = got
    cdef ssize_t n
    for i in range(m.msg_iovlen):
        if skip >= m.msg_iov[i].iov_len:
            skip -= m.msg_iov[i].iov_len
            continue
        while skip < m.msg_iov[i].iov_len:
            memset(&one, 0, sizeof(one))
            v.iov_base = <char *>m.msg_iov[i].iov_base + skip
            v.iov_len = m.msg_iov[i].iov_len - skip
            one.msg_iov = &v
            one.msg_iovlen = 1
            n = stream_receive(c, fd, &one, flags & ~MSG_WAITALL)
            if n <= 0:
                return <ssize_t>got
            skip += <size_t>n
            got += <size_t>n
        skip = 0
    return <ssize_t>got
