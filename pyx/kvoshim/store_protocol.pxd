"""The lock-free protocols of the value store: how a slot is written and read, how the dirty ring and the bell
work.

A slot has two records and two counters. The owner raises `begin`, fills the record that is not in force,
raises `sequence`, and puts the change in force by raising the store's `revision`. A reader takes the record
that `sequence` names, or the one before if the newer one is not in force yet, copies it and looks at `begin`:
as long as no more than one write was begun since that record's, it was not touched. So a write never waits, a
read repeats only if the owner published once and began again meanwhile, and an owner that dies half-way
leaves the last value readable.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "store_layout.h" nogil:
    enum:
        KVOS_MAGIC, KVOT_MAGIC, KVOB_MAGIC, KVO_LAYOUT, KVO_PAGE, KVOS_KEY_SIZE, KVOS_KEY_MAX, KVOS_INLINE
        KVOS_SLOTS_MAX, KVOS_RING_MAX, KVOS_BLOCK_MIN, KVOS_HEAP_MIN, KVOT_BITMAP
        KVO_UNSET, KVO_BYTES, KVO_ARRAY, KVO_REMOVED
        KVO_DELETED, KVO_PURGED, KVO_EXPIRED, KVO_OWNER_DIED
        KVOT_SOME, KVOT_ALL, KVOT_NEW
        KVO_SAME_SHIFT
    const uint64_t KVOS_HEAP_MAX, KVOS_JOURNAL_MAX
    const uint32_t KVOS_JOURNAL_MIN, KVOS_TOLD, KVO_TYPE, KVO_EPHEMERAL, KVO_TOGETHER, KVO_NOT_KEPT

    ctypedef struct kvos_record:
        uint64_t revision, monotonic_ns, wall_ns, block
        uint32_t length, crc, type, ttl_ms
        uint8_t value[80]

    ctypedef struct kvos_slot:
        uint64_t begin, sequence, binding, born
        kvos_record record[2]

    ctypedef struct kvos_header:
        uint32_t magic
        uint16_t layout, header_size
        uint64_t size
        uint32_t slot_count, slot_size, key_size, ring_count
        uint64_t keys_offset, slots_offset, ring_offset, heap_offset, heap_size
        int32_t owner_pid
        uint32_t name_length
        uint64_t owner_start
        uint8_t instance[16]
        uint8_t name[256]
        uint64_t journal_offset, journal_size
        uint64_t directory, slots_used, closed, ring_head
        uint64_t revision, journal_head, journal_tail, compacted, forgotten

    ctypedef struct kvos_entry:
        uint64_t position, revision, monotonic_ns, wall_ns, count
        uint32_t size, crc, slot, type, length, ttl_ms, key_length

    ctypedef struct kvot_header:
        uint32_t magic
        uint16_t layout, header_size
        uint64_t size
        uint32_t store_count, row_count, entry_size, row_size
        uint64_t entries_offset, bitmaps_offset, rows_offset
        int32_t controller_pid
        uint64_t controller_start
        uint8_t instance[16]
        uint32_t link_count, link_size
        uint64_t told_offset, links_offset, link_bitmaps_offset
        uint64_t epoch
        uint64_t beat, hung_after_ms

    ctypedef struct kvot_entry:
        uint32_t flags, told

    ctypedef struct kvot_link:
        uint32_t flags, store
        int32_t observer_pid
        uint64_t observer_start

    ctypedef struct kvob_page:
        uint32_t magic
        uint16_t layout, header_size
        uint64_t epoch

    ctypedef struct kvot_row:
        uint32_t live
        int32_t observer_pid, observable_pid
        uint32_t store
        uint64_t observer_start, registered_ns
        uint32_t key_length, name_length
        uint8_t key[256]
        uint8_t name[256]


cdef extern from "atomics.h" nogil:
    uint64_t kvo_load64(const uint64_t *)
    uint64_t kvo_acquire64(const uint64_t *)
    void kvo_store64(uint64_t *, uint64_t)
    void kvo_release64(uint64_t *, uint64_t)
    uint32_t kvo_load32(const uint32_t *)
    uint32_t kvo_acquire32(const uint32_t *)
    void kvo_store32(uint32_t *, uint32_t)
    void kvo_release32(uint32_t *, uint32_t)
    void kvo_fence_acquire()
    void kvo_fence_release()
    void kvo_fence()
    void kvo_relax()


cdef extern from "store_crc.h" nogil:
    uint32_t kvo_crc32c(uint32_t crc, const void *data, size_t length)
    uint32_t kvo_copy_crc32c(uint32_t crc, void *to, const void *data, size_t length)
    uint32_t kvo_crc32c_table(uint32_t crc, const void *data, size_t length)


# --- a slot, as its owner writes it ---------------------------------------------

cdef inline kvos_record *slot_open(kvos_slot *slot) noexcept nogil:
    """The record that is not in force, for the owner to fill; readers still on it will notice and repeat."""
    cdef uint64_t version = kvo_load64(&slot.sequence) + 1
    kvo_store64(&slot.begin, version)
    # SYNC POINT: whoever sees a byte written below also sees `begin`; pairs with slot_unchanged().
    kvo_fence_release()
    return &slot.record[version & 1]


cdef inline void slot_publish(kvos_slot *slot) noexcept nogil:
    """Publishes the record that slot_open() gave; commit() puts it in force."""
    # SYNC POINT: the record's bytes become visible; pairs with slot_enter().
    kvo_release64(&slot.sequence, kvo_load64(&slot.sequence) + 1)


cdef inline void commit(kvos_header *header, uint64_t revision) noexcept nogil:
    """Puts in force what was published under `revision`, all of it at once."""
    # SYNC POINT: every record and journal entry up to this revision; pairs with in_force().
    kvo_release64(&header.revision, revision)


cdef inline uint32_t record_head_crc(const kvos_record *record) noexcept nogil:
    cdef uint64_t fields[5]
    fields[0] = record.revision
    fields[1] = record.monotonic_ns
    fields[2] = record.wall_ns
    fields[3] = record.block
    fields[4] = record.length | (<uint64_t> record.type << 32)
    return kvo_crc32c(record.ttl_ms, fields, 40)


cdef inline uint32_t record_crc(const kvos_record *record, const void *value) noexcept nogil:
    return kvo_crc32c(record_head_crc(record), value, record.length)


cdef inline uint32_t record_copy(const kvos_record *record, void *to, const void *value) noexcept nogil:
    """Copies the record's value; returns the checksum of both."""
    return kvo_copy_crc32c(record_head_crc(record), to, value, record.length)


