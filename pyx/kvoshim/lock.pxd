# Locks in the segment. They serialise the threads and forked processes of one side; the peer never takes them. The word
# holds the holder's thread id, so that a lock whose holder has died can be taken over. Held only across memory copies
# and calls that do not wait, which are made so that no cancellation acts in them (cancel.c).
from libc.stdint cimport int32_t, uint32_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport conn_t


cdef enum:
    NAP_NS = 1000000
    PATIENCE = 8192  # looks at a lock that is held, after which the next ones are a nap apart


cdef inline bint nap() noexcept nogil:
    """A millisecond, for the rare wait that nobody rings for. True: a signal has cut it short."""
    cdef timespec span
    span.tv_sec = 0
    span.tv_nsec = NAP_NS
    return kvo_ppoll_now(NULL, 0, &span, NULL) < 0


cdef inline bint owner_is_gone(conn_t *c, uint32_t owner) noexcept nogil:
    """Can the thread or process that a word of the segment names not be one of my side? It has died, or the peer has
    written there: my side of a connection that was not forked is the threads of this process."""
    cdef int saved = errno
    cdef bint gone
    if kvo_load32(&c.shared):
        gone = owner > 0x7fffffff or kill(<pid_t>owner, 0) != 0 and errno == ESRCH
    else:
        gone = syscall(SYS_tgkill, kvo_process.pid, owner, 0) != 0 and (errno == ESRCH or errno == EINVAL)
    kvo_set_errno(saved)
    return gone


cdef inline int side_lock_slow(conn_t *c, uint32_t *word, uint32_t me) noexcept nogil:
    cdef uint32_t holder, i = 0
    while True:
        holder = kvo_load32(word)
        if holder == 0:
            if kvo_cas32(word, 0, me):
                return 0
        elif holder == me:
            return -EAGAIN  # a signal handler has interrupted this very thread's operation
        i += 1
        if i & 1023 == 0 and holder and owner_is_gone(c, holder):
            if kvo_cas32(word, holder, me):
                return 0
        if i < 64:
            kvo_relax()
        elif i < PATIENCE:
            sched_yield()
        else:
            i = PATIENCE | 1023  # the holder is stopped, or the peer has put it there: no reason to burn a CPU
            nap()


cdef inline bint alone(conn_t *c) noexcept nogil:
    return kvo_single_threaded() and not kvo_load32(&c.shared)


cdef inline int side_lock(conn_t *c, uint32_t *word) noexcept nogil:
    """0, or -EAGAIN when this thread holds it already."""
    cdef uint32_t me = <uint32_t>kvo_tid()
    if alone(c) and kvo_load32(word) == 0:
        kvo_store32(word, me)
        kvo_light_fence()
        return 0
    if kvo_cas32(word, 0, me):
        return 0
    return side_lock_slow(c, word, me)


cdef inline void side_unlock(uint32_t *word) noexcept nogil:
    kvo_release32(word, 0)
