# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, nonecheck=False
"""What every call on a connection of ours pays before it does anything: the table look-up and a lock that is free.

For the benchmark alone. The core's own .pxd files are compiled in here, as they are into the preload library.
"""
from libc.stdint cimport int32_t, uint32_t, uint64_t
from kvoshim.layout cimport kvo_light_fence, kvo_load32
from kvoshim.runtime cimport CLOCK_MONOTONIC, clock_gettime, kvo_start, timespec
from kvoshim.connection cimport LIVE, close_quietly, conn_at, conn_new, conn_t, ident_of_fd
from kvoshim.lock cimport alone, side_lock, side_unlock
from kvoshim.segment cimport segment_create

cdef enum:
    BATCH = 256

# Read anew by each pass, as a program's descriptor is.
cdef uint32_t watched = 0


cdef inline uint64_t now_ns() noexcept nogil:
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return <uint64_t>at.tv_sec * 1000000000 + <uint64_t>at.tv_nsec


cdef uint32_t locked_batch() noexcept nogil:
    """Returns how many passes did not get the lock."""
    cdef uint32_t i, failed = 0
    cdef conn_t *c
    for i in range(BATCH):
        c = conn_at(ident_of_fd(<int>kvo_load32(&watched)))
        failed += side_lock(c, &c.me.send_lock) != 0
        side_unlock(&c.me.send_lock)
    return failed


cdef uint32_t empty_batch() noexcept nogil:
    cdef uint32_t i, failed = 0
    for i in range(BATCH):
        failed += kvo_load32(&watched) == 0
        kvo_light_fence()
    return failed


def open_connection(int fd):
    """Makes a descriptor a live connection with a segment. True if it needs no lock: one thread, one process."""
    cdef conn_t *c
    cdef int32_t memfd
    global watched
    if kvo_start(b"*") or (c := conn_new(fd, LIVE, 0)) is NULL:
        raise OSError("the core does not start")
    memfd = segment_create(c)
    if memfd < 0:
        raise OSError(-memfd, "no segment")
    close_quietly(&memfd)
    watched = <uint32_t>fd
    return bool(alone(c))


def time_batch():
    """Nanoseconds of one pass with look-up, lock and unlock, and of an empty one, each the mean of a batch."""
    cdef uint64_t start, between, end
    cdef uint32_t failed
    start = now_ns()
    failed = locked_batch()
    between = now_ns()
    failed += empty_batch()
    end = now_ns()
    if failed:
        raise RuntimeError(f"{failed} of {BATCH} passes failed")
    return (between - start) / <double>BATCH, (end - between) / <double>BATCH


def pass_batches(bint locked, int batches):
    """So many batches with look-up and lock, or empty ones, for who counts their instructions."""
    cdef int i
    cdef uint32_t failed = 0
    for i in range(batches):
        failed += locked_batch() if locked else empty_batch()
    if failed:
        raise RuntimeError(f"{failed} passes failed")
