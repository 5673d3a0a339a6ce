# Sending on one connection, in every state. All results are >= 0 or -errno.
from libc.stdint cimport uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.lock cimport alone, side_lock, side_unlock
from kvoshim.ring cimport *
from kvoshim.ancillary cimport *
from kvoshim.demote cimport attend, demote, follow
from kvoshim.doorbell cimport *
from kvoshim.negotiate cimport *
from kvoshim.room cimport wait_kernel_room, wait_space
from kvoshim.spin cimport elsewhere
from kvoshim.wait cimport *


cdef enum:
    LOOK_EVERY = 8 # sends without a receive, between two looks whether the peer moves
    WHOLE = 49152  # bytes of the largest message that is sent whole; the kernel's limit is about that


cdef inline int broken_pipe(int flags) noexcept nogil:
    """EPIPE, with SIGPIPE to this thread unless it is not wanted; as the kernel does it."""
    if not flags & MSG_NOSIGNAL:
        syscall(SYS_tgkill, getpid(), kvo_tid(), SIGPIPE)
    return -EPIPE


cdef inline bint peer_stopped(conn_t *c, int fd) noexcept nogil:
    """Only sends, no answer: looks at the lifeline when the peer has not moved for a millisecond. A peer that was
    killed while awake rings nothing and clears nothing; the kernel knows."""
    cdef uint64_t now = kvo_ticks(), head
    if now - kvo_load64(&c.alive_ticks) > 1000 * kvo_process.ticks_per_us:
        head = kvo_load64(&c.peer.head)
        if head == kvo_load64(&c.alive_head):
            look_at_kernel(c, fd)
        kvo_store64(&c.alive_head, head)
        kvo_store64(&c.alive_ticks, now)
    return is_set(&c.gone)


cdef inline void tell_sent(conn_t *c, int fd) noexcept nogil:
    """After a message: the peer sleeps (or has left: that looks the same), or has wished for a fence, or it is time to look
    whether it lives."""
    if kvo_load32(&c.peer.wait) & KVO_WANT_FENCE:
        fence_as_wished(c)
    if kvo_load32(&c.peer.wait) & KVO_WANT_DATA:
        ring_bell(c, fd, KVO_WANT_DATA)
        if departed(c):
            attend(c, fd)
    if kvo_load32(&c.silent_sends) % LOOK_EVERY == 0:
        peer_stopped(c, fd)


cdef inline ssize_t send_live(conn_t *c, int fd, const msghdr *m, size_t total, int flags) noexcept nogil:
    """Bytes or -errno; fewer than asked for, or -EINPROGRESS, when my direction has gone back to the kernel meanwhile."""
    cdef ssize_t n = send_pieces(c, fd, m, total, flags)
    if total > PIECE and n > 0 and kvo_load32(&c.peer.wait) & KVO_WANT_DATA:
        tell_sent(c, fd)
    return n


