# Sending and receiving on one connection, in every state. All results are >= 0 or -errno.
from libc.stdint cimport uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.lock cimport alone, nap, side_lock, side_unlock
from kvoshim.ring cimport *
from kvoshim.ancillary cimport *
from kvoshim.demote cimport attend, demote, follow
from kvoshim.doorbell cimport *
from kvoshim.negotiate cimport *
from kvoshim.wait cimport *


cdef enum:
    WHOLE = 49152  # bytes of the largest message that is sent whole; the kernel's limit is about that


cdef inline size_t total_of(const msghdr *m) noexcept nogil:
    cdef size_t i, n = 0
    for i in range(m.msg_iovlen):
        n += m.msg_iov[i].iov_len
    return n


# ---- receiving ----

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
        if c.state == LIVE and (n == 0 or n == -ECONNRESET):
            look_at_kernel(c, fd)
            if c.gone:  # a bell that the peer left unread is no byte of mine: the counts tell
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
        n = kvo_next.recvmsg(fd, &part, flags & ~MSG_WAITALL | MSG_DONTWAIT)
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
    cdef ssize_t n
    memset(&look, 0, sizeof(look))
    look.msg_iov = m.msg_iov
    look.msg_iovlen = m.msg_iovlen
    n = kvo_next.recvmsg(fd, &look, MSG_PEEK | MSG_DONTWAIT)
    if n <= 0:
        return -errno if n < 0 else 0
    n = data_of(c, n)
    if n == 0:
        return -EINPROGRESS
    if flags & MSG_PEEK:
        m.msg_controllen = 0
        m.msg_flags = 0
        return n
    if <size_t>n < total_of(m):
        n = take_parts(fd, m, <size_t>n, flags)
    else:
        n = kvo_next.recvmsg(fd, m, flags & ~MSG_WAITALL | MSG_DONTWAIT)
    if n < 0:
        return -errno
    kvo_store64(&c.me.kernel_read, kvo_load64(&c.me.kernel_read) + <uint64_t>n)
    return n


cdef inline int wait_kernel_data(conn_t *c, int fd) noexcept nogil:
    """The kernel socket is empty, data or a bell will come. 0 or -errno."""
    cdef timespec span
    cdef int r, slot
    kvo_add32(&c.sleepers, 1)
    slot = slot_take(c, <uint32_t>kvo_tid())
    if c.state == LIVE:
        want(c, KVO_WANT_DATA)
    refresh(c, fd)
    if switch_receiving(c):
        r = 0
    elif slot < 0:
        slice_of(&span)
        r = sleep_for(c, fd, &span, 0)
    else:
        r = sleep_peeking(c, fd)
    slot_give(c, slot)
    kvo_add32(&c.sleepers, <uint32_t>-1)
    if r == -ECONNRESET and c.state == LIVE:
        look_at_kernel(c, fd)
        return 0
    return r


cdef inline ssize_t receive_end(conn_t *c) noexcept nogil:
    """The ring is empty and nothing more will come: 0, or ECONNRESET once."""
    if unread_at_peer(c) and kvo_exchange32(&c.me.reset_seen, 1) == 0:
        return -ECONNRESET
    return 0


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
    while c.stash == NULL and take_bytes(c, fd, &byte, 1, MSG_DONTWAIT) > 0:
        pass
    unlead(c)


cdef inline ssize_t receive_live(conn_t *c, int fd, msghdr *m, int flags) noexcept nogil:
    cdef size_t asked = total_of(m)
    cdef ssize_t n = receive_on(c, fd, m, asked, flags, 0)
    if n == -EINPROGRESS:
        return kernel_receive(c, fd, m, flags)
    if flags & MSG_WAITALL and n > 0 and <size_t>n < asked and not flags & MSG_PEEK and (c.recv_back or c.state == PLAIN):
        return receive_rest(c, fd, m, <size_t>n, flags)
    return n


