# Paths whose connections end before their warm-up. Even a mark that leads to nothing costs such a connection a fifth of its time
# (nginx to uWSGI, a connection for each request), so a process that has seen many of them in a row on a path marks only some of
# those that follow, to find out when that changes: one that lives on has all marked again.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from kvoshim.runtime cimport *
from kvoshim.layout cimport *
from kvoshim.connection cimport bump

cdef enum:
    SHORTS = 32  # connections in a row that make a habit
    SAMPLE = 16  # of so many, one is marked all the same


cdef inline uint64_t path_hash(const char *path, size_t length) noexcept nogil:
    """FNV-1a, up to the first zero but one at the beginning (an abstract name's; connections write '@' for it). Never 0."""
    cdef uint64_t h = 0xcbf29ce484222325ULL
    cdef size_t i
    for i in range(length):
        if path[i] == 0 and i:
            break
        h = (h ^ <uint8_t>(path[i] if path[i] else c'@')) * 0x100000001b3ULL
    return h | 1


cdef inline habit_t *habit_of(uint64_t path) noexcept nogil:
    return &kvo_process.habits[path >> 32 & (KVO_HABITS - 1)]


cdef inline bint stays_short(const char *path, size_t length) noexcept nogil:
    """Whether a connection that is about to be made to this path (as in sun_path) will hardly live to see a segment."""
    cdef uint64_t wanted
    cdef habit_t *h
    if kvo_process.warmup == 0:
        return False
    wanted = path_hash(path, length)
    h = habit_of(wanted)
    if kvo_load64(&h.path) != wanted or kvo_load32(&h.shorts) < SHORTS:
        return False
    bump(&h.passed)
    return kvo_load32(&h.passed) % SAMPLE != 0


cdef inline void note_life(const char *path, bint short) noexcept nogil:
    """A marked connection to path (as in conn_t) has ended before it was warm, or has not."""
    cdef uint64_t wanted = path_hash(path, 107)
    cdef habit_t *h = habit_of(wanted)
    if kvo_load64(&h.path) != wanted:
        kvo_store64(&h.path, wanted)
        kvo_store32(&h.shorts, 0)
    if short:
        bump(&h.shorts)
    else:
        kvo_store32(&h.shorts, 0)