cdef inline ssize_t send_pieces(conn_t *c, int fd, const msghdr *m, size_t total, int flags) noexcept nogil:
    """Without the last bell of a message of several pieces."""
    cdef size_t done = 0
    cdef bint carries = m.msg_control != NULL and m.msg_controllen != 0
    # As on a kernel socket, the bytes of small messages that several threads or processes send never mix.
    # So a message begins only where a small one of its length would fit; a longer one, where the largest small one would.
    cdef bint many = not alone(c)
    cdef size_t start = least(total, least(WHOLE, c.size // 2)) if many else 1
    cdef bint whole = many and start == total
    cdef ssize_t n, room, more
    cdef long naps = 0
    cdef int r
    while True:
        if state_of(c) != LIVE or is_set(&c.send_back):
            return <ssize_t>done if done else (-EBADF if state_of(c) == FREE else -EINPROGRESS)  # FREE: closed by another thread
        if kvo_load32(&c.peer.closing) != kvo_load32(&c.closing_seen):
            look_at_kernel(c, fd)
        bump(&c.silent_sends)
        kvo_store32(&c.silent_receives, 0)
        if kvo_load32(&c.silent_sends) % LOOK_EVERY == 0:
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
                    n = -EFAULT if anything_nowhere(m) else send_record(c, fd, m, total)
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
                    r = nap_within(fd, SO_SNDTIMEO, False, &naps)
                    if r < 0:
                        return r
                    continue
                n = 0
            if n == -EINPROGRESS:
                continue
            if n < 0:
                return -ECONNRESET if n == -EPROTO else <ssize_t>done if done else n
            if n:
                fence_after_publishing(c)
                # The first piece of a long message wakes a sleeper on another CPU: it wakes up while I go on. On mine it would take
                # the CPU, to read one piece and sleep again.
                if kvo_load32(&c.peer.wait) & KVO_WANT_DATA and (total <= PIECE or elsewhere(c)):
                    tell_sent(c, fd)
        elif anything_outside(m):
            return -EFAULT
        done += <size_t>n
        count(&c.stats.sent, <uint64_t>n)
        if done == total:
            count(&c.stats.sends, 1)
            return <ssize_t>done
        if n:
            continue
        # The ring is full.
        if anything_outside(m):
            return <ssize_t>done if done else -EFAULT
        if done and kvo_load32(&c.peer.wait) & KVO_WANT_DATA:
            tell_sent(c, fd)
        bump(&c.full)
        if flags & MSG_DONTWAIT or kvo_load32(&c.me.flags) & KVO_NONBLOCK:
            count(&c.stats.sends, done != 0)
            return <ssize_t>done if done else -EAGAIN
        r = wait_space(c, fd, 1 if done else <ssize_t>start, done > 0)
        if r < 0:
            return <ssize_t>done if done else r


cdef inline ssize_t send_changing(conn_t *c, int fd, const msghdr *m, int flags, size_t done) noexcept nogil:
    """In any state, also while it changes; the first done bytes of m have been sent. Kernel sends that are counted do not block
    under the lock, so that the cut can be published at any time between two of them (but see may_block)."""
    cdef msghdr part
    cdef iovec v
    cdef bint direct, locked
    cdef size_t total = total_of(m), skip, i
    cdef ssize_t n
    cdef uint32_t state
    while True:
        refresh(c, fd)
        state = state_of(c)  # one look: another thread may change it between two
        direct = False
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
        if state == LIVE and not is_set(&c.send_back) and not kvo_load32(&c.me.flags) & KVO_BACK:
            n = send_live(c, fd, &part, total_of(&part), flags)
            if n == -EINPROGRESS:
                continue
        elif state == PLAIN or state == LIVE and is_set(&c.send_back):
            n = kvo_next.sendmsg(fd, &part, flags)
            n = n if n >= 0 else -errno
            count_sent(c, n)
        elif state == LIVE:
            follow(c, fd)  # what was left in the ring goes first
            if is_set(&c.send_back) or state_of(c) != LIVE:
                continue
            n = -EAGAIN
        elif state == PENDING or state == CANDIDATE:
            locked = own_lock(&c.lock)
            if not (still_undecided(c, fd) if locked else undecided(c)):
                if locked:
                    private_unlock(&c.lock)
                continue
            direct = not locked or may_block(c, total_of(&part))
            if direct and locked:
                kvo_add32(&c.calls, 1)
                private_unlock(&c.lock)
            if direct:
                n = kvo_next.sendmsg(fd, &part, flags)
            else:
                n = kvo_sendmsg_now(fd, &part, flags | MSG_DONTWAIT)
            if n < 0:
                n = -errno
            count_early(c, n, 0)
            if direct and locked:
                kvo_add32(&c.calls, <uint32_t>-1)
            if not direct:
                private_unlock(&c.lock)
        else:
            if side_lock(c, &c.me.send_lock):
                return <ssize_t>done if done else -EAGAIN
            if kvo_load32(&c.me.flags) & KVO_CUT:  # another process of my side has switched
                side_unlock(&c.me.send_lock)
                continue
            n = kvo_sendmsg_now(fd, &part, flags | MSG_DONTWAIT)
            if n < 0:
                n = -errno
            else:
                kvo_store64(&c.me.kernel_sent, kvo_load64(&c.me.kernel_sent) + <uint64_t>n)
                count_sent(c, n)
            side_unlock(&c.me.send_lock)
        if n == -EAGAIN and not direct and not flags & MSG_DONTWAIT and (
                undecided(c) or state_of(c) == OFFERED or state_of(c) == LIVE and kvo_load32(&c.me.flags) & KVO_BACK):
            if not kvo_next.fcntl(fd, F_GETFL) & O_NONBLOCK:
                n = wait_kernel_room(c, fd, done > 0)
                if n == 0:
                    continue
        if n < 0:
            return <ssize_t>done if done else n
        done += <size_t>n
        if done >= total or direct or flags & MSG_DONTWAIT:
            return <ssize_t>done
        if state_of(c) != PLAIN and kvo_next.fcntl(fd, F_GETFL) & O_NONBLOCK:
            return <ssize_t>done


cdef inline ssize_t stream_send(conn_t *c, int fd, const msghdr *m, int flags) noexcept nogil:
    cdef size_t total
    cdef ssize_t n
    if flags & MSG_OOB:
        demote(c, fd, KVO_URGENT)
        if state_of(c) == LIVE and not is_set(&c.send_back):
            return -EOPNOTSUPP
    elif state_of(c) == LIVE:
        total = total_of(m)
        n = send_live(c, fd, m, total, flags)
        if <size_t>n == total or not (is_set(&c.send_back) or state_of(c) == PLAIN
                                      or state_of(c) == LIVE and kvo_load32(&c.me.flags) & KVO_BACK):
            return n
        return send_changing(c, fd, m, flags, <size_t>n if n > 0 else 0) if n >= 0 or n == -EINPROGRESS else n
    if undecided(c) or state_of(c) == OFFERED or state_of(c) == LIVE:
        return send_changing(c, fd, m, flags, 0)
    n = kvo_next.sendmsg(fd, m, flags)
    count_sent(c, n)
    return n if n >= 0 else -errno
