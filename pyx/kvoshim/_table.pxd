"""The registration table: written by the controller, read by everybody else without a system call."""
from libc.stdint cimport uint32_t, uint64_t

from kvoshim.store_protocol cimport kvot_entry, kvot_header, kvot_link, kvot_row


cdef class Table:
    cdef char *base
    cdef size_t size
    cdef kvot_header *header
    cdef kvot_entry *entries     # store_count of them
    cdef uint64_t *bitmaps       # KVOT_BITMAP bytes a store
    cdef uint64_t *told          # as many
    cdef kvot_row *row_array     # row_count of them
    cdef kvot_link *links        # link_count of them
    cdef uint64_t *link_bitmaps  # KVOT_BITMAP bytes a link
    cdef uint32_t store_count
    cdef uint32_t row_count
    cdef uint32_t link_count
    cdef unsigned generation     # of forks, at birth
    cdef readonly int fd         # -1: none (a table that was opened)
    cdef readonly bytes instance
    cdef int place(self) except -1


cdef class TableWriter(Table):
    cdef list free_rows
    cdef uint32_t rows_used
    cdef int set_bit(self, uint64_t *bitmaps, uint32_t number, uint32_t count, uint32_t slot, bint on) except -1
    cdef void wipe_bits(self, uint64_t *bitmaps, uint32_t number) noexcept
