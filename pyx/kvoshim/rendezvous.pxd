# Where two shimmed processes find each other: the mark on a client's socket, the rendezvous that each client process listens on.
#
# The mark is an abstract name, @kvo2-<nonce>. The nonce is the process's part, which names the rendezvous (@kvo2r<process>),
# and the connection's: its slot, and a running number. A server that wants to hand something to the client binds a socket to
# @kvo2o<nonce> and connects it to the rendezvous, so that whoever accepts there knows whom it is for.
#
# Names are in /proc/net/unix for all to read, so they prove nothing; who may offer and to whom is asked of the kernel
# (negotiate.pxd).
from libc.stdint cimport int32_t, uint8_t, uint32_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *

cdef enum:
    PROCESS_BYTES = 8    # of the nonce, the process's part
    MARK_BYTES = 38      # a zero byte (abstract), "kvo2-" or "kvo2o", 32 hexadecimal digits
    MARKS_OFTEN = 256    # a process that has connected so often keeps its rendezvous, rather than make one again and again
    OFFERS_MOST = 64     # taken at a time: a stranger who calls and calls must not keep us


cdef inline void put_hex(char *to, const uint8_t *nonce, int n) noexcept nogil:
    cdef const char *digits = b"0123456789abcdef"
    cdef int i
    for i in range(n):
        to[2 * i] = digits[nonce[i] >> 4]
        to[2 * i + 1] = digits[nonce[i] & 15]


cdef inline socklen_t name_of(sockaddr_un *a, const uint8_t *nonce, char kind) noexcept nogil:
    """The mark (kind '-'), the rendezvous ('r') or the offerer's name ('o') of a nonce; its address length."""
    cdef int n = PROCESS_BYTES if kind == c'r' else KVO_NONCE_BYTES
    memset(a, 0, sizeof(sockaddr_un))
    a.sun_family = <unsigned short>AF_UNIX
    memcpy(&a.sun_path[1], b"kvo2", 4)
    a.sun_path[5] = kind
    put_hex(&a.sun_path[6], nonce, n)
    return <socklen_t>(sizeof(unsigned short) + 6 + 2 * n)


cdef inline int hex_digit(char d) noexcept nogil:
    if c'0' <= d <= c'9':
        return d - c'0'
    if c'a' <= d <= c'f':
        return d - c'a' + 10
    return -1


cdef inline int nonce_of(const sockaddr_un *a, socklen_t length, char kind, uint8_t *nonce) noexcept nogil:
    """1 and the nonce if an address is a name of that kind; -1 for one of another version; else 0."""
    cdef int i, high, low
    if length < sizeof(unsigned short) + 6 or a.sun_family != AF_UNIX or a.sun_path[0]:
        return 0
    if memcmp(&a.sun_path[1], b"kvo", 3) or a.sun_path[5] != kind:
        return 0
    if a.sun_path[4] != c'2':
        return -1 if c'0' <= a.sun_path[4] <= c'9' else 0
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


cdef inline bint peer_closed(int fd) noexcept nogil:
    cdef pollfd p
    p.fd = fd
    p.events = p.revents = 0
    return kvo_poll_now(&p, 1) == 1 and p.revents & POLLHUP


# ---- client ----

cdef inline bint open_rendezvous() noexcept nogil:
    """This process's rendezvous, made when it is first needed. Under rendezvous_lock."""
    cdef sockaddr_un own
    cdef socklen_t n
    cdef int32_t fd
    if kvo_process.rendezvous >= 0:
        return True
    if kvo_random(kvo_process.rendezvous_id, PROCESS_BYTES):
        return False
    fd = make_internal(kvo_next.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0))
    if fd < 0:
        return False
    n = name_of(&own, kvo_process.rendezvous_id, c'r')
    if kvo_next.bind(fd, <sockaddr *>&own, n) or listen(fd, 4096):
        close_quietly(&fd)
        return False
    kvo_process.rendezvous = fd
    return True


cdef inline bint new_nonce(conn_t *c) noexcept nogil:
    """Gives the connection its nonce. False: this process can have no rendezvous. Signals are held back."""
    cdef uint32_t parts[2]
    cdef bint there
    private_lock(&kvo_process.rendezvous_lock)
    there = open_rendezvous()
    kvo_process.marks += 1
    parts[0] = <uint32_t>(c - <conn_t *>kvo_process.slots)
    parts[1] = kvo_process.marks
    memcpy(c.nonce, kvo_process.rendezvous_id, PROCESS_BYTES)
    memcpy(&c.nonce[PROCESS_BYTES], parts, sizeof(parts))
    if there:
        c.awaits = 1
        kvo_process.awaiting += 1
    private_unlock(&kvo_process.rendezvous_lock)
    return there


