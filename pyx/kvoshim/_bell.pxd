"""How an observing process is rung without the controller: a bell page that says whether it sleeps, and a socket."""
from libc.stdint cimport uint32_t, uint64_t

from kvoshim.store_protocol cimport kvob_page, sleeps


cdef extern from "<sys/socket.h>" nogil:
    ssize_t send(int fd, const void *data, size_t length, int flags)
    int MSG_DONTWAIT, MSG_NOSIGNAL


cdef class Bell:
    """The ringing side. Its page is the observer's, mapped read-only; nothing there is relied on but for whether a ring is
    needed. The socket is the controller's making, so it cannot block, and what an observer does to it hurts nobody else."""
    cdef kvob_page *page
    cdef size_t size
    cdef uint64_t rung           # the epoch for which it was rung last, by whatever thread
    cdef readonly int fd
    cdef object __weakref__


cdef inline void bell_ring(const kvob_page *page, uint64_t *rung, int fd) noexcept nogil:
    """Wakes an observer if it sleeps and was not woken in this sleep. Called behind a full fence. Never waits: a socket
    without room is one that is readable."""
    cdef char nothing = 0
    if sleeps(&page.epoch, rung):
        send(fd, &nothing, 1, MSG_DONTWAIT | MSG_NOSIGNAL)


cdef class Sleeper:
    """The observer's side: its page, and the socket on which it is rung."""
    cdef kvob_page *page
    cdef size_t size
    cdef unsigned generation     # of forks, at birth
    cdef readonly int fd         # of the page
    cdef readonly int bell       # the socket; -1: none
    cdef uint32_t score, pause, crowd, calm, wasted
    cdef bint slept              # the last wait() has asked the kernel
    cdef bint noisy              # the bell has not been silenced since it was rung last

    cpdef bint silence(self) noexcept
    cdef bint worth(self) noexcept
    cdef void learn(self, bint short) noexcept
    cdef bint spin(self, list stores, int spin_us) except -1
    cpdef bint written(self, list stores) except -1
    cpdef int wait(self, list stores, int link, double timeout, int spin_us) except -1
