"""The value store: a Segment is what both sides see, a Writer its owner's side, a Reader everybody else's."""
from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport int32_t, uint32_t, uint64_t

from kvoshim._table cimport Table
from kvoshim._values cimport kvo_payload
from kvoshim.store_protocol cimport kvos_header, kvos_record, kvos_slot, kvot_entry


cdef class Segment:
    cdef char *base
    cdef size_t mapped
    cdef uint64_t size           # of the layout: at most `mapped`; loaded once, never read there again
    cdef uint64_t heap_offset
    cdef uint32_t slot_count
    cdef uint32_t ring_count
    cdef kvos_header *header
    cdef char *keys_base
    cdef kvos_slot *slots
    cdef uint32_t *ring
    cdef uint64_t *bindings      # per slot: the binding under which `index` knows its key
    cdef dict index              # key -> slot number
    cdef unsigned generation     # of forks, at birth
    cdef int users               # threads inside that may let go of the GIL: the mapping stays so long
    cdef bint closing
    cdef readonly int fd
    cdef readonly bytes instance
    cdef readonly str name
    cdef readonly int owner_pid
    cdef readonly uint64_t owner_start

    cdef int usable(self) except -1
    cdef int place(self) except -1
    cdef void unmap(self) noexcept
    cdef void leave(self) noexcept
    cdef bint rescan(self) except -1
    cdef Py_ssize_t find(self, key) except -2
    cdef object fetch(self, uint32_t number, uint64_t binding, kvos_record *record)
    cdef object load(self, key, kvos_record *record)
    cdef object value(self, kvos_record *record, object big)


cdef class Reader(Segment):
    cdef uint64_t seen           # the directory count of the last rescan
    cdef dict bound              # slot number -> key


cdef struct own_slot:            # what only the owner knows of a slot's two records
    uint64_t block[2]            # 0: none
    uint64_t capacity[2]
    uint64_t touched[2]          # bytes of the block that may be other than zero


cdef class Writer(Segment):
    cdef PyThread_type_lock lock
    cdef own_slot *own
    cdef Table table
    cdef kvot_entry *entry       # this store's entry in the table; NULL: not attached
    cdef uint64_t *bitmap
    cdef uint64_t rung           # the epoch for which the bell was rung last
    cdef uint64_t floor          # new bindings begin above this version
    cdef set removed             # slots whose key was removed: the next to be bound to other keys
    cdef list slot_keys          # per slot: its key
    cdef list free_blocks        # per order: set of offsets
    cdef int orders
    cdef object bell
    cdef readonly uint64_t value_max

    cdef void enter(self) noexcept
    cdef void exit(self) noexcept
    cdef int bind(self, key, const char *utf8, Py_ssize_t length) except -2
    cdef uint64_t put(self, uint32_t number, const kvo_payload *payload, uint64_t version, uint64_t monotonic,
                      uint64_t wall) except? 0
    cdef uint64_t allocate(self, uint64_t length, uint64_t *capacity) except? 0
    cdef int release(self, own_slot *own, int which) except -1
    cdef bint tell(self, uint32_t number, bint created) noexcept nogil
    cdef object write(self, key, const kvo_payload *payload)
