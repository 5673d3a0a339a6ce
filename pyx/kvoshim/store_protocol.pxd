"""The lock-free protocols of the value store: how a slot is written and read, how the dirty ring and the bell
work.

A slot has two records and two counters. The owner raises `begin`, fills the record that is not in force, and
raises `sequence`. A reader takes the record that `sequence` names, copies it and looks at `begin`: as long as
no more than one write was begun since, that record was not touched. So a write never waits, a read repeats
only if the owner published once and began again meanwhile, and an owner that dies half-way leaves the last
published value readable.
"""
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "store_layout.h" nogil:
    enum:
        KVOS_MAGIC, KVOT_MAGIC, KVO_LAYOUT, KVO_PAGE, KVOS_KEY_SIZE, KVOS_KEY_MAX, KVOS_INLINE
        KVOS_SLOTS_MAX, KVOS_RING_MAX, KVOS_BLOCK_MIN, KVOS_HEAP_MIN, KVOT_BITMAP
        KVO_UNSET, KVO_REMOVED
        KVOT_SOME, KVOT_ALL, KVOT_NEW
    const uint64_t KVOS_HEAP_MAX

    ctypedef struct kvos_record:
        uint64_t version, monotonic_ns, wall_ns, block
        uint32_t length, crc, type, reserved
        uint8_t value[80]

    ctypedef struct kvos_slot:
        uint64_t begin, sequence, binding
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
        uint64_t directory, slots_used, closed, ring_head

    ctypedef struct kvot_header:
        uint32_t magic
        uint16_t layout, header_size
        uint64_t size
        uint32_t store_count, row_count, entry_size, row_size
        uint64_t entries_offset, bitmaps_offset, rows_offset
        int32_t controller_pid
        uint64_t controller_start
        uint8_t instance[16]
        uint64_t epoch

    ctypedef struct kvot_entry:
        uint32_t flags

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
    uint32_t kvo_crc32c_table(uint32_t crc, const void *data, size_t length)


# --- a slot, as its owner writes it ---------------------------------------------

cdef inline kvos_record *slot_open(kvos_slot *slot) noexcept nogil:
    """The record that is not in force, for the owner to fill; readers still on it will notice and repeat."""
    cdef uint64_t version = kvo_load64(&slot.sequence) + 1
    kvo_store64(&slot.begin, version)
    # SYNC POINT: whoever sees a byte written below also sees `begin`; pairs with slot_unchanged().
    kvo_fence_release()
    return &slot.record[version & 1]


cdef inline void slot_publish(kvos_slot *slot, uint64_t version) noexcept nogil:
    """Puts the record that slot_open() gave into force. `version` has the parity of the old one plus 1."""
    # SYNC POINT: the record's bytes become visible; pairs with slot_enter().
    kvo_release64(&slot.sequence, version)


cdef inline uint32_t record_crc(const kvos_record *record, const void *value) noexcept nogil:
    cdef uint64_t fields[5]
    fields[0] = record.version
    fields[1] = record.monotonic_ns
    fields[2] = record.wall_ns
    fields[3] = record.block
    fields[4] = record.length | (<uint64_t> record.type << 32)
    return kvo_crc32c(kvo_crc32c(0, fields, 40), value, record.length)


# --- a slot, as anybody reads it ---------------------------------------------

cdef inline uint64_t slot_enter(const kvos_slot *slot) noexcept nogil:
    """The version in force."""
    # SYNC POINT: the record of this version, and the binding under which it was written; pairs with
    # slot_publish() and with the end of a rebinding.
    return kvo_acquire64(&slot.sequence)


cdef inline bint slot_unchanged(const kvos_slot *slot, uint64_t version) noexcept nogil:
    """Whether what was read of `version`'s record since slot_enter() is whole."""
    # SYNC POINT: if a byte read was written by a later write, its `begin` is seen here; pairs with
    # slot_open().
    kvo_fence_acquire()
    # Signed: `begin` lags behind where a write published a version more than 1 ahead.
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
