# How two shimmed ends agree on a segment without a byte in the stream, and without connect() waiting for accept().
#
#   client                                          server
#   bind the socket to the mark @kvo2-<nonce>
#   connect ---------------------------------------> accept sees the mark: CANDIDATE
#   data flows on the kernel socket, PENDING <-----> data flows, both sides count; once the connection has proved to be
#                                                    more than a question and its answer, the server makes the segment,
#                                                    connects to the client's rendezvous, checks who listens there,
#                                                    sends the memfd: OFFERED
#   first operation after: accepts, checks who
#   offers, maps, state = ATTACHED, publishes its
#   cut: LIVE                                        next operation sees ATTACHED, publishes its cut: LIVE
#
# A segment costs more than a short connection: some twenty system calls, and pages that nobody has touched yet. So a
# connection has to move something first (KVOSHIM_WARMUP).
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.clock cimport early_use
from kvoshim.connection cimport *
from kvoshim.rendezvous cimport *
from kvoshim.segment cimport segment_create, segment_attach
from kvoshim.doorbell cimport slot_take
from kvoshim.lock cimport side_lock, side_unlock

cdef enum:
    ANSWERS_MOST = 8     # answers and no offer, beyond the warm-up, after which the peer counts as not shimmed
    ANSWER_PARTS = 16    # receives with nothing sent between that count as an answer: they may be parts of one message
    QUESTIONS_MOST = 1024  # receives with data after an offer, after which nobody will take it
    WARM_BYTES = 32768   # that make a connection warm, however few calls moved them


cdef inline bint warm(conn_t *c) noexcept nogil:
    """Whether a connection that is not decided yet has moved enough to be worth a segment."""
    return c.moves >= kvo_process.warmup or c.kernel_sent + c.kernel_read >= WARM_BYTES


cdef inline bint note_inode(conn_t *c, int fd) noexcept nogil:
    """False: it can't be had, and a successor by exec would not know the connection again."""
    cdef stat_t info
    if fstat(fd, &info):
        return False
    c.me.inode = info.st_ino
    return True


cdef inline void refuse(int reason, int fd, const char *side) noexcept nogil:
    """Counts a connection that has no slot."""
    kvo_stats_cover(0)
    count(&kvo_process.stats.refused[reason], 1)
    kvo_log(b"plain fd=%d side=%s reason=%s", fd, side, kvo_reason_name(reason))


cdef inline void log_plain(conn_t *c, int fd, int reason) noexcept nogil:
    count(&kvo_process.stats.refused[reason], 1)
    c.reason = <uint32_t>reason
    kvo_store32(&c.stats.reason, c.reason)
    kvo_log(b"plain fd=%d side=%s path=%s reason=%s", fd, b"server" if c.role else b"client", &c.path[0],
            kvo_reason_name(reason))


cdef inline void turn_plain(conn_t *c, int fd, int reason) noexcept nogil:
    """This connection stays on the kernel. Under c.lock, signals held back, before either direction has switched."""
    log_plain(c, fd, reason)
    decide(c, PLAIN)
    drop_memfd(c)
    # A mapped segment stays until close(): another thread may be looking at it.


cdef inline bint withdraw(conn_t *c, int fd, int reason) noexcept nogil:
    """Takes the connection back to the kernel if it has not switched yet. True: it is plain now."""
    cdef bint plain = False
    cdef bint locked
    cdef uint64_t signals
    if state_of(c) == LIVE or state_of(c) == PLAIN:
        return state_of(c) == PLAIN
    signals = kvo_hold_signals()
    locked = own_lock(&c.lock)
    if state_of(c) == OFFERED:
        plain = kvo_cas32(&header_of(c).state, KVO_OFFERED, KVO_WITHDRAWN)
    else:
        plain = state_of(c) == PENDING or state_of(c) == CANDIDATE or state_of(c) == MARKED
    if plain:
        turn_plain(c, fd, reason)
    plain = state_of(c) == PLAIN
    if locked:
        private_unlock(&c.lock)
    kvo_release_signals(signals)
    return plain


cdef inline void go_live_locked(conn_t *c, int fd) noexcept nogil:
    """Both ends are attached: publishes my cut. Under c.lock, which keeps other threads from one more kernel call with
    the PENDING counts; OFFERED ones hold my send lock. So the count is final."""
    cdef ucred who
    cdef bint first
    if state_of(c) == LIVE or state_of(c) == PLAIN or state_of(c) == FREE or side_lock(c, &c.me.send_lock):
        return  # FREE: closed by another thread
    first = not (kvo_load32(&c.me.flags) & KVO_CUT)
    if first:
        kvo_store64(&c.me.cut, kvo_load64(&c.me.kernel_sent))
        # SYNC POINT cut: the count becomes visible with the flag
        kvo_or32(&c.me.flags, KVO_CUT | (KVO_EXPEDITED if kvo_process.expedited else 0))
    set_flag(&c.send_ring, 1)
    side_unlock(&c.me.send_lock)
    if kvo_next.fcntl(fd, F_GETFL) & O_NONBLOCK:
        kvo_or32(&c.me.flags, KVO_NONBLOCK)
    if c.early_sleepers:
        c.early_slot = slot_take(c, <uint32_t>kvo_process.pid)
    enter(c, LIVE)
    if c.role == 0:
        kvo_note_life(c.path, False)
    kick(c)  # registrations made before are to be converted
    count(&kvo_process.stats.accelerated, 1)
    if c.peer_pid == 0 and credentials(fd, &who):
        c.peer_pid = who.pid
    c.stats.peer_pid = c.peer_pid
    kvo_log(b"accelerated id=%d fd=%d side=%s path=%s peer=%d", ident_of(c), fd,
            b"server" if c.role else b"client", &c.path[0], c.peer_pid)