cdef inline bint may_offer(int offering, int fd) noexcept nogil:
    """Whether the process at the other end of offering may speak for the peer of fd: it has the PID or the user of the one
    that listens on the path, or it runs as the user that has accepted the connection (kvo_peer_user: a server's workers)."""
    cdef ucred offerer, listener
    cdef uint32_t user
    if not credentials(offering, &offerer) or not credentials(fd, &listener):
        return False
    if offerer.uid == listener.uid or offerer.pid == listener.pid and offerer.pid:
        return True
    return kvo_peer_user(fd, &user) == 0 and user == offerer.uid


cdef inline void hand_over(int32_t offering, const uint8_t *nonce) noexcept nogil:
    """An offerer has come to the rendezvous: the connection that it means gets it."""
    cdef uint32_t index
    cdef int fd
    cdef conn_t *c
    memcpy(&index, &nonce[PROCESS_BYTES], sizeof(index))
    if index < kvo_acquire32(&kvo_process.slot_high):
        c = (<conn_t *>kvo_process.slots) + index
        fd = fd_of(c)
        if ((state_of(c) == PENDING or state_of(c) == MARKED) and offering_of(c) < 0 and fd >= 0
                and memcmp(c.nonce, nonce, KVO_NONCE_BYTES) == 0):
            if may_offer(offering, fd):
                set_flag(<uint32_t *>&c.offering, <uint32_t>offering)
                return
            count(&kvo_process.stats.refused[<int>KVO_CREDENTIALS], 1)  # a stranger: the real offer may still come
    close_quietly(&offering)


cdef inline int collect_offers() noexcept nogil:
    """Takes whoever has come to the rendezvous, for all connections. Signals are held back. 0, or -EMFILE: there may be some
    that this process has no descriptor or memory for."""
    cdef int result = 0
    cdef sockaddr_un name
    cdef socklen_t n
    cdef uint8_t nonce[16]
    cdef int32_t fd
    cdef int i
    private_lock(&kvo_process.rendezvous_lock)
    for i in range(OFFERS_MOST):
        if kvo_process.rendezvous < 0:
            break
        n = sizeof(name)
        fd = kvo_accept_now(kvo_process.rendezvous, <sockaddr *>&name, &n, SOCK_CLOEXEC | SOCK_NONBLOCK)
        if fd < 0 and not scarce(errno):
            break
        fd = make_internal(fd)
        if fd < 0:
            result = -EMFILE
            break
        if nonce_of(&name, n, c'o', nonce) == 1:
            hand_over(fd, nonce)
        else:
            close_quietly(&fd)
    private_unlock(&kvo_process.rendezvous_lock)
    return result


cdef inline void decide(conn_t *c, uint32_t state) noexcept nogil:
    """The connection takes no more offers: it is in this state from here on. Signals are held back."""
    private_lock(&kvo_process.rendezvous_lock)
    enter(c, state)
    if c.awaits:
        c.awaits = 0
        kvo_process.awaiting -= 1
        if kvo_process.awaiting == 0 and kvo_process.marks < MARKS_OFTEN:
            close_quietly(&kvo_process.rendezvous)
    private_unlock(&kvo_process.rendezvous_lock)
    close_quietly(&c.offering)


# ---- server ----

cdef inline int32_t call_client(conn_t *c, int fd, int *reason) noexcept nogil:
    """A socket connected to the rendezvous of the process that connected; -1 and why not."""
    cdef sockaddr_un at
    cdef ucred listener, peer
    cdef int32_t s = kvo_next.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
    reason[0] = KVO_NO_RENDEZVOUS
    if s < 0:
        return -1
    if (kvo_next.bind(s, <sockaddr *>&at, name_of(&at, c.nonce, c'o')) == 0
            and kvo_connect_now(s, <sockaddr *>&at, name_of(&at, c.nonce, c'r')) == 0):
        # The same process; or root, from which nothing is hidden: a client may have given up its rights since.
        if (credentials(s, &listener) and credentials(fd, &peer) and listener.pid == peer.pid
                and (listener.uid == peer.uid or listener.uid == 0)):
            reason[0] = KVO_NO_REASON
            return s
        reason[0] = KVO_CREDENTIALS
    close_quietly(&s)
    return -1
