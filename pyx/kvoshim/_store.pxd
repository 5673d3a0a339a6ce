"""The value store: a Segment is what both sides see, a Writer its owner's side, a Reader everybody else's."""
cimport cython
from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport int32_t, uint32_t, uint64_t

from kvoshim._bell cimport Bell
from kvoshim._table cimport Table
from kvoshim._values cimport kvo_payload
from kvoshim.store_protocol cimport kvob_page, kvos_entry, kvos_header, kvos_record, kvos_slot, kvot_entry, kvot_link


@cython.no_gc  # nobody outside gets one, so none is part of a cycle
@cython.freelist(64)
cdef class Found:
    cdef readonly str key
    cdef readonly str state        # 'set', 'absent', 'removed', 'corrupt'
    cdef readonly object value     # of 'set'; the error if 'corrupt'; otherwise None
    cdef readonly uint64_t revision
    cdef readonly uint64_t count   # writes of the slot up to this one
    cdef readonly uint64_t changed # the count of the last one that changed the value
    cdef readonly uint64_t wall_ns
    cdef readonly uint64_t monotonic_ns
    cdef readonly uint32_t slot
    cdef readonly bint together    # other keys were changed under the same revision
    cdef readonly bint kept        # False: an entry without its value, which was too long
    cdef readonly object reason    # of 'removed': 'deleted', 'purged', 'expired', 'owner-died'


cdef struct brief:               # a value's record, without the value
    uint64_t revision, count, changed, wall, monotonic  # as Found has them; count 0: there is no value


cdef class Segment:
    cdef char *base
    cdef size_t mapped
    cdef uint64_t size           # of the layout: at most `mapped`; loaded once, never read there again
    cdef uint64_t heap_offset
    cdef uint64_t journal_offset
    cdef uint64_t journal_size   # a power of two, or 0
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
    cdef object why              # it was closed, for errors; or None
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
    cdef object fetch(self, uint32_t number, uint64_t binding, kvos_record *record, uint64_t *count, uint64_t limit,
                      bint bare)
    cdef object damage(self, uint32_t number, uint64_t version)
    cdef bint intact(self, const kvos_record *record) noexcept
    cdef object load(self, key, kvos_record *record, uint64_t *count, bint bare)
    cdef object value(self, uint32_t type, const char *data, size_t length, object big)
    cdef int reason(self, const kvos_record *record) noexcept
    cdef Found found(self, key, uint32_t number, kvos_record *record, object big, uint64_t count, bint values)
    cdef object glance(self, uint32_t number, uint64_t binding, brief *told)


cdef class Reader(Segment):
    cdef public bint ended       # the owner is gone: what was to end with it has
    cdef bint learn(self, uint32_t number) except -1
    cpdef key_of(self, uint32_t number)
    cdef Found change(self, kvos_entry *entry, str key, bytes big, bint whole)
    cdef str name_of(self, const char *utf8, uint32_t length)
    cdef uint64_t seen           # the directory count of the last rescan
    cdef uint64_t tail           # entries of the dirty ring that were taken (Monitor)
    cdef dict bound              # slot number -> key
    cdef str recent              # the key of the journal's entry that was read last


cdef class View:
    cdef Segment segment
    cdef kvos_slot *slot
    cdef uint64_t binding
    cdef uint64_t count
    cdef const char *data
    cdef Py_ssize_t length
    cdef object copy             # of a value that lies in its record
    cdef readonly uint64_t revision
    cdef uint32_t type


cdef struct own_slot:            # what only the owner knows of a slot's two records
    uint64_t block[2]            # 0: none
    uint64_t capacity[2]
    uint64_t touched[2]          # bytes of the block that may be other than zero


cdef struct own_link:            # an observing process that this store rings
    uint64_t number              # the controller's, never reused
    kvot_link *entry
    uint64_t *bitmap
    const kvob_page *page        # its Bell's, which `bells` keeps alive
    uint64_t *rung
    int fd


cdef class Owner(Segment):
    cdef PyThread_type_lock lock
    cdef own_slot *own
    cdef Table table
    cdef kvot_entry *entry       # this store's entry in the table; NULL: not attached
    cdef uint64_t *bitmap
    cdef uint64_t *told          # a second bitmap: what the controller has to tell somebody of
    cdef own_link *links
    cdef uint32_t link_count
    cdef dict bells              # the links' number -> Bell
    cdef uint64_t rung           # the epoch for which the controller was rung last
    cdef uint64_t revision       # of the newest change, in force or about to be
    cdef set removed             # slots whose key was removed: the next to be bound to other keys
    cdef list slot_keys          # per slot: its key
    cdef list free_blocks        # per order: set of offsets
    cdef int orders
    cdef object bell
    cdef readonly uint64_t value_max


    cdef void enter(self) noexcept
    cdef void exit(self) noexcept
    cdef int bind(self, key, const char *utf8, Py_ssize_t length) except -2
    cdef kvos_record *prepare(self, uint32_t number, size_t length) except? NULL
    cdef int fill(self, uint32_t number, kvos_record *record, const kvo_payload *payload, uint32_t flags,
                  uint32_t ttl_ms, uint64_t revision, uint64_t monotonic, uint64_t wall) except -1
    cdef int wipe(self, uint32_t number) except -1
    cdef uint32_t same(self, kvos_slot *slot, const kvo_payload *payload) noexcept
    cdef int journal(self, uint32_t number) noexcept
    cdef void forget_oldest(self, uint64_t needed) noexcept
    cdef uint64_t allocate(self, uint64_t length, uint64_t *capacity) except? 0
    cdef int release(self, own_slot *own, int which) except -1
    cdef bint tell(self, uint32_t number, bint created) noexcept nogil
    cdef int slot_for(self, key, const char *utf8, Py_ssize_t length, bint *created) except -2
    cdef object no_room(self, key, Py_ssize_t number, size_t length)
    cdef int check_length(self, key, size_t length) except -1


cdef class Writer(Owner):
    cdef object write(self, key, const kvo_payload *payload)
    cdef object objection(self, dict removals, dict expect)
