# How two shimmed ends find each other without a byte in the stream, and without connect() waiting for accept().
#
#   client                                          server
#   bind rendezvous  @kvo1r<nonce>  (SEQPACKET)
#   bind the socket to the mark @kvo1-<nonce>
#   connect ---------------------------------------> accept sees the mark: CANDIDATE
#   data flows on the kernel socket <--------------> first send or receive: makes the segment, connects to the
#                                                    rendezvous, checks who listens there, sends memfd: OFFERED
#   first operation after: accepts, checks who
#   offers, maps, state = ATTACHED, publishes its
#   cut: LIVE                                        next operation sees ATTACHED, publishes its cut: LIVE
#
# The nonce is in /proc/net/unix for all to read, so it proves nothing. The server sends the memfd only to a listener with
# the PID and user of the accepted connection; the client takes an offer only from the PID or user that listens on the path.
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.segment cimport segment_create, segment_attach
from kvoshim.doorbell cimport slot_take
from kvoshim.lock cimport side_lock, side_unlock

cdef enum:
    MARK_BYTES = 38      # a zero byte (abstract), "kvo1-" or "kvo1r", 32 hexadecimal digits
    ANSWERS_MOST = 8     # receives with data and no offer, after which the peer counts as not shimmed


cdef inline socklen_t name_of(sockaddr_un *a, const uint8_t *nonce, char kind) noexcept nogil:
    """The mark (kind '-') or the rendezvous name (kind 'r') of a nonce; its address length."""
    cdef const char *digits = b"0123456789abcdef"
    cdef int i
    memset(a, 0, sizeof(sockaddr_un))
    a.sun_family = <unsigned short>AF_UNIX
    memcpy(&a.sun_path[1], b"kvo1", 4)
    a.sun_path[5] = kind
    for i in range(KVO_NONCE_BYTES):
        a.sun_path[6 + 2 * i] = digits[nonce[i] >> 4]
        a.sun_path[7 + 2 * i] = digits[nonce[i] & 15]
    return <socklen_t>(sizeof(unsigned short) + MARK_BYTES)


cdef inline int hex_digit(char d) noexcept nogil:
    if c'0' <= d <= c'9':
        return d - c'0'
    if c'a' <= d <= c'f':
        return d - c'a' + 10
    return -1


cdef inline int mark_nonce(const sockaddr_un *a, socklen_t length, uint8_t *nonce) noexcept nogil:
    """1 and the nonce if an address is a mark of this version; -1 for a mark of another version; else 0."""
    cdef int i, high, low
    if length < sizeof(unsigned short) + 6 or a.sun_family != AF_UNIX or a.sun_path[0]:
        return 0
    if memcmp(&a.sun_path[1], b"kvo", 3) or a.sun_path[5] != c'-':
        return 0
    if a.sun_path[4] != c'1':
        return -1
    if length != sizeof(unsigned short) + MARK_BYTES:
        return 0
    for i in range(KVO_NONCE_BYTES):
        high = hex_digit(a.sun_path[6 + 2 * i])
        low = hex_digit(a.sun_path[7 + 2 * i])
        if high < 0 or low < 0:
            return 0
        nonce[i] = <uint8_t>(high << 4 | low)
    return 1


cdef inline bint credentials(int fd, ucred *out) noexcept nogil:
    cdef socklen_t n = sizeof(ucred)
    return kvo_next.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, out, &n) == 0


cdef inline void note_inode(conn_t *c, int fd) noexcept nogil:
    cdef stat_t info
    if fstat(fd, &info) == 0:
        c.me.inode = info.st_ino


cdef inline void log_plain(conn_t *c, int fd, int reason) noexcept nogil:
    count(&kvo_process.stats.refused[reason], 1)
    c.reason = <uint32_t>reason
    kvo_store32(&c.stats.reason, c.reason)
    kvo_log(b"plain fd=%d side=%s path=%s reason=%s", fd, b"server" if c.role else b"client", &c.path[0],
            kvo_reason_name(reason))


cdef inline void turn_plain(conn_t *c, int fd, int reason) noexcept nogil:
    """This connection stays on the kernel. Under c.lock, before either direction has switched."""
    log_plain(c, fd, reason)
    close_quietly(&c.rendezvous)
    close_quietly(&c.offering)
    close_quietly(&c.memfd)
    # A mapped segment stays until close(): another thread may be looking at it.
    enter(c, PLAIN)


