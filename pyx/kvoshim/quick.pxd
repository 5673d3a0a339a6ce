# The quick way: one buffer goes into the ring, or comes out of it, in one piece, while nothing is out of the ordinary. Every
# question that the long way (sending.pxd, receiving.pxd) asks is asked here too, but none is answered: whatever is unusual makes
# the function say 0, with nothing done, and the call goes the long way.
#
# Counted in instructions (scripts/instructions). So: no call on the way, which would cost saving registers; copies of the
# commonest lengths are made in place; and what comes after the fact (a bell) is the caller's to call last.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.lock cimport alone, side_lock, side_unlock
from kvoshim.latest cimport LATEST_LEAST, LATEST_MOST, read_little, write_little
from kvoshim.ring cimport least, stamp
from kvoshim.spin cimport answered, hold_off, patience_of, spin_until
from kvoshim.receiving cimport tell_received
from kvoshim.sending cimport LOOK_EVERY, tell_sent

cdef enum:
    LITTLE = 8   # the lengths that are copied in place
    MUCH = 64
    MOST = 16384 # and the longest that goes this way


cdef inline bint unusual(uint32_t flags) noexcept nogil:
    return flags & (KVO_SHUT_WR | KVO_SHUT_RD | KVO_LEFT | KVO_BACK) != 0


cdef inline void copy_16(uint8_t *to, const uint8_t *source) noexcept nogil:
    cdef uint8_t piece[16]
    memcpy(piece, source, 16)
    memcpy(to, piece, 16)


cdef inline void copy_in_place(uint8_t *to, const uint8_t *source, size_t n) noexcept nogil:
    """LITTLE to MUCH bytes, in pieces that overlap."""
    cdef uint64_t first, last
    if n <= 16:
        memcpy(&first, source, 8)
        memcpy(&last, source + n - 8, 8)
        memcpy(to, &first, 8)
        memcpy(to + n - 8, &last, 8)
        return
    copy_16(to, source)
    if n > 32:
        copy_16(to + 16, source + 16)
        copy_16(to + n - 32, source + n - 32)
    copy_16(to + n - 16, source + n - 16)


cdef inline void calm_down(conn_t *c) noexcept nogil:
    """Finds out whether anything is unusual, for as long as nobody says so by upset() (connection.pxd) and the peer's flags stay
    as they are. For the only thread of a process that is the only one to use its end."""
    cdef uint64_t theirs
    if not alone(c):
        return
    upset(c)
    if state_of(c) == LIVE:
        theirs = flags_and_closing(c.peer)
        if is_calm(c, theirs):
            kvo_store64(&c.calm, theirs)
            kvo_light_fence()
            if not is_calm(c, theirs):  # a signal handler has changed it between the look and the note
                upset(c)


cdef inline bint is_calm(conn_t *c, uint64_t theirs) noexcept nogil:
    cdef uint32_t mine = kvo_load32(&c.me.flags)
    return (state_of(c) == LIVE and not is_set(&c.gone) and is_set(&c.recv_ring) and not is_set(&c.recv_back)
            and not unusual(mine | <uint32_t>theirs) and mine & <uint32_t>theirs & KVO_EXPEDITED
            and <uint32_t>(theirs >> 32) == kvo_load32(&c.closing_seen) and not kvo_load32(&kvo_process.cancelling))


cdef inline uint64_t flags_and_closing(side_t *side) noexcept nogil:
    """Two words that lie side by side, by one look. Never 0 for a peer that takes part in expedited fences."""
    return kvo_acquire64(<uint64_t *>&side.flags)


cdef inline bint hold(uint32_t *word) noexcept nogil:
    """A lock that nobody else can want but a signal handler of this thread; which may have upset the connection before. (The only
    thread of a process has its number.)"""
    if kvo_load32(word):
        return False
    kvo_store32(word, <uint32_t>kvo_process.pid)
    kvo_light_fence()
    return True


cdef inline size_t send_in_place(conn_t *c, const void *buffer, size_t n, bint *bell) noexcept nogil:
    """n, from LITTLE to MUCH, and whether tell_sent() has something to do; 0: not this way."""
    cdef side_t *me
    cdef conn_stats_t *stats
    cdef uint64_t tail
    if not kvo_single_threaded() or not c.calm or kvo_nowhere(buffer):
        return 0
    me = c.me
    if not hold(&me.send_lock):
        return 0
    tail = kvo_load64(&me.put)
    if (flags_and_closing(c.peer) != c.calm or tail - kvo_load64(&me.head_cache) > c.size - n
            or (tail & (c.size - 1)) > c.size - n):
        side_unlock(&me.send_lock)
        return 0
    if n <= LATEST_MOST:
        write_little(c.news, c.out + (tail & (c.size - 1)), <const uint8_t *>buffer, n, tail + n)
    else:
        copy_in_place(c.out + (tail & (c.size - 1)), <const uint8_t *>buffer, n)
    stamp(c, tail)
    kvo_sent(c.nonce)
    kvo_store64(&me.put, tail + n)
    kvo_release64(&c.news.tail, tail + n)  # SYNC POINT ring-data: as in ring_write
    side_unlock(&me.send_lock)
    kvo_light_fence()
    kvo_store32(&c.silent_receives, 0)
    kvo_raise_alone32(&c.silent_sends, 1)
    stats = c.stats
    kvo_raise_alone64(&stats.sent, n)
    kvo_raise_alone64(&stats.sends, 1)
    bell[0] = kvo_load32(&c.peer.wait) & (KVO_WANT_DATA | KVO_WANT_FENCE) or kvo_load32(&c.silent_sends) % LOOK_EVERY == 0
    return n


