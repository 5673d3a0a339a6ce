# exec and posix_spawn: a successor with the library takes the connections over; for one without it they go back to the kernel.
from libc.stdint cimport int32_t, uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.demote cimport demote
from kvoshim.negotiate cimport refresh
from kvoshim.segment cimport *


cdef inline conn_t *connection_of(int fd) noexcept nogil:
    """The connection of a descriptor that a vfork child may have made: our table does not know of it."""
    cdef uint32_t i
    cdef conn_t *c
    cdef stat_t own
    if fstat(fd, &own):
        return NULL
    for i in range(kvo_acquire32(&kvo_process.slot_high)):
        c = (<conn_t *>kvo_process.slots) + i
        if (state_of(c) == OFFERED or state_of(c) == LIVE) and c.me.inode == own.st_ino:
            return c
    return NULL


cdef inline void part_with(int fd, bint always, bint without_memfd) noexcept nogil:
    """A program that cannot take connections over may inherit fd (if it is not close-on-exec, or always): if fd is a connection,
    that goes back to the kernel socket. without_memfd: only one that no program could take over."""
    cdef int32_t ident = ident_of_fd(fd)
    cdef conn_t *c = NULL
    cdef int descriptor_flags = kvo_next.fcntl(fd, F_GETFD)
    if descriptor_flags < 0 or descriptor_flags & FD_CLOEXEC and not always:
        return
    if in_vfork_child():
        c = connection_of(fd)
    elif ident < 0:
        c = conn_at(ident)
    if c != NULL and (c.memfd < 0 or not without_memfd):
        demote(c, fd, KVO_EXEC)


cdef inline void part_with_all(int last, bint without_memfd) noexcept nogil:
    """As part_with() for all descriptors up to a number (-1: all that may be connections)."""
    cdef int fd
    cdef int saved = errno
    if last < 0:
        last = <int>kvo_load32(&kvo_process.fd_high)
        if last < 64:
            last = 64  # a vfork child's duplicates
    for fd in range(last + 1):
        part_with(fd, False, without_memfd)
    kvo_set_errno(saved)


cdef inline void before_exec(bint inherit) noexcept nogil:
    """A program that is shimmed takes over the segments with the connections (inherit); if it could not be started,
    they are not inherited after all. Its start (inherit) closes those it has no descriptor for. Connections whose memfd was not
    kept go back to the kernel."""
    cdef uint32_t i
    cdef conn_t *c
    if inherit:
        part_with_all(-1, True)
    for i in range(kvo_acquire32(&kvo_process.slot_high)):
        c = (<conn_t *>kvo_process.slots) + i
        if (state_of(c) == OFFERED or state_of(c) == LIVE) and c.memfd >= 0:
            kvo_next.fcntl(c.memfd, F_SETFD, 0 if inherit else FD_CLOEXEC)


cdef inline bint inherit(int memfd, int fd) noexcept nogil:
    """After exec: memfd is the segment of the connection under fd. True: this process has taken it up."""
    cdef stat_t segment, own
    cdef uint64_t size
    cdef header_t *h
    cdef conn_t *c = NULL
    cdef int role
    cdef void *at
    cdef uint32_t i
    if ident_of_fd(fd) < 0:
        return True  # by another descriptor of the same segment
    if fstat(memfd, &segment) or fstat(fd, &own) or not sealed(memfd):
        return False
    size = (<uint64_t>segment.st_size - KVO_HEADER_BYTES) // 2
    if size < KVO_RING_MIN or size > KVO_RING_MAX or size & (size - 1) \
            or segment_bytes(size) != <uint64_t>segment.st_size:
        return False
    for i in range(kvo_acquire32(&kvo_process.slot_high)):
        c = (<conn_t *>kvo_process.slots) + i
        if state_of(c) != FREE and c.me != NULL and c.me.inode == own.st_ino:
            kvo_add32(<uint32_t *>&c.fds, 1)  # another name of a connection that is taken up already
            table_set(fd, ident_of(c))
            return True
    at = mmap(NULL, segment_bytes(size), PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0)
    if at == MAP_FAILED:
        return False
    h = <header_t *>at
    role = 0 if h.side[0].inode == own.st_ino else 1
    if h.magic == KVO_MAGIC and h.version == KVO_VERSION and h.side[role].inode == own.st_ino:
        c = conn_new(fd, OFFERED, role)
    else:
        c = NULL
    if c == NULL:
        munmap(at, segment_bytes(size))
        return False
    name_connection(c, b"(inherited)", 11)
    segment_adopt(c, h, size)
    kvo_store32(&c.shared, 1)
    kvo_cas32(&c.me.kernel_lock, <uint32_t>kvo_tid(), 0)  # what this process held before exec
    kvo_cas32(&c.me.send_lock, <uint32_t>kvo_tid(), 0)
    kvo_cas32(&c.me.recv_lock, <uint32_t>kvo_tid(), 0)
    keep_memfd(c, kvo_next.fcntl(memfd, F_DUPFD_CLOEXEC, kvo_process.internal_from))
    if not kvo_process.expedited:
        kvo_and32(&c.me.flags, ~<uint32_t>KVO_EXPEDITED)  # the program that was here before took part
    refresh(c, fd)
    return True