cdef inline bint withdraw(conn_t *c, int fd, int reason) noexcept nogil:
    """Takes the connection back to the kernel if it has not switched yet. True: it is plain now."""
    cdef bint plain = False
    if c.state == LIVE:
        return False
    private_lock(&c.lock)
    if c.state == OFFERED:
        plain = kvo_cas32(&c.header.state, KVO_OFFERED, KVO_WITHDRAWN)
    elif c.state == PENDING or c.state == CANDIDATE or c.state == MARKED:
        plain = True
    elif c.state == PLAIN:
        private_unlock(&c.lock)
        return True
    if plain:
        turn_plain(c, fd, reason)
    private_unlock(&c.lock)
    return plain


cdef inline void go_live_locked(conn_t *c, int fd) noexcept nogil:
    """Both ends are attached: publishes my cut. Under c.lock, which keeps other threads from one more kernel call with
    the PENDING counts; OFFERED ones hold my send lock. So the count is final."""
    cdef ucred who
    cdef bint first
    if c.state == LIVE or side_lock(c, &c.me.send_lock):
        return
    first = not (kvo_load32(&c.me.flags) & KVO_CUT)
    if first:
        kvo_store64(&c.me.cut, kvo_load64(&c.me.kernel_sent))
        # SYNC POINT cut: the count becomes visible with the flag
        kvo_or32(&c.me.flags, KVO_CUT | (KVO_EXPEDITED if kvo_process.expedited else 0))
    c.send_ring = 1
    side_unlock(&c.me.send_lock)
    if kvo_next.fcntl(fd, F_GETFL) & O_NONBLOCK:
        kvo_or32(&c.me.flags, KVO_NONBLOCK)
    if c.early_sleepers:
        c.early_slot = slot_take(c, <uint32_t>kvo_process.pid)
    enter(c, LIVE)
    kick(c)  # registrations made before are to be converted
    count(&kvo_process.stats.accelerated, 1)
    if c.peer_pid == 0 and credentials(fd, &who):
        c.peer_pid = who.pid
    c.stats.peer_pid = c.peer_pid
    kvo_log(b"accelerated id=%d fd=%d side=%s path=%s peer=%d", ident_of(c), fd,
            b"server" if c.role else b"client", &c.path[0], c.peer_pid)


cdef inline void go_live(conn_t *c, int fd) noexcept nogil:
    private_lock(&c.lock)
    go_live_locked(c, fd)
    private_unlock(&c.lock)


# ---- client ----