cdef inline ssize_t receive_on(conn_t *c, int fd, msghdr *m, size_t asked, int flags, size_t got) noexcept nogil:
    """LIVE; the first got bytes of m have been filled already. -EINPROGRESS: the kernel has the rest."""
    cdef bint peek = (flags & MSG_PEEK) != 0
    cdef bint all_of_it = flags & MSG_WAITALL and not peek
    cdef size_t limit
    cdef bint record = False
    cdef uint64_t gap, now
    cdef timespec span
    cdef long naps = 0
    cdef ssize_t n
    cdef int r
    if flags & MSG_OOB:
        attend(c, fd)
        return -EINPROGRESS if c.state == PLAIN or kvo_load32(&c.peer.flags) & KVO_BACK else -EINVAL
    while True:
        if c.state != LIVE or c.recv_back:
            return <ssize_t>got if got else (-EBADF if c.state == FREE else -EINPROGRESS)  # FREE: closed by another thread
        if c.shared and kvo_load32(&c.me.flags) & KVO_LEFT:
            follow(c, fd)
            if not c.recv_back:
                nap()
            continue
        if not c.recv_ring and not switch_receiving(c):
            n = receive_kernel(c, fd, m, got, flags)
            if n == -EINPROGRESS:
                continue
            if n <= 0:
                return <ssize_t>got if got else n
        else:
            if side_lock(c, &c.me.recv_lock):
                return <ssize_t>got if got else -EAGAIN
            if c.recv_back:
                side_unlock(&c.me.recv_lock)
                continue
            n = ring_look(c, asked - got)
            if n > 0:
                limit = record_limit(c, least(<size_t>n, asked - got), &gap)
                if gap < limit and c.stash == NULL:
                    fetch_record(c, fd)
                n = ring_read(c, m.msg_iov, got, limit, peek)
            record = n > 0 and <uint64_t>n > gap and not peek
            if record:
                kvo_add32(&c.me.records_taken, 1)
            side_unlock(&c.me.recv_lock)
            if n > 0 and not peek:
                fence_after_publishing(c)
                if kvo_load32(&c.peer.wait) & KVO_WANT_SPACE:
                    if 2 * ring_readable(c) <= <ssize_t>c.size:
                        ring_bell(c, fd, KVO_WANT_SPACE)
            if n < 0:
                return -ECONNRESET
            if n > 0:
                m.msg_flags = flags & MSG_CMSG_CLOEXEC
                if peek and <uint64_t>n > gap and c.stash != NULL:
                    show(c, m, flags)
                    return <ssize_t>got + n
                if record:
                    count_received(c, n, peek)
                    deliver(c, m, flags)
                    return <ssize_t>got + n
                m.msg_controllen = 0
        got += <size_t>n
        if n and not peek:
            count(&c.stats.received, <uint64_t>n)
        if n and got < asked and not c.recv_ring and not peek and not m.msg_controllen and switch_receiving(c) \
                and ring_readable(c) > 0:
            continue  # the last bytes before the cut: those behind it belong to the same read
        if n and (got == asked or not all_of_it):
            c.silent_sends = 0
            c.silent_receives += 1
            if not peek:
                count(&c.stats.receives, 1)
            return <ssize_t>got
        if asked == 0 and ring_readable(c):
            return 0
        if n:
            continue
        # The ring is empty.
        if got and not all_of_it:
            return <ssize_t>got
        if departed(c):
            attend(c, fd)
            if c.state != LIVE or c.recv_back or ring_readable(c):
                continue
            if not flags & MSG_DONTWAIT and not kvo_load32(&c.me.flags) & KVO_NONBLOCK:
                # The last bell is on its way; from a peer that breaks the rules it never comes.
                naps += 1
                if nap() and naps > 100:
                    return <ssize_t>got if got else -EINTR
                if socket_timeout(fd, SO_RCVTIMEO, &span) != NULL and naps > span.tv_sec * 1000 + span.tv_nsec // 1000000:
                    return <ssize_t>got if got else -EAGAIN
                continue
        if kvo_load32(&c.peer.closing) != c.closing_seen:
            look_at_kernel(c, fd)
        if receive_ended(c):
            if ring_readable(c):
                continue
            return <ssize_t>got if got else receive_end(c)
        if flags & MSG_DONTWAIT or kvo_load32(&c.me.flags) & KVO_NONBLOCK:
            if got:
                return <ssize_t>got
            now = kvo_ticks()
            if now - c.looked_ticks > 1000 * kvo_process.ticks_per_us:
                c.looked_ticks = now  # a killed peer clears nothing: a loop that never waits must see it all the same
                look_at_kernel(c, fd)
                if c.gone:
                    continue
            if kvo_process.foreign_wait or not c.shadow:
                if not settle(c, fd) or receive_ended(c):
                    continue
            return -EAGAIN
        r = wait_data(c, fd, got > 0)
        if r < 0:
            return <ssize_t>got if got else r


