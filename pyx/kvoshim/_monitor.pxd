"""A store with its dirty ring, as those who look at it see it: the controller, and observers that are rung directly."""
from libc.stdint cimport uint32_t, uint64_t

from kvoshim._store cimport Reader


cdef class Monitor(Reader):
    cdef uint64_t examined     # entries that called() has looked at
    cdef unsigned char *met    # per slot: met in this look already
    # The controller's:
    cdef unsigned char *named  # per slot: its key is observed by name
    cdef unsigned char *stray  # per slot: it was found written, and not announced yet
    cdef uint32_t strays       # how many
    cdef uint64_t *told        # per slot that is observed: its count of writes when its observers were told last
    cdef bint all              # every key is observed
    cdef bint over             # the ring ran over
    cdef uint32_t at           # where the comparison of all slots goes on
    cdef uint32_t left         # slots that are still to be compared
    cdef uint64_t listed       # the directory when discover() began to go through all slots
    cdef uint32_t place_at     # where it goes on
    cdef uint32_t unlisted     # slots that it has still to look at
    cdef uint32_t untold       # of these: of which it tells even if nothing has changed

    cdef uint64_t version(self, uint32_t number) noexcept
    cdef int meet(self, uint32_t number, list found, bint announced) except -1
    cdef void take(self, uint32_t number) noexcept
    cpdef uint32_t slots_used(self) noexcept
    cpdef list drain(self)
    cdef bint only(self, uint32_t number, uint64_t binding) noexcept
