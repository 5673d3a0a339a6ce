# The byte rings. Positions are free-running 64-bit byte counts; the offset is position & (size - 1). The reader's head and
# the writer's tail are read once, checked against the ring's size, and only then used: a peer that writes nonsense there
# gets -EPROTO on its own connection and can't make us leave the ring.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.clock cimport stamp_now
from kvoshim.connection cimport bump, conn_t, their_news

cdef enum:
    PIECE = 16384  # bytes published at a time, so that the reader copies while the writer still writes


cdef inline size_t least(size_t a, size_t b) noexcept nogil:
    return a if a < b else b


cdef inline size_t total_of(const msghdr *m) noexcept nogil:
    cdef size_t i, n = 0
    for i in range(m.msg_iovlen):
        n += m.msg_iov[i].iov_len
    return n


cdef inline bint anything_outside(const msghdr *m) noexcept nogil:
    """A part lies where the kernel refuses it at once, before it waits."""
    cdef size_t i
    for i in range(m.msg_iovlen):
        if kvo_outside(m.msg_iov[i].iov_base):
            return True
    return False


cdef inline bint anything_nowhere(const msghdr *m) noexcept nogil:
    cdef size_t i
    for i in range(m.msg_iovlen):
        if m.msg_iov[i].iov_len and kvo_nowhere(m.msg_iov[i].iov_base):
            return True
    return False


cdef inline void copy_in(conn_t *c, uint64_t at, const uint8_t *source, size_t n) noexcept nogil:
    cdef size_t offset = at & (c.size - 1)
    cdef size_t first = least(n, c.size - offset)
    memcpy(c.out + offset, source, first)
    if first != n:
        memcpy(c.out, source + first, n - first)


cdef inline void copy_out(conn_t *c, uint64_t at, uint8_t *to, size_t n) noexcept nogil:
    cdef size_t offset = at & (c.size - 1)
    cdef size_t first = least(n, c.size - offset)
    memcpy(to, c.inc + offset, first)
    if first != n:
        memcpy(to + first, c.inc, n - first)


cdef inline ssize_t ring_used(conn_t *c, uint64_t tail, uint64_t head) noexcept nogil:
    cdef uint64_t used = tail - head
    if used > c.size:
        return -EPROTO
    return <ssize_t>used


cdef inline ssize_t ring_readable(conn_t *c) noexcept nogil:
    """Bytes waiting, or -EPROTO."""
    # SYNC POINT ring-data: pairs with the release of tail in ring_write.
    return ring_used(c, kvo_acquire64(&their_news(c).tail), kvo_load64(&c.me.head))


cdef inline ssize_t ring_promised(conn_t *c) noexcept nogil:
    """Bytes of a long message that wait or are being written at this moment (at least one piece waits); else those that wait.
    Or -EPROTO."""
    cdef ssize_t n = ring_readable(c)
    cdef uint64_t promised
    if n >= PIECE:
        promised = kvo_load64(&c.peer.promised) - kvo_load64(&c.me.head)
        if promised <= c.size and promised > <uint64_t>n:
            return <ssize_t>promised
    return n


cdef inline ssize_t ring_space(conn_t *c) noexcept nogil:
    """Free bytes, or -EPROTO."""
    # SYNC POINT ring-space: pairs with the release of head in ring_read.
    cdef ssize_t used = ring_used(c, kvo_load64(&c.news.tail), kvo_acquire64(&c.peer.head))
    return used if used < 0 else <ssize_t>c.size - used


cdef inline void stamp(conn_t *c, uint64_t tail) noexcept nogil:
    """When the message that begins at tail was written. Who has one connection only has no order to keep."""
    if kvo_load32(&kvo_process.live) > 1:
        kvo_store64(&c.me.stamps[kvo_load32(&c.stamped) % KVO_STAMPS], tail << 32 | stamp_now() | 1)
        bump(&c.stamped)


cdef inline ssize_t ring_write(conn_t *c, const iovec *iov, size_t skip, size_t want) noexcept nogil:
    """Copies up to want bytes, at most one piece, from an iovec array, starting skip bytes into it; publishes them.
    Under my send lock. Bytes written (0: full), -EPROTO or -EFAULT."""
    cdef uint64_t tail = kvo_load64(&c.me.put)
    cdef ssize_t used = ring_used(c, tail, kvo_load64(&c.me.head_cache))
    cdef size_t n, done = 0, part
    cdef uint64_t head
    if used < 0 or c.size - <size_t>used < want:
        head = kvo_acquire64(&c.peer.head)  # SYNC POINT ring-space
        used = ring_used(c, tail, head)
        if used < 0:
            return used
        kvo_store64(&c.me.head_cache, head)
    n = least(least(want, c.size - <size_t>used), PIECE)
    if n < want:
        kvo_store64(&c.me.promised, tail + least(want, c.size - <size_t>used))
    while done < n:
        while skip >= iov.iov_len:
            skip -= iov.iov_len
            iov += 1
        if kvo_nowhere(iov.iov_base):
            return -EFAULT
        part = least(n - done, iov.iov_len - skip)
        copy_in(c, tail + done, <const uint8_t *>iov.iov_base + skip, part)
        done += part
        skip += part
    stamp(c, tail)
    kvo_sent(c.nonce)
    kvo_store64(&c.me.put, tail + n)  # before the tail: who dies between has sent the message, with the next one
    kvo_release64(&c.news.tail, tail + n)  # SYNC POINT ring-data: the bytes before the new tail become visible
    return <ssize_t>n


cdef inline ssize_t ring_look(conn_t *c, size_t want) noexcept nogil:
    """Bytes known to wait; asks for the peer's tail only if fewer than want are known. Under my receive lock."""
    cdef uint64_t head = kvo_load64(&c.me.head)
    cdef ssize_t used = ring_used(c, kvo_load64(&c.me.tail_cache), head)
    cdef uint64_t tail
    if used < 0 or <size_t>used < want:
        tail = kvo_acquire64(&their_news(c).tail)  # SYNC POINT ring-data
        kvo_received(c.nonce)
        used = ring_used(c, tail, head)
        if used >= 0:
            kvo_store64(&c.me.tail_cache, tail)
            kvo_store32(&c.me.records_seen, kvo_acquire32(&c.peer.records))  # SYNC POINT record
    return used


cdef inline ssize_t ring_read(conn_t *c, const iovec *iov, size_t skip, size_t n, bint peek) noexcept nogil:
    """Copies n bytes, known to wait, out to an iovec array from skip bytes on. Under my receive lock. n or -EFAULT."""
    cdef uint64_t head = kvo_load64(&c.me.head)
    cdef size_t done = 0, part
    while done < n:
        while skip >= iov.iov_len:
            skip -= iov.iov_len
            iov += 1
        if kvo_nowhere(iov.iov_base):
            return -EFAULT
        part = least(n - done, iov.iov_len - skip)
        copy_out(c, head + done, <uint8_t *>iov.iov_base + skip, part)
        done += part
        skip += part
    if not peek and n:
        kvo_release64(&c.me.head, head + n)  # SYNC POINT ring-space: the bytes before the new head may be overwritten
    return <ssize_t>n