cdef inline ssize_t receive_pending(conn_t *c, int fd, msghdr *m, int flags) noexcept nogil:
    """Client, before an offer. -EINPROGRESS: the connection is LIVE, or on the kernel for good. No kernel call that counts
    bytes blocks or leaves c.lock, so any thread can attach at any time between two of them."""
    cdef ssize_t n
    cdef char byte
    cdef bint blocks
    while True:
        private_lock(&c.lock)
        if c.state == PENDING:
            accept_offer(c, fd)
        if c.state != PENDING:
            private_unlock(&c.lock)
            return -EINPROGRESS
        n = kvo_next.recvmsg(fd, m, flags & ~MSG_WAITALL | MSG_DONTWAIT)
        if n < 0:
            n = -errno
        elif n and not flags & MSG_PEEK:
            c.kernel_read += <uint64_t>n
            count_received(c, n, False)
            c.answers += 1
            if c.answers >= ANSWERS_MOST:
                accept_offer(c, fd)
                if c.state == PENDING:
                    turn_plain(c, fd, KVO_NO_OFFER)
        blocks = n == -EAGAIN and not flags & MSG_DONTWAIT and not kvo_next.fcntl(fd, F_GETFL) & O_NONBLOCK
        if blocks:
            c.early_sleepers += 1
        private_unlock(&c.lock)
        if not blocks:
            return n
        kvo_add32(&c.sleepers, 1)
        n = kvo_next.recv(fd, &byte, 1, MSG_PEEK)
        n = -errno if n < 0 else 0
        private_lock(&c.lock)
        c.early_sleepers -= 1
        if c.early_sleepers == 0 and c.early_slot >= 0:
            slot_give(c, c.early_slot)
            c.early_slot = -1
        private_unlock(&c.lock)
        kvo_add32(&c.sleepers, <uint32_t>-1)
        if n < 0 and not (n == -ECONNRESET and c.state == LIVE):
            return n


cdef inline ssize_t kernel_receive(conn_t *c, int fd, msghdr *m, int flags) noexcept nogil:
    cdef ssize_t n = kvo_next.recvmsg(fd, m, flags)
    count_received(c, n, flags & MSG_PEEK)
    return n if n >= 0 else -errno


cdef inline ssize_t stream_receive(conn_t *c, int fd, msghdr *m, int flags) noexcept nogil:
    cdef size_t want
    cdef ssize_t n
    if c.state == LIVE:
        return receive_live(c, fd, m, flags)
    if c.state == PENDING:
        n = receive_pending(c, fd, m, flags)
        if n > 0 and flags & MSG_WAITALL and <size_t>n < total_of(m) and not flags & MSG_PEEK:
            return receive_rest(c, fd, m, <size_t>n, flags)
        if n != -EINPROGRESS:
            return n
        return stream_receive_again(c, fd, m, flags)
    if c.state == CANDIDATE:
        offer(c, fd)
    return stream_receive_again(c, fd, m, flags)


cdef inline ssize_t stream_receive_again(conn_t *c, int fd, msghdr *m, int flags) noexcept nogil:
    cdef ssize_t n
    while c.state == OFFERED:
        refresh(c, fd)
        if c.state != OFFERED:
            break
        n = receive_kernel(c, fd, m, 0, flags)
        if n == -EINPROGRESS:
            continue
        count_received(c, n, flags & MSG_PEEK)
        if n > 0 and not flags & MSG_PEEK and not m.msg_controllen and <size_t>n < total_of(m):
            refresh(c, fd)
            if c.state == LIVE and switch_receiving(c) and ring_readable(c) > 0:
                return receive_on(c, fd, m, total_of(m), flags, <size_t>n)
        if n > 0 and flags & MSG_WAITALL and <size_t>n < total_of(m) and not flags & MSG_PEEK:
            return receive_rest(c, fd, m, <size_t>n, flags)
        return n
    if c.state == LIVE:
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


# ---- sending ----

cdef inline int broken_pipe(int flags) noexcept nogil:
    """EPIPE, with SIGPIPE to this thread unless it is not wanted; as the kernel does it."""
    if not flags & MSG_NOSIGNAL:
        syscall(SYS_tgkill, getpid(), kvo_tid(), SIGPIPE)
    return -EPIPE