cdef inline size_t receive_in_place(conn_t *c, void *buffer, size_t n, bint *bell) noexcept nogil:
    """Bytes received, n at most: the latest message from beside the tail, or what lies in the ring as far as that is known;
    and whether tell_received() has something to do. 0: not this way."""
    cdef side_t *me
    cdef side_t *peer
    cdef const news_t *theirs
    cdef uint64_t head, tail, known
    cdef bint done = False
    if not kvo_single_threaded() or not c.calm or kvo_nowhere(buffer):
        return 0
    me = c.me
    peer = c.peer
    if not hold(&me.recv_lock):
        return 0
    head = kvo_load64(&me.head)
    known = kvo_load64(&me.tail_cache) - head
    if known - 1 >= c.size:  # nothing is known: tail_cache lies at the head, or behind it
        theirs = their_news(c)
        tail = kvo_acquire64(&theirs.tail)  # SYNC POINT ring-data
        kvo_received(c.nonce)
        known = tail - head
        # One message, whole: no record stands before it, since who sends one does not write beside the tail.
        if known <= n and known - LITTLE <= LATEST_MOST - LITTLE and read_little(theirs, <uint8_t *>buffer, known, tail):
            done = True
        elif known <= c.size and kvo_acquire32(&peer.records) == kvo_load32(&me.records_taken):  # SYNC POINT record
            kvo_store64(&me.tail_cache, tail)  # no records: records_seen is the same
        else:
            side_unlock(&me.recv_lock)
            return 0
    elif kvo_load32(&me.records_seen) != kvo_load32(&me.records_taken):
        side_unlock(&me.recv_lock)
        return 0
    n = known if done else least(n, known)
    if not c.calm or not done and (n - LITTLE > MUCH - LITTLE or (head & (c.size - 1)) > c.size - n):
        side_unlock(&me.recv_lock)
        return 0
    if not done:
        copy_in_place(<uint8_t *>buffer, c.inc + (head & (c.size - 1)), n)
    kvo_release64(&me.head, head + n)  # SYNC POINT ring-space: as in ring_read
    side_unlock(&me.recv_lock)
    kvo_light_fence()
    kvo_store32(&c.silent_sends, 0)
    kvo_raise_alone32(&c.silent_receives, 1)
    kvo_raise_alone64(&c.stats.received, n)
    kvo_raise_alone64(&c.stats.receives, 1)
    bell[0] = (kvo_load32(&peer.wait) & (KVO_WANT_SPACE | KVO_WANT_ROOM | KVO_WANT_FENCE)) != 0
    return n


cdef inline size_t send_quickly(conn_t *c, const void *buffer, size_t n, bint *bell) noexcept nogil:
    """The same with any length, n from 1 to MOST, and with other threads and processes at my end."""
    cdef side_t *me
    cdef side_t *peer
    cdef uint64_t tail, offset, room
    cdef uint32_t mine, theirs
    if state_of(c) != LIVE or kvo_nowhere(buffer):
        return 0
    me = c.me
    peer = c.peer
    if side_lock(c, &me.send_lock):
        return 0
    tail = kvo_load64(&me.put)
    offset = tail & (c.size - 1)
    room = c.size - n
    mine = kvo_acquire32(&me.flags)
    theirs = kvo_acquire32(&peer.flags)
    if (unusual(mine | theirs) or is_set(&c.gone)
            or kvo_load32(&peer.closing) != kvo_load32(&c.closing_seen)
            or n > c.size or offset > room or tail - kvo_load64(&me.head_cache) > room):
        side_unlock(&me.send_lock)
        return 0
    if n - LATEST_LEAST <= LATEST_MOST - LATEST_LEAST:
        write_little(c.news, c.out + offset, <const uint8_t *>buffer, n, tail + n)
    else:
        memcpy(c.out + offset, buffer, n)
    stamp(c, tail)
    kvo_sent(c.nonce)
    kvo_store64(&me.put, tail + n)
    kvo_release64(&c.news.tail, tail + n)  # SYNC POINT ring-data: as in ring_write
    side_unlock(&me.send_lock)
    if mine & theirs & KVO_EXPEDITED:
        kvo_light_fence()
    else:
        kvo_fence()
    bump(&c.silent_sends)
    kvo_store32(&c.silent_receives, 0)
    bell[0] = kvo_load32(&peer.wait) & (KVO_WANT_DATA | KVO_WANT_FENCE) or kvo_load32(&c.silent_sends) % LOOK_EVERY == 0
    count(&c.stats.sent, n)
    count(&c.stats.sends, 1)
    return n