cdef inline void go_live(conn_t *c, int fd) noexcept nogil:
    cdef uint64_t signals = kvo_hold_signals()
    if own_lock(&c.lock):
        go_live_locked(c, fd)
        private_unlock(&c.lock)
    kvo_release_signals(signals)


# ---- client ----

cdef inline void mark(int fd, const sockaddr_un *address, socklen_t length) noexcept nogil:
    """Before connect(): gives the socket a mark, if its path is selected and nothing speaks against it. Leaves a MARKED
    connection in the table, or nothing."""
    cdef sockaddr_un own
    cdef int saved = errno, reason = KVO_NO_MARK
    cdef size_t path = length - sizeof(unsigned short)
    cdef uint64_t signals
    cdef conn_t *c
    signals = kvo_hold_signals()
    c = conn_new(fd, MARKED, 0)
    if c == NULL:
        refuse(KVO_TABLE_FULL, fd, b"client")
        kvo_release_signals(signals)
        kvo_set_errno(saved)
        return
    name_connection(c, address.sun_path, path)
    if new_nonce(c):
        if kvo_next.bind(fd, <sockaddr *>&own, name_of(&own, c.nonce, c'-')) == 0:
            reason = KVO_NO_REASON
        elif errno == EINVAL:
            reason = KVO_BOUND
    if reason != KVO_NO_REASON:
        turn_plain(c, fd, reason)
    kvo_release_signals(signals)
    kvo_set_errno(saved)