cdef inline bint peer_stopped(conn_t *c, int fd) noexcept nogil:
    """Only sends, no answer: looks at the lifeline when the peer has not moved for a millisecond. A peer that was
    killed while awake rings nothing and clears nothing; the kernel knows."""
    cdef uint64_t now = kvo_ticks(), head
    if now - c.alive_ticks > 1000 * kvo_process.ticks_per_us:
        head = kvo_load64(&c.peer.head)
        if head == c.alive_head:
            look_at_kernel(c, fd)
        c.alive_head = head
        c.alive_ticks = now
    return c.gone != 0


cdef inline ssize_t send_live(conn_t *c, int fd, const msghdr *m, size_t total, int flags) noexcept nogil:
    """Bytes or -errno; fewer than asked for, or -EINPROGRESS, when my direction has gone back to the kernel meanwhile."""
    cdef size_t done = 0
    cdef bint carries = m.msg_control != NULL and m.msg_controllen != 0
    # As on a kernel socket, the bytes of small messages that several threads or processes send never mix.
    # So a message begins only where a small one of its length would fit; a longer one, where the largest small one would.
    cdef bint many = not alone(c)
    cdef size_t start = least(total, least(WHOLE, c.size // 2)) if many else 1
    cdef bint whole = many and start == total
    cdef ssize_t n, room, more
    cdef int r
    while True:
        if c.state != LIVE or c.send_back:
            return <ssize_t>done if done else (-EBADF if c.state == FREE else -EINPROGRESS)  # FREE: closed by another thread
        if kvo_load32(&c.peer.closing) != c.closing_seen:
            look_at_kernel(c, fd)
        c.silent_sends += 1
        c.silent_receives = 0
        if c.silent_sends & 7 == 0:
            peer_stopped(c, fd)
        if send_ended(c):
            return <ssize_t>done if done else broken_pipe(flags)
        if departed(c):
            attend(c, fd)
            if kvo_load32(&c.me.flags) & KVO_BACK:
                return <ssize_t>done if done else -EINPROGRESS
        n = 0
        if total:
            if side_lock(c, &c.me.send_lock):
                return <ssize_t>done if done else -EAGAIN
            if many and kvo_load32(&c.me.flags) & KVO_BACK:
                side_unlock(&c.me.send_lock)
                continue
            room = ring_space(c) if carries or many else 1
            if room < 0:
                side_unlock(&c.me.send_lock)
                return -ECONNRESET
            if done or room > 0 and <size_t>room >= start:
                if carries and done == 0:
                    n = send_record(c, fd, m, total)
                if n == 0:
                    n = ring_write(c, m.msg_iov, done, total - done)
                more = n
                while whole and more > 0 and <size_t>n < total:
                    more = ring_write(c, m.msg_iov, <size_t>n, total - <size_t>n)
                    n += more if more > 0 else 0
            else:
                kvo_store64(&c.me.head_cache, kvo_load64(&c.peer.head))  # what wait_space() waits to see moving
            side_unlock(&c.me.send_lock)
            if n == -EAGAIN:  # as many records are under way as there is room for
                if not (flags & MSG_DONTWAIT or kvo_load32(&c.me.flags) & KVO_NONBLOCK):
                    nap()
                    continue
                n = 0
            if n == -EINPROGRESS:
                continue
            if n < 0:
                return -ECONNRESET if n == -EPROTO else n
            if n:
                fence_after_publishing(c)
                if kvo_load32(&c.peer.wait) & KVO_WANT_DATA:
                    ring_bell(c, fd, KVO_WANT_DATA)
                    if departed(c):
                        attend(c, fd)
        done += <size_t>n
        count(&c.stats.sent, <uint64_t>n)
        if done == total:
            count(&c.stats.sends, 1)
            return <ssize_t>done
        if n:
            continue
        # The ring is full.
        c.full += 1
        if flags & MSG_DONTWAIT or kvo_load32(&c.me.flags) & KVO_NONBLOCK:
            count(&c.stats.sends, done != 0)
            return <ssize_t>done if done else -EAGAIN
        r = wait_space(c, fd, 1 if done else <ssize_t>start)
        if r < 0:
            return <ssize_t>done if done else r


cdef inline ssize_t send_changing(conn_t *c, int fd, const msghdr *m, int flags, size_t done) noexcept nogil:
    """In any state, also while it changes; the first done bytes of m have been sent. In PENDING and OFFERED kernel sends never
    block under the lock, so that the cut can be published at any time between two of them."""
    cdef msghdr part
    cdef iovec v
    cdef pollfd p
    cdef timespec limit
    cdef timespec *span
    cdef bint sliced
    cdef size_t total = total_of(m), skip, i
    cdef ssize_t n
    cdef int fl
    while True:
        refresh(c, fd)
        part = m[0]
        if done:
            skip = done
            for i in range(m.msg_iovlen):
                if skip < m.msg_iov[i].iov_len:
                    break
                skip -= m.msg_iov[i].iov_len
            v.iov_base = <char *>m.msg_iov[i].iov_base + skip
            v.iov_len = m.msg_iov[i].iov_len - skip
            memset(&part, 0, sizeof(part))
            part.msg_iov = &v
            part.msg_iovlen = 1
        if c.state == LIVE and not c.send_back and not kvo_load32(&c.me.flags) & KVO_BACK:
            n = send_live(c, fd, &part, total_of(&part), flags)
            if n == -EINPROGRESS:
                continue
        elif c.state == PLAIN or c.state == LIVE and c.send_back:
            n = kvo_next.sendmsg(fd, &part, flags)
            n = n if n >= 0 else -errno
            count_sent(c, n)
        elif c.state == LIVE:
            follow(c, fd)  # what was left in the ring goes first
            if c.send_back or c.state != LIVE:
                continue
            n = -EAGAIN
        elif c.state == PENDING:
            private_lock(&c.lock)
            if c.state == PENDING:
                accept_offer(c, fd)
            if c.state != PENDING:
                private_unlock(&c.lock)
                continue
            n = kvo_next.sendmsg(fd, &part, flags | MSG_DONTWAIT)
            if n < 0:
                n = -errno
            else:
                c.kernel_sent += <uint64_t>n
                count_sent(c, n)
            private_unlock(&c.lock)
        else:
            if side_lock(c, &c.me.send_lock):
                return <ssize_t>done if done else -EAGAIN
            if kvo_load32(&c.me.flags) & KVO_CUT:  # another process of my side has switched
                side_unlock(&c.me.send_lock)
                continue
            n = kvo_next.sendmsg(fd, &part, flags | MSG_DONTWAIT)
            if n < 0:
                n = -errno
            else:
                kvo_store64(&c.me.kernel_sent, kvo_load64(&c.me.kernel_sent) + <uint64_t>n)
                count_sent(c, n)
            side_unlock(&c.me.send_lock)
        if n == -EAGAIN and not flags & MSG_DONTWAIT and (c.state == PENDING or c.state == OFFERED
                                                          or c.state == LIVE and kvo_load32(&c.me.flags) & KVO_BACK):
            fl = kvo_next.fcntl(fd, F_GETFL)
            if not fl & O_NONBLOCK:
                p.fd = fd
                p.events = POLLOUT
                span = socket_timeout(fd, SO_SNDTIMEO, &limit)
                sliced = span == NULL and not alone(c)
                if sliced:  # another thread may shut it down, which no poll for room reports
                    slice_of(&limit)
                    span = &limit
                kvo_add32(&c.sleepers, 1)
                fl = kvo_next.ppoll(&p, 1, span, NULL)
                n = -errno if fl < 0 else -EAGAIN
                kvo_add32(&c.sleepers, <uint32_t>-1)
                if fl > 0 or fl == 0 and sliced:
                    continue
        if n < 0:
            return <ssize_t>done if done else n
        done += <size_t>n
        if done >= total or flags & MSG_DONTWAIT:
            return <ssize_t>done
        if c.state != PLAIN and kvo_next.fcntl(fd, F_GETFL) & O_NONBLOCK:
            return <ssize_t>done


cdef inline ssize_t stream_send(conn_t *c, int fd, const msghdr *m, int flags) noexcept nogil:
    cdef size_t total
    cdef ssize_t n
    if flags & MSG_OOB:
        demote(c, fd, KVO_URGENT)
        if c.state == LIVE and not c.send_back:
            return -EOPNOTSUPP
    elif c.state == LIVE:
        total = total_of(m)
        n = send_live(c, fd, m, total, flags)
        if <size_t>n == total or not (c.send_back or c.state == PLAIN or c.state == LIVE and kvo_load32(&c.me.flags) & KVO_BACK):
            return n
        return send_changing(c, fd, m, flags, <size_t>n if n > 0 else 0) if n >= 0 or n == -EINPROGRESS else n
    if c.state == CANDIDATE:
        offer(c, fd)
    if c.state == PENDING or c.state == OFFERED or c.state == LIVE:
        return send_changing(c, fd, m, flags, 0)
    n = kvo_next.sendmsg(fd, m, flags)
    count_sent(c, n)
    return n if n >= 0 else -errno
