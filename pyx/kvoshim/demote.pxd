# The way back: a LIVE connection returns to the kernel socket, because its descriptor goes to where the core can't follow (a
# program without the library, another process), or because only the kernel has what is asked for (signals, urgent data).
#
#   the end that leaves (demote)                        the other end (follow), at its next call or woken by the bell
#   LEFT: reads its ring no further                     BACK; sends what was left in the ring, then all else, through
#   takes out the bells that were rung for it             the kernel
#   rings once more; BACK: its bytes come through       reads its ring to the end, takes out the bells that were rung,
#     the kernel from here on                             reads the kernel
#   PLAIN                                               PLAIN
#
# Should both want to leave, header.state tells who does and who follows.
#
# So each byte stays in its place in the stream, and no bell lies behind a byte of data: bells are counted before they are
# sent, under a lock that KVO_BACK is set under too.
from libc.stdint cimport int32_t, uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.ancillary cimport take_bytes
from kvoshim.doorbell cimport *
from kvoshim.lock cimport side_lock, side_unlock
from kvoshim.rendezvous cimport peer_closed
from kvoshim.negotiate cimport refresh, turn_plain, withdraw
from kvoshim.registration cimport give_back
from kvoshim.ring cimport least, ring_readable, ring_used
from kvoshim.wait cimport nap

cdef enum:
    PATIENCE = 100  # naps: for a bell on its way, and for the other end to send what was left in the ring


cdef inline bint widen(int fd, size_t bytes, int *before) noexcept nogil:
    """Room for so many bytes more in the kernel socket, as far as the system allows. before: what to set afterwards. False: no
    more than there was."""
    cdef int size
    cdef socklen_t n = sizeof(int)
    if kvo_next.getsockopt(fd, SOL_SOCKET, SO_SNDBUF, before, &n):
        return False
    before[0] //= 2  # the kernel tells twice what it was given
    size = before[0] + <int>bytes
    return kvo_next.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(int)) == 0


cdef inline bint resend(conn_t *c, int fd) noexcept nogil:
    """What the peer has left in my ring goes through the kernel. Under my send lock, my direction BACK. True: all of it."""
    cdef uint64_t tail = kvo_load64(&c.news.tail), at = kvo_load64(&c.me.resent)
    cdef ssize_t left = ring_used(c, tail, at), n
    cdef size_t offset
    cdef int before = 0, why
    while left > 0:
        offset = at & (c.size - 1)
        n = kvo_send_now(fd, c.out + offset, least(<size_t>left, c.size - offset), MSG_DONTWAIT | MSG_NOSIGNAL)
        if n < 0:
            why = errno
            if why == EAGAIN and before == 0 and widen(fd, c.size, &before):
                continue
            if why != EAGAIN and not scarce(why):
                left = 0  # nobody is there to read it
            break
        at += <uint64_t>n
        left -= n
        kvo_store64(&c.me.resent, at)
    if before:
        kvo_next.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &before, sizeof(int))
    return left <= 0


cdef inline void send_through_kernel(conn_t *c, int fd) noexcept nogil:
    """My direction goes back, with what the peer has left in the ring. Under my send and bell locks."""
    if not kvo_load32(&c.me.flags) & KVO_BACK:
        kvo_store64(&c.me.resent, kvo_load64(&c.peer.head) if kvo_acquire32(&c.peer.flags) & KVO_LEFT
                    else kvo_load64(&c.news.tail))
        kvo_or32(&c.me.flags, KVO_BACK)
        upset(c)
    rouse(c.me)
    if resend(c, fd):
        set_flag(&c.send_back, 1)
        if kvo_load32(&c.me.flags) & KVO_SHUT_WR:
            kvo_next.shutdown(fd, SHUT_WR)


cdef inline bint bells_taken(conn_t *c, int fd) noexcept nogil:
    """Takes out the bells that were rung for my side, and nothing else. Under the kernel lock. True: all are out."""
    cdef char scratch[DRAIN_MOST]
    cdef int lying
    cdef int32_t bells
    cdef ssize_t n
    while True:
        # First what lies here, then the counts: bytes of data lie here only if the peer was BACK before, when it rings no
        # more, so that the counts are exact; until then all that lies here are bells, and the counts may be one too high.
        lying = 0
        if kvo_next.ioctl(fd, FIONREAD, &lying):
            lying = 0
        kvo_fence()
        bells = bells_out(c)
        if bells <= 0:
            return True
        if lying <= 0:
            return peer_closed(fd)  # then what was counted may never have been sent
        n = take_bytes(c, fd, scratch, least(least(<size_t>bells, <size_t>lying), DRAIN_MOST), MSG_DONTWAIT)
        if n <= 0:
            return n != -EAGAIN


cdef inline void read_from_kernel(conn_t *c) noexcept nogil:
    """The peer's direction is back: no bell and no byte of the ring is left."""
    set_flag(&c.recv_back, 1)
    set_flag(&c.recv_ring, 0)
    upset(c)


cdef inline void follow(conn_t *c, int fd) noexcept nogil:
    """LIVE, and one of the ends has left: goes after it as far as possible now. PLAIN when both directions are back.
    The registrations in epoll sets are the caller's to give back."""
    cdef int saved = errno
    cdef uint64_t signals = kvo_hold_signals()
    if own_lock(&c.lock):
        if state_of(c) == LIVE:
            follow_locked(c, fd)
            if is_set(&c.send_back) and is_set(&c.recv_back):
                turn_plain(c, fd, KVO_PEER_LEFT)
                kick(c)
        private_unlock(&c.lock)
    kvo_release_signals(signals)
    kvo_set_errno(saved)