# --- a slot, as anybody reads it ---------------------------------------------

cdef inline uint64_t slot_enter(const kvos_slot *slot) noexcept nogil:
    """The count of writes: the newest one's."""
    # SYNC POINT: the record of this write, and the binding under which it was written; pairs with
    # slot_publish() and with the end of a rebinding.
    return kvo_acquire64(&slot.sequence)


cdef inline uint64_t in_force(const kvos_header *header) noexcept nogil:
    """The store's revision: a record above it is not in force yet."""
    # SYNC POINT: the records and journal entries of this revision; pairs with commit().
    return kvo_acquire64(&header.revision)


cdef inline bint slot_unchanged(const kvos_slot *slot, uint64_t version) noexcept nogil:
    """Whether what was read of the record of write `version` since slot_enter() is whole."""
    # SYNC POINT: if a byte read was written by a later write, its `begin` is seen here; pairs with
    # slot_open().
    kvo_fence_acquire()
    return <int64_t> (kvo_load64(&slot.begin) - version) <= 1


# --- the dirty ring: one producer (the owner), one consumer (the controller) ---------------

cdef inline void ring_append(kvos_header *header, uint32_t *ring, uint32_t count,
                             uint32_t slot) noexcept nogil:
    cdef uint64_t head = kvo_load64(&header.ring_head)
    # SYNC POINT: a consumer that reads this entry in place of an old one also sees the head that tells it so;
    # pairs with ring_head() after the entries were read.
    kvo_fence_release()
    kvo_store32(&ring[head & (count - 1)], slot)
    # SYNC POINT: the entry, and the value that was published before; pairs with ring_head().
    kvo_release64(&header.ring_head, head + 1)


cdef inline uint64_t ring_head(const kvos_header *header) noexcept nogil:
    # SYNC POINT: entries read before this call (is any of them a later lap's?) and those to be read after it;
    # pairs with both sides of ring_append().
    kvo_fence_acquire()
    return kvo_acquire64(&header.ring_head)


# --- who is told ---------------------------------------------

cdef inline bint concerns(uint32_t flags, const uint64_t *bitmap, uint32_t number, bint created) noexcept nogil:
    """Whether flags and bits of the registration table are about this slot. created: it has just come to stand for its
    key."""
    return flags != 0 and (flags & KVOT_ALL or created and flags & KVOT_NEW
                           or kvo_load64(&bitmap[number // 64]) >> (number & 63) & 1)


cdef inline bint sleeps(const uint64_t *epoch, uint64_t *rung) noexcept nogil:
    """Whether a sleeper has to be rung: it sleeps, and has not been rung in this sleep. Called after a full fence behind the
    entry of the dirty ring that it is about."""
    cdef uint64_t now = kvo_load64(epoch)
    if now & 1 == 0 or now == kvo_load64(rung):
        return False
    kvo_store64(rung, now)
    return True


cdef inline void fall_asleep(uint64_t *epoch) noexcept nogil:
    """Says that the caller is about to sleep. It looks at the dirty rings once more, and sleeps if they have nothing."""
    kvo_store64(epoch, (kvo_load64(epoch) + 1) | 1)
    # SYNC POINT: an owner either sees the odd epoch and rings, or its entry is seen by the second look that follows; pairs
    # with the full fence in Owner.tell().
    kvo_fence()


cdef inline void wake_up(uint64_t *epoch) noexcept nogil:
    """Says that the caller is awake and will look at the dirty rings by itself before it sleeps again."""
    kvo_store64(epoch, (kvo_load64(epoch) | 1) + 1)
    kvo_fence()
