# Locks in the segment. They serialise the threads and forked processes of one side; the peer never takes them. The word
# holds the holder's thread id, so that a lock whose holder has died can be taken over. Held only across memory copies
# and non-blocking calls.
from libc.stdint cimport int32_t, uint32_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport conn_t


cdef inline bint thread_is_dead(uint32_t tid) noexcept nogil:
    cdef int saved = errno
    cdef bint dead = kill(<pid_t>tid, 0) != 0 and errno == ESRCH
    kvo_set_errno(saved)
    return dead


cdef inline int side_lock_slow(uint32_t *word, uint32_t me) noexcept nogil:
    cdef uint32_t holder, i = 0
    while True:
        holder = kvo_load32(word)
        if holder == 0:
            if kvo_cas32(word, 0, me):
                return 0
        elif holder == me:
            return -EAGAIN  # a signal handler has interrupted this very thread's operation
        i += 1
        if i & 1023 == 0 and holder and thread_is_dead(holder):
            if kvo_cas32(word, holder, me):
                return 0
        if i < 64:
            kvo_relax()
        else:
            sched_yield()


cdef inline bint alone(conn_t *c) noexcept nogil:
    return kvo_single_threaded() and not c.shared


cdef inline int side_lock(conn_t *c, uint32_t *word) noexcept nogil:
    """0, or -EAGAIN when this thread holds it already."""
    cdef uint32_t me = <uint32_t>kvo_tid()
    if alone(c) and kvo_load32(word) == 0:
        kvo_store32(word, me)
        kvo_light_fence()
        return 0
    if kvo_cas32(word, 0, me):
        return 0
    return side_lock_slow(word, me)


cdef inline void side_unlock(uint32_t *word) noexcept nogil:
    kvo_release32(word, 0)