cdef inline int read_offer(conn_t *c, offer_t *offer) noexcept nogil:
    """The memfd that came with an offer, or -errno (-EAGAIN: not here yet)."""
    cdef msghdr m
    cdef iovec v
    cdef char control[64]
    cdef cmsghdr *part
    cdef ssize_t n
    memset(&m, 0, sizeof(m))
    v.iov_base = offer
    v.iov_len = sizeof(offer_t)
    m.msg_iov = &v
    m.msg_iovlen = 1
    m.msg_control = control
    m.msg_controllen = CMSG_LEN(sizeof(int))  # one descriptor and no more
    n = kvo_recvmsg_now(offering_of(c), &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
    if n < 0:
        return -errno
    part = CMSG_FIRSTHDR(&m)
    if part == NULL and m.msg_flags & MSG_CTRUNC:
        return -EMFILE  # this process has no number left for it
    if part == NULL or part.cmsg_level != SOL_SOCKET or part.cmsg_type != SCM_RIGHTS:
        return -EPROTO
    cdef int memfd = (<int *>CMSG_DATA(part))[0]
    if n != sizeof(offer_t) or m.msg_flags & (MSG_TRUNC | MSG_CTRUNC):
        kvo_close_now(memfd)
        return -EPROTO
    return memfd


cdef inline void accept_offer(conn_t *c, int fd) noexcept nogil:
    """PENDING, under c.lock, signals held back, no kernel call under way: attaches if an offer is there."""
    cdef ucred offerer
    cdef offer_t offer
    cdef int32_t memfd
    cdef int result
    if offering_of(c) < 0:
        kvo_store32(<uint32_t *>&c.fd, <uint32_t>fd)
        result = collect_offers()
        if offering_of(c) < 0:
            if result < 0:
                turn_plain(c, fd, KVO_NO_SEGMENT)
            return
    memfd = read_offer(c, &offer)
    if memfd == -EAGAIN:
        return
    if memfd < 0:
        turn_plain(c, fd, KVO_NO_SEGMENT if scarce(-memfd) else KVO_BAD_OFFER)
        return
    result = segment_attach(c, memfd, &offer)
    keep_memfd(c, memfd)
    if result == 0 and not note_inode(c, fd):
        result = -ENOMEM
    if result < 0:
        turn_plain(c, fd, KVO_NO_SEGMENT if result == -ENOMEM else KVO_BAD_OFFER)
        return
    if credentials(offering_of(c), &offerer):
        c.peer_pid = offerer.pid  # the process that has accepted, which need not be the one that listens
    c.me.kernel_sent = c.kernel_sent
    c.me.kernel_read = c.kernel_read
    # SYNC POINT attach: pairs with the acquire of state in refresh(). Only one of attach and withdraw can win.
    if not kvo_cas32(&header_of(c).state, KVO_OFFERED, KVO_ATTACHED):
        turn_plain(c, fd, KVO_WITHDRAWN_OFFER)
        return
    decide(c, OFFERED)
    go_live_locked(c, fd)


# ---- server ----

cdef inline int send_offer(conn_t *c, int fd, int memfd) noexcept nogil:
    """Hands the segment to the client. KVO_NO_REASON or why not."""
    cdef offer_t offer
    cdef msghdr m
    cdef iovec v
    cdef char control[64]
    cdef cmsghdr *part
    cdef int reason
    cdef int32_t s = call_client(c, fd, &reason)
    if s < 0:
        return reason
    offer.magic = KVO_MAGIC
    offer.version = KVO_VERSION
    offer.header_bytes = KVO_HEADER_BYTES
    offer.ring_bytes = c.size
    offer.total_bytes = KVO_HEADER_BYTES + 2 * c.size
    memcpy(offer.nonce, c.nonce, KVO_NONCE_BYTES)
    memset(&m, 0, sizeof(m))
    memset(control, 0, sizeof(control))
    v.iov_base = &offer
    v.iov_len = sizeof(offer)
    m.msg_iov = &v
    m.msg_iovlen = 1
    m.msg_control = control
    m.msg_controllen = CMSG_SPACE(sizeof(int))
    part = CMSG_FIRSTHDR(&m)
    part.cmsg_level = SOL_SOCKET
    part.cmsg_type = SCM_RIGHTS
    part.cmsg_len = CMSG_LEN(sizeof(int))
    memcpy(CMSG_DATA(part), &memfd, sizeof(int))
    if kvo_sendmsg_now(s, &m, MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(offer):
        reason = KVO_NO_RENDEZVOUS
    close_quietly(&s)
    return reason


cdef inline void offer_locked(conn_t *c, int fd) noexcept nogil:
    """CANDIDATE, under c.lock, signals held back, no kernel call under way: makes a segment and offers it, once."""
    cdef int saved = errno, reason
    cdef int32_t memfd
    if peer_closed(fd):
        return  # a segment would be for nobody
    memfd = segment_create(c)
    if memfd < 0:
        turn_plain(c, fd, KVO_NO_SEGMENT)
    else:
        c.me.kernel_sent = c.kernel_sent
        c.me.kernel_read = c.kernel_read
        reason = send_offer(c, fd, memfd) if note_inode(c, fd) else KVO_NO_SEGMENT
        keep_memfd(c, memfd)
        if reason:
            turn_plain(c, fd, reason)
        else:
            enter(c, OFFERED)
    kvo_set_errno(saved)


cdef inline void refresh(conn_t *c, int fd) noexcept nogil:
    """OFFERED: has the client attached?"""
    cdef int saved
    cdef uint32_t state
    if state_of(c) == OFFERED:
        early_use()
        state = kvo_acquire32(&header_of(c).state)  # SYNC POINT attach
        if state == KVO_ATTACHED or state == KVO_PARTED:
            saved = errno
            go_live(c, fd)
            kvo_set_errno(saved)


cdef inline bint undecided(conn_t *c) noexcept nogil:
    return state_of(c) == PENDING or state_of(c) == CANDIDATE


cdef inline bint still_undecided(conn_t *c, int fd) noexcept nogil:
    """Under c.lock, no kernel call under way: takes or makes an offer if it is time. False: the connection is decided."""
    cdef uint64_t signals
    if undecided(c) and not kvo_load32(&c.calls) and warm(c):
        signals = kvo_hold_signals()
        if state_of(c) == PENDING:
            accept_offer(c, fd)
        else:
            offer_locked(c, fd)
        kvo_release_signals(signals)
    return undecided(c)


cdef inline void count_early(conn_t *c, ssize_t sent, ssize_t received) noexcept nogil:
    """A kernel call has moved bytes of a connection that is not decided. It may be a signal handler's, within another call."""
    if sent > 0:
        kvo_add64(&c.kernel_sent, <uint64_t>sent)
        count_sent(c, sent)
    if received > 0:
        kvo_add64(&c.kernel_read, <uint64_t>received)
        count_received(c, received, False)
    if sent >= 0 and received >= 0:
        kvo_add32(&c.moves, 1)
        early_use()
    if sent > 0:
        kvo_store32(&c.asked, 1)
    if state_of(c) == PENDING and received > 0:
        kvo_add32(&c.answers, ANSWER_PARTS if kvo_exchange32(&c.asked, 0) else 1)


cdef inline void lose_patience(conn_t *c, int fd) noexcept nogil:
    """Under c.lock, no kernel call under way: a client that gets answers and no offer has a peer without the library."""
    cdef uint64_t signals
    if state_of(c) == PENDING and c.answers >= (ANSWERS_MOST + kvo_process.warmup) * ANSWER_PARTS and still_undecided(c, fd):
        signals = kvo_hold_signals()
        turn_plain(c, fd, KVO_NO_OFFER)
        kvo_release_signals(signals)


cdef inline bint may_block(conn_t *c, size_t bytes) noexcept nogil:
    """An undecided connection, under c.lock: whether a kernel call that counts up to so many bytes may block. It then holds up
    the switch, so only the one thread of a process may, and only while no switch is due."""
    return bytes < WARM_BYTES and not warm(c) and kvo_single_threaded()
