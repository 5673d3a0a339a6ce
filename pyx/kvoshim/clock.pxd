# Time left of a poll's timeout.
from kvoshim.runtime cimport *


cdef inline void deadline_after(timespec *deadline, const timespec *timeout) noexcept nogil:
    clock_gettime(CLOCK_MONOTONIC, deadline)
    deadline.tv_sec += timeout.tv_sec
    deadline.tv_nsec += timeout.tv_nsec
    if deadline.tv_nsec >= 1000000000:
        deadline.tv_nsec -= 1000000000
        deadline.tv_sec += 1


cdef inline void time_left(const timespec *deadline, timespec *left) noexcept nogil:
    """Never negative."""
    clock_gettime(CLOCK_MONOTONIC, left)
    left.tv_sec = deadline.tv_sec - left.tv_sec
    left.tv_nsec = deadline.tv_nsec - left.tv_nsec
    if left.tv_nsec < 0:
        left.tv_nsec += 1000000000
        left.tv_sec -= 1
    if left.tv_sec < 0:
        left.tv_sec = left.tv_nsec = 0