cdef inline void mark(int fd, const sockaddr_un *address, socklen_t length) noexcept nogil:
    """Before connect(): gives the socket a mark and a rendezvous, if its path is selected and nothing speaks against
    it. Leaves a MARKED connection in the table, or nothing."""
    cdef sockaddr_un own
    cdef socklen_t n = sizeof(sockaddr_un)
    cdef int saved = errno, i, reason = KVO_NO_MARK
    cdef conn_t *c
    cdef size_t path = length - sizeof(unsigned short)
    if kvo_next.getsockname(fd, <sockaddr *>&own, &n) or own.sun_family != AF_UNIX:
        kvo_set_errno(saved)
        return
    c = conn_new(fd, MARKED, 0)
    if c == NULL:
        count(&kvo_process.stats.refused[<int>KVO_TABLE_FULL], 1)
        return
    name_connection(c, address.sun_path, path)
    if n > sizeof(unsigned short):
        reason = KVO_BOUND
    elif kvo_random(c.nonce, KVO_NONCE_BYTES) == 0:
        c.rendezvous = make_internal(kvo_next.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0))
        if c.rendezvous >= 0:
            n = name_of(&own, c.nonce, c'r')
            if kvo_next.bind(c.rendezvous, <sockaddr *>&own, n) == 0 and listen(c.rendezvous, 4) == 0:
                n = name_of(&own, c.nonce, c'-')
                if kvo_next.bind(fd, <sockaddr *>&own, n) == 0:
                    reason = KVO_NO_REASON
    if reason != KVO_NO_REASON:
        turn_plain(c, fd, reason)
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
    m.msg_controllen = CMSG_SPACE(sizeof(int))
    n = kvo_next.recvmsg(c.offering, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
    if n < 0:
        return -errno
    part = CMSG_FIRSTHDR(&m)
    if part == NULL or part.cmsg_level != SOL_SOCKET or part.cmsg_type != SCM_RIGHTS:
        return -EPROTO
    cdef int memfd = (<int *>CMSG_DATA(part))[0]
    if n != sizeof(offer_t) or m.msg_flags & (MSG_TRUNC | MSG_CTRUNC):
        kvo_next.close(memfd)
        return -EPROTO
    return memfd


cdef inline void accept_offer(conn_t *c, int fd) noexcept nogil:
    """PENDING, under c.lock, no kernel call under way: attaches if an offer is there."""
    cdef ucred offerer, listener
    cdef offer_t offer
    cdef int32_t memfd
    cdef int result, tries = 0
    while c.offering < 0 and tries < 4:
        tries += 1
        c.offering = make_internal(kvo_next.accept4(c.rendezvous, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK))
        if c.offering < 0:
            return
        if (not credentials(c.offering, &offerer) or not credentials(fd, &listener)
                or (offerer.pid != listener.pid and offerer.uid != listener.uid)):
            close_quietly(&c.offering)  # a stranger: the real offer may still come
            count(&kvo_process.stats.refused[<int>KVO_CREDENTIALS], 1)
    if c.offering < 0:
        return
    memfd = read_offer(c, &offer)
    if memfd == -EAGAIN:
        return
    if memfd < 0:
        turn_plain(c, fd, KVO_BAD_OFFER)
        return
    result = segment_attach(c, memfd, &offer)
    c.memfd = make_internal(memfd)
    if result < 0:
        turn_plain(c, fd, KVO_NO_SEGMENT if result == -ENOMEM else KVO_BAD_OFFER)
        return
    note_inode(c, fd)
    if credentials(c.offering, &offerer):
        c.peer_pid = offerer.pid  # the process that has accepted, which need not be the one that listens
    c.me.kernel_sent = c.kernel_sent
    c.me.kernel_read = c.kernel_read
    # SYNC POINT attach: pairs with the acquire of state in refresh(). Only one of attach and withdraw can win.
    if not kvo_cas32(&c.header.state, KVO_OFFERED, KVO_ATTACHED):
        turn_plain(c, fd, KVO_WITHDRAWN_OFFER)
        return
    close_quietly(&c.rendezvous)
    close_quietly(&c.offering)
    go_live_locked(c, fd)


# ---- server ----

cdef inline int send_offer(conn_t *c, int fd, int memfd) noexcept nogil:
    """Hands the segment to the client's rendezvous. KVO_NO_REASON or why not."""
    cdef sockaddr_un at
    cdef socklen_t n = name_of(&at, c.nonce, c'r')
    cdef ucred listener, peer
    cdef offer_t offer
    cdef msghdr m
    cdef iovec v
    cdef char control[64]
    cdef cmsghdr *part
    cdef int reason = KVO_NO_RENDEZVOUS
    cdef int32_t s = kvo_next.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
    if s < 0:
        return KVO_NO_RENDEZVOUS
    if kvo_next.connect(s, <sockaddr *>&at, n) == 0:
        if not credentials(s, &listener) or not credentials(fd, &peer) or listener.pid != peer.pid \
                or listener.uid != peer.uid:
            reason = KVO_CREDENTIALS
        else:
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
            if kvo_next.sendmsg(s, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(offer):
                reason = KVO_NO_REASON
    close_quietly(&s)
    return reason


cdef inline void offer(conn_t *c, int fd) noexcept nogil:
    """CANDIDATE: makes a segment and offers it, once."""
    cdef int saved = errno, reason
    cdef int32_t memfd
    private_lock(&c.lock)
    if c.state == CANDIDATE:
        memfd = segment_create(c)
        if memfd < 0:
            turn_plain(c, fd, KVO_NO_SEGMENT)
        else:
            note_inode(c, fd)
            reason = send_offer(c, fd, memfd)
            c.memfd = make_internal(memfd)
            if reason:
                turn_plain(c, fd, reason)
            else:
                enter(c, OFFERED)
    private_unlock(&c.lock)
    kvo_set_errno(saved)


cdef inline void refresh(conn_t *c, int fd) noexcept nogil:
    """OFFERED: has the client attached?"""
    cdef int saved
    cdef uint32_t state
    if c.state == OFFERED:
        state = kvo_acquire32(&c.header.state)  # SYNC POINT attach
        if state == KVO_ATTACHED or state == KVO_PARTED:
            saved = errno
            go_live(c, fd)
            kvo_set_errno(saved)