cdef inline size_t receive_quickly(conn_t *c, void *buffer, size_t n, bint *bell) noexcept nogil:
    """The same with any length, and with other threads and processes at my end."""
    cdef side_t *me
    cdef side_t *peer
    cdef uint64_t head, known, offset
    cdef uint32_t records
    cdef bint fresh = False, long_one
    if state_of(c) != LIVE or not is_set(&c.recv_ring) or kvo_nowhere(buffer):
        return 0
    me = c.me
    peer = c.peer
    if side_lock(c, &me.recv_lock):
        return 0
    head = kvo_load64(&me.head)
    known = kvo_load64(&me.tail_cache) - head
    records = kvo_load32(&me.records_seen)
    if known > c.size or known < n:
        known = kvo_acquire64(&their_news(c).tail) - head  # SYNC POINT ring-data
        kvo_received(c.nonce)
        records = kvo_acquire32(&peer.records)  # SYNC POINT record
        if known <= c.size and records == kvo_load32(&me.records_taken):  # none: then records_seen is the same
            kvo_store64(&me.tail_cache, head + known)
        fresh = True
    offset = head & (c.size - 1)
    long_one = n > MOST and known >= MOST  # of which the next piece may come meanwhile
    n = least(n, known)
    if (known > c.size or n > c.size - offset or n == 0 or n > MOST or long_one
            or records != kvo_load32(&me.records_taken) or is_set(&c.recv_back) or kvo_load32(&me.flags) & KVO_LEFT):
        side_unlock(&me.recv_lock)
        return 0
    if not (fresh and n - LATEST_LEAST <= LATEST_MOST - LATEST_LEAST
            and read_little(their_news(c), <uint8_t *>buffer, n, head + n)):
        memcpy(buffer, c.inc + offset, n)
    kvo_release64(&me.head, head + n)  # SYNC POINT ring-space: as in ring_read
    side_unlock(&me.recv_lock)
    if kvo_load32(&me.flags) & kvo_load32(&peer.flags) & KVO_EXPEDITED:
        kvo_light_fence()
    else:
        kvo_fence()
    bell[0] = (kvo_load32(&peer.wait) & (KVO_WANT_SPACE | KVO_WANT_ROOM | KVO_WANT_FENCE)) != 0
    kvo_store32(&c.silent_sends, 0)
    bump(&c.silent_receives)
    count(&c.stats.received, n)
    count(&c.stats.receives, 1)
    return n


cdef inline bint ordinary(int flags) noexcept nogil:
    return flags & ~(MSG_DONTWAIT | MSG_NOSIGNAL) == 0


cdef inline ssize_t send_at_once(conn_t *c, int fd, const void *buffer, size_t n, int flags) noexcept nogil:
    """send_quickly() and what follows on it; 0: not this way."""
    cdef bint bell
    if not ordinary(flags) or n == 0 or n > MOST or kvo_load32(&kvo_process.cancelling):
        return 0
    if not send_quickly(c, buffer, n, &bell):
        return 0
    if bell:
        tell_sent(c, fd)
    return <ssize_t>n


cdef inline bint be_patient(conn_t *c) noexcept nogil:
    """Before a receive that waits: the answer to what I have just sent is not looked for too early. True: it has come."""
    cdef uint64_t head
    if not patience_of(c) or kvo_load32(&c.silent_receives) or state_of(c) != LIVE or kvo_load32(&c.me.flags) & KVO_NONBLOCK:
        return False
    head = kvo_load64(&c.me.head)
    if kvo_load64(&c.me.tail_cache) - head - 1 < c.size:  # something is known
        return True
    hold_off(c)
    if kvo_load64(&their_news(c).tail) == head:
        return False
    answered(c, 0)
    return True


cdef inline bint arrives_soon(conn_t *c) noexcept nogil:
    """A receive that has found the ring empty spins here, where that pays, so that what comes goes the quick way too."""
    cdef uint64_t head
    if not kvo_single_threaded() or not c.calm:
        return False
    head = kvo_load64(&c.me.head)
    if kvo_load64(&their_news(c).tail) != head or kvo_load32(&c.me.flags) & KVO_NONBLOCK:
        return False
    if spin_until(c, &c.receiving, &their_news(c).tail, head):
        return True
    kvo_store32(&c.spun, 1)  # the long way need not do it again
    return False


cdef inline ssize_t receive_at_once(conn_t *c, int fd, void *buffer, size_t n, int flags) noexcept nogil:
    cdef bint bell
    if not ordinary(flags) or kvo_load32(&kvo_process.cancelling):
        return 0
    n = receive_quickly(c, buffer, n, &bell)
    if n and bell:
        tell_received(c, fd)
    return <ssize_t>n
