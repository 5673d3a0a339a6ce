# Names of layout.h and atomics.h for Cython; offsets and sizes are fixed and checked there.
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

cdef extern from "layout.h" nogil:
    const uint64_t KVO_MAGIC
    const uint32_t KVO_VERSION
    const int KVO_HEADER_BYTES, KVO_NONCE_BYTES
    const uint32_t KVO_RECORDS, KVO_SLOTS, KVO_STAMPS
    const uint64_t KVO_RING_MIN, KVO_RING_MAX
    const uint32_t KVO_OFFERED, KVO_ATTACHED, KVO_WITHDRAWN, KVO_PARTED
    const uint32_t KVO_CUT, KVO_SHUT_WR, KVO_SHUT_RD, KVO_NONBLOCK, KVO_EXPEDITED, KVO_LEFT, KVO_BACK, KVO_CLOSED, KVO_LEAVING
    const uint32_t KVO_WANT_DATA, KVO_WANT_SPACE, KVO_WANT_ROOM, KVO_WANT_FENCE, KVO_WANT_TURN

    ctypedef struct news_t "struct kvo_news":
        uint64_t tail, latest_is
        uint64_t latest[2]

    ctypedef struct side_t "struct kvo_side":
        uint64_t cut, head, kernel_read, head_cache, kernel_sent, inode, tail_cache, resent, put
        uint32_t flags, closing, cpu, wait, rung, drained
        uint32_t send_lock, bell_lock, recv_lock, kernel_lock, reset_seen, records, records_taken, records_seen
        uint64_t promised
        uint64_t stamps[4]
        uint64_t record_at[16]
        uint32_t record_bytes[16]
        uint32_t slot_owner[8], slot_floor[8]

    ctypedef struct header_t "struct kvo_header":
        uint64_t magic, ring_bytes, total_bytes
        uint32_t version, header_bytes, state
        uint8_t nonce[16]
        news_t news[2]
        side_t side[2]

    ctypedef struct offer_t "struct kvo_offer":
        uint64_t magic, ring_bytes, total_bytes
        uint32_t version, header_bytes
        uint8_t nonce[16]

cdef extern from "atomics.h" nogil:
    uint32_t kvo_load32(const uint32_t *p)
    uint64_t kvo_load64(const uint64_t *p)
    uint32_t kvo_acquire32(const uint32_t *p)
    uint64_t kvo_acquire64(const uint64_t *p)
    void kvo_raise_alone32(uint32_t *p, uint32_t n)
    void kvo_raise_alone64(uint64_t *p, uint64_t n)
    void *kvo_load_pointer(const void *p)
    void kvo_store_pointer(void *p, void *v)
    void kvo_store32(uint32_t *p, uint32_t v)
    void kvo_store64(uint64_t *p, uint64_t v)
    void kvo_release32(uint32_t *p, uint32_t v)
    void kvo_release64(uint64_t *p, uint64_t v)
    uint32_t kvo_exchange32(uint32_t *p, uint32_t v)
    void *kvo_exchange_pointer(void **p, void *v)
    bint kvo_cas_pointer(void **p, void *expected, void *v)
    uint32_t kvo_or32(uint32_t *p, uint32_t v)
    uint32_t kvo_and32(uint32_t *p, uint32_t v)
    uint32_t kvo_add32(uint32_t *p, uint32_t v)
    uint64_t kvo_add64(uint64_t *p, uint64_t v)
    int kvo_cas32(uint32_t *p, uint32_t expected, uint32_t v)
    void kvo_raise32(uint32_t *p, uint32_t least)
    void kvo_sent(const void *nonce)
    void kvo_received(const void *nonce)
    void kvo_fence()
    void kvo_fence_before_stores()
    void kvo_fence_after_loads()
    void kvo_fence_after_rmw()
    void kvo_light_fence()
    void kvo_relax()
    uint64_t kvo_ticks()
