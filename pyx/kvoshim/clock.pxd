# Time left of a poll's timeout; times by which connections are put in order.
from libc.stdint cimport int32_t, uint32_t
from kvoshim.layout cimport *
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


cdef inline uint32_t stamp_now() noexcept nogil:
    """A time in sixteenths of the counter, for comparisons within seconds."""
    return <uint32_t>(kvo_ticks() >> 4)


cdef inline void early_use() noexcept nogil:
    """A connection has been used before its switch: its bytes, or the bell that tells of the switch, come through the kernel."""
    kvo_store32(&kvo_process.early, stamp_now() | 1)


cdef inline bint early_lately() noexcept nogil:
    """In the last ten milliseconds."""
    cdef uint32_t at = kvo_load32(&kvo_process.early)
    if at == 0:
        return False
    if <int32_t>(stamp_now() - at) > <int32_t>(kvo_process.ticks_per_us * 10000 // 16):
        kvo_store32(&kvo_process.early, 0)
        return False
    return True
