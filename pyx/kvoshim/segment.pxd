# The segment: a sealed memfd with one header page and two rings. Made by the server, checked by the client.
from libc.stdint cimport uint8_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport conn_t, close_quietly

cdef enum:
    SEALS = 7  # F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW: no peer can pull the memory away (SIGBUS)


cdef inline uint64_t segment_bytes(uint64_t ring_bytes) noexcept nogil:
    return KVO_HEADER_BYTES + 2 * ring_bytes


cdef inline bint sealed(int memfd) noexcept nogil:
    cdef int seals = kvo_next.fcntl(memfd, F_GET_SEALS)
    return seals >= 0 and seals & SEALS == SEALS  # -1 for a file that knows no seals


cdef inline void segment_adopt(conn_t *c, header_t *header, uint64_t ring_bytes) noexcept nogil:
    """Points the connection into a mapped segment. Sizes are private from here on, never read from it again."""
    cdef uint8_t *rings = <uint8_t *>header + KVO_HEADER_BYTES
    c.size = ring_bytes
    c.me = &header.side[c.role]
    c.peer = &header.side[1 - c.role]
    c.news = &header.news[c.role]
    c.out = rings + ring_bytes * c.role
    c.inc = rings + ring_bytes * (1 - c.role)
    kvo_store32(&c.closing_seen, kvo_load32(&c.peer.closing))


cdef inline int segment_create(conn_t *c) noexcept nogil:
    """A new segment in state OFFERED. Its memfd, which the caller closes once it is handed over, or -errno."""
    cdef uint64_t size = kvo_process.ring_bytes
    cdef uint64_t total = segment_bytes(size)
    cdef int32_t memfd
    cdef void *at
    cdef header_t *h
    if not kvo_file_may_have(total):
        return -ENOMEM
    memfd = kvo_memfd(b"kvoshim")
    if memfd < 0:
        return -errno
    if ftruncate(memfd, <off_t>total) or kvo_next.fcntl(memfd, F_ADD_SEALS, SEALS):
        close_quietly(&memfd)
        return -ENOMEM
    at = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0)
    if at == MAP_FAILED:
        close_quietly(&memfd)
        return -ENOMEM
    h = <header_t *>at
    h.magic = KVO_MAGIC
    h.version = KVO_VERSION
    h.header_bytes = KVO_HEADER_BYTES
    h.ring_bytes = size
    h.total_bytes = total
    memcpy(h.nonce, c.nonce, KVO_NONCE_BYTES)
    # Both directions start armed: whatever comes first through a ring rings a bell, so that a thread which already
    # sleeps in the kernel (in recv, poll or epoll_wait) wakes and finds out that the connection has switched.
    h.side[0].wait = h.side[1].wait = KVO_WANT_DATA
    kvo_release32(&h.state, KVO_OFFERED)
    segment_adopt(c, h, size)
    return memfd


cdef inline int segment_attach(conn_t *c, int memfd, const offer_t *offer) noexcept nogil:
    """Checks and maps an offered segment. 0 or -errno. The caller closes memfd in any case."""
    cdef stat_t info
    cdef uint64_t size = offer.ring_bytes
    cdef uint64_t total
    cdef void *at
    cdef header_t *h
    if offer.magic != KVO_MAGIC or offer.version != KVO_VERSION or offer.header_bytes != KVO_HEADER_BYTES:
        return -EPROTO
    if size < KVO_RING_MIN or size > KVO_RING_MAX or size & (size - 1):
        return -EPROTO
    total = segment_bytes(size)
    if offer.total_bytes != total or memcmp(offer.nonce, c.nonce, KVO_NONCE_BYTES):
        return -EPROTO
    if not sealed(memfd):
        return -EPROTO
    if fstat(memfd, &info) or <uint64_t>info.st_size != total:
        return -EPROTO
    at = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0)
    if at == MAP_FAILED:
        return -ENOMEM
    h = <header_t *>at
    if h.magic != KVO_MAGIC or h.version != KVO_VERSION or h.ring_bytes != size:
        munmap(at, total)
        return -EPROTO
    segment_adopt(c, h, size)
    return 0