cdef inline void follow_locked(conn_t *c, int fd) noexcept nogil:
    if kvo_acquire32(&c.me.flags) & KVO_LEFT:  # another process of my side has left: it does all there is to do
        if kvo_acquire32(&c.me.flags) & KVO_BACK:
            set_flag(&c.send_back, 1)
            read_from_kernel(c)
        return
    if not is_set(&c.send_back) and side_lock(c, &c.me.send_lock) == 0:
        if side_lock(c, &c.me.bell_lock) == 0:
            send_through_kernel(c, fd)
            side_unlock(&c.me.bell_lock)
        side_unlock(&c.me.send_lock)
    if is_set(&c.recv_back) or not kvo_acquire32(&c.peer.flags) & KVO_BACK or not switch_receiving(c):
        return
    if side_lock(c, &c.me.recv_lock):
        return
    if ring_readable(c) <= 0 and lead(c):
        if bells_taken(c, fd):
            read_from_kernel(c)
        unlead(c)
    side_unlock(&c.me.recv_lock)


cdef inline void attend(conn_t *c, int fd) noexcept nogil:
    """Before an operation outside the byte paths: takes part in what the ends have agreed on meanwhile."""
    refresh(c, fd)
    if state_of(c) == LIVE and departed(c):
        follow(c, fd)
        if state_of(c) == PLAIN:
            give_back(c)


cdef inline bint can_leave(conn_t *c, int fd) noexcept nogil:
    """Under the receive and kernel locks. Not with bytes in the ring of a peer that has closed, not while a record (descriptors)
    is on its way, nor with bells behind data that have not been read: those can't be taken out. Keeps the peer from sending
    more of either, while True."""
    look_at_kernel(c, fd)
    if is_set(&c.gone) and ring_readable(c) > 0:
        return False  # nobody would send it through the kernel
    # SYNC POINT leaving: pairs with send_record(), which takes its bell lock and counts first and looks at the flag then.
    kvo_or32(&c.me.flags, KVO_LEAVING)
    kvo_fence_after_rmw()
    if none_under_way(c):
        return True
    kvo_and32(&c.me.flags, ~KVO_LEAVING)
    return False


cdef inline bint none_under_way(conn_t *c) noexcept nogil:
    """No record, nor a bell that would lie behind data. Disarms then, so that no further one comes."""
    cdef uint32_t bits
    cdef int tries = 0
    # Whoever is sending a record holds its bell lock, or has counted it. Most often it is a bell.
    while kvo_acquire32(&c.peer.bell_lock) and not is_set(&c.gone):
        if tries == PATIENCE:
            return False
        nap()
        tries += 1
    if c.stash != NULL or kvo_load32(&c.me.records_taken) != kvo_acquire32(&c.peer.records):
        return False
    if switch_receiving(c):
        return True
    bits = kvo_and32(&c.me.wait, ~<uint32_t>WAKE_UPS) & WAKE_UPS
    kvo_fence_after_rmw()
    # Whoever has taken some of them before is about to ring, under its bell lock, or has counted the bell.
    if kvo_acquire32(&c.peer.bell_lock) == 0 and bells_out(c) <= 0:
        return True
    kvo_or32(&c.me.wait, bits)
    return False


cdef inline bint demote(conn_t *c, int fd, int reason) noexcept nogil:
    """Takes the connection to the kernel socket, from whatever state. True: it is plain now. May take a few milliseconds."""
    cdef bint left = False
    cdef bint locked
    cdef int saved = errno
    cdef int tries = 0
    cdef uint64_t signals
    if withdraw(c, fd, reason):
        return True
    attend(c, fd)
    if state_of(c) == LIVE and not departed(c) and side_lock(c, &c.me.recv_lock) == 0:
        if lead(c):
            # Only one end leaves; should both want to, the other follows: the bytes in its ring are its own to read.
            if can_leave(c, fd) and kvo_cas32(&header_of(c).state, KVO_ATTACHED, KVO_PARTED):
                leave(c, fd)
                left = True
            unlead(c)
        side_unlock(&c.me.recv_lock)
    if left:
        signals = kvo_hold_signals()
        locked = own_lock(&c.lock)
        if state_of(c) == LIVE:
            turn_plain(c, fd, reason)
        if locked:
            private_unlock(&c.lock)
        kvo_release_signals(signals)
        # What is in the ring comes through the kernel once the other end has looked; so much patience for it to do so.
        while (tries < PATIENCE and ring_readable(c) > 0 and not kvo_load32(&c.peer.flags) & KVO_BACK
               and not peer_closed(fd)):
            nap()
            tries += 1
        if not in_vfork_child():
            give_back(c)
        kick(c)
    attend(c, fd)
    kvo_set_errno(saved)
    return state_of(c) == PLAIN


cdef inline void leave(conn_t *c, int fd) noexcept nogil:
    """Both directions, for good. Under the receive and kernel locks."""
    cdef int tries = 0
    # SYNC POINT left: pairs with ring_bell(), which counts first and looks at the flag then
    kvo_or32(&c.me.flags, KVO_LEFT)
    upset(c)
    want(c, KVO_WANT_DATA | KVO_WANT_SPACE)  # who publishes now comes by ring_bell(), and finds the flag
    if switch_receiving(c):
        while not bells_taken(c, fd) and tries < PATIENCE:
            nap()
            tries += 1
    read_from_kernel(c)
    if side_lock(c, &c.me.send_lock):
        return
    if side_lock(c, &c.me.bell_lock) == 0:
        send_bell(c, fd)
        rouse(c.peer)
        send_through_kernel(c, fd)
        side_unlock(&c.me.bell_lock)
    side_unlock(&c.me.send_lock)
    if kvo_load32(&c.me.flags) & KVO_SHUT_RD:
        kvo_next.shutdown(fd, SHUT_RD)
