"""A store with its dirty ring, as those who look at it see it: the controller, and observers that are rung directly."""
from libc.stdint cimport uint64_t

from kvoshim._store cimport Reader


cdef class Monitor(Reader):
    cdef uint64_t tail       # entries of the dirty ring that were taken
    cdef uint64_t examined   # entries that called() has looked at
    cdef unsigned char *met  # per slot: met in this look already
