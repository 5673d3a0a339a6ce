# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, nonecheck=False
"""What reading a value from a store takes in C: the record in force, copied, checked and seen to be whole.

For the benchmark alone. The store's own protocol is compiled in here, as it is into kvoshim's reader.
"""
from libc.stdint cimport uint64_t
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from kvoshim.store_protocol cimport (
    KVOS_INLINE, in_force, kvos_header, kvos_record, kvos_slot, record_crc, slot_enter, slot_unchanged)

cdef enum:
    BATCH = 256


cdef inline uint64_t now_ns() noexcept nogil:
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return <uint64_t>at.tv_sec * 1000000000 + <uint64_t>at.tv_nsec


cdef inline bint read_once(const kvos_header *header, const kvos_slot *slot, uint64_t *value) noexcept nogil:
    """The first eight bytes of the slot's value; False: not now."""
    cdef kvos_record record
    cdef uint64_t version = slot_enter(slot)
    memcpy(&record, &slot.record[version & 1], sizeof(record))
    if not slot_unchanged(slot, version) or record.revision > in_force(header) or record.length > KVOS_INLINE:
        return False
    if record_crc(&record, record.value) != record.crc:
        return False
    memcpy(value, record.value, sizeof(value[0]))
    return True


def time_batch(const unsigned char[::1] store):
    """Nanoseconds of one read of the first slot's value, the mean of a batch; and the value."""
    cdef const kvos_header *header = <const kvos_header *> &store[0]
    cdef const kvos_slot *slot = <const kvos_slot *> (&store[0] + header.slots_offset)
    cdef uint64_t value = 0, start = now_ns()
    cdef int i, failed = 0
    for i in range(BATCH):
        failed += not read_once(header, slot, &value)
    start = now_ns() - start
    if failed:
        raise RuntimeError(f"{failed} of {BATCH} reads failed")
    return start / <double> BATCH, value
