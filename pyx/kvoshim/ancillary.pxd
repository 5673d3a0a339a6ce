# Descriptors in the stream (SCM_RIGHTS). They travel on the kernel socket: a record is one byte there, with the control
# data of the program's sendmsg() attached, and counts as a doorbell. Where it belongs in the byte stream stands in the
# segment (record_at, record_bytes), published before the tail that covers it; so a receive takes a record with the first
# byte it goes with, and ends with that message, as on a kernel socket.
#
# Whoever reads bells off the kernel socket may come upon a record early: its descriptors wait in the stash.
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport malloc, free
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport conn_t, stash_t, table_set
from kvoshim.lock cimport side_lock, side_unlock

cdef enum:
    CONTROL_BYTES = 1152  # room for 253 descriptors (the kernel's most) and credentials


cdef inline uint32_t bit_of(uint32_t number) noexcept nogil:
    return <uint32_t>1 << (number & 31)


cdef inline bint record_waits(conn_t *c) noexcept nogil:
    """The oldest record that is not delivered yet has been taken off the kernel socket."""
    return kvo_acquire32(&c.records_off) != kvo_load32(&c.records_given)  # SYNC POINT taken off


cdef inline void stash(conn_t *c, msghdr *m) noexcept nogil:
    """Keeps the descriptors of a message just received; m has no control data afterwards. Those for which there is no memory,
    or no number, are lost, as they are where the kernel delivers them: MSG_CTRUNC says so at their place in the stream."""
    cdef cmsghdr *part = CMSG_FIRSTHDR(m)
    cdef stash_t *s
    cdef stash_t **end = &c.stash
    cdef int i, count
    cdef bint lost = (m.msg_flags & MSG_CTRUNC) != 0, record = lost
    while part != NULL:
        if part.cmsg_level == SOL_SOCKET and part.cmsg_type == SCM_RIGHTS:
            record = True
            count = <int>((part.cmsg_len - CMSG_LEN(0)) / sizeof(int))
            s = <stash_t *>malloc(sizeof(stash_t))
            lost = s == NULL
            if s != NULL:
                s.next = NULL
                s.cut_off = (m.msg_flags & MSG_CTRUNC) != 0
                s.count = count
                memcpy(s.fds, CMSG_DATA(part), <size_t>count * sizeof(int))
                while end[0] != NULL:
                    end = &end[0].next
                kvo_store_pointer(end, s)
            for i in range(count):
                if s == NULL:
                    kvo_close_now((<int *>CMSG_DATA(part))[i])
                else:
                    table_set(s.fds[i], KVO_INTERNAL)
        part = CMSG_NXTHDR(m, part)
    m.msg_controllen = 0
    if lost:
        kvo_or32(&c.records_lost, bit_of(c.records_off))
    if record:
        kvo_release32(&c.records_off, c.records_off + 1)  # SYNC POINT taken off: the descriptors come with the count


cdef inline ssize_t take_bytes(conn_t *c, int fd, char *scratch, size_t most, int flags) noexcept nogil:
    """Reads bells and records off the kernel socket, under the kernel lock, and counts them. Bytes or -errno."""
    cdef msghdr m
    cdef iovec v
    cdef char control[CONTROL_BYTES]
    cdef ssize_t n
    memset(&m, 0, sizeof(m))
    v.iov_base = scratch
    v.iov_len = most
    m.msg_iov = &v
    m.msg_iovlen = 1
    m.msg_control = control
    m.msg_controllen = sizeof(control)
    n = kvo_recvmsg_now(fd, &m, flags | MSG_CMSG_CLOEXEC)  # without MSG_DONTWAIT: the one thread of a process sleeps here
    if n < 0:
        return -errno
    if m.msg_controllen or m.msg_flags & MSG_CTRUNC:
        stash(c, &m)
    kvo_add32(&c.me.drained, <uint32_t>n)
    return n


cdef inline bint has_rights(const msghdr *m) noexcept nogil:
    cdef cmsghdr *part = CMSG_FIRSTHDR(<msghdr *>m)
    while part != NULL:
        if part.cmsg_level == SOL_SOCKET and part.cmsg_type == SCM_RIGHTS:
            return True
        part = CMSG_NXTHDR(<msghdr *>m, part)
    return False


cdef inline ssize_t send_record(conn_t *c, int fd, const msghdr *m, size_t total) noexcept nogil:
    """Sends the control data of m ahead of its bytes. Under my send lock, with room in the ring. 0 or -errno; -EAGAIN:
    too many records are under way, or the peer may be leaving; -EINPROGRESS: it has left."""
    cdef msghdr one
    cdef iovec v
    cdef char byte = 1
    cdef bint locked
    cdef int result = 0
    cdef uint32_t flags, number = kvo_load32(&c.me.records)
    if not has_rights(m):
        return 0  # credentials alone: the kernel has those of the peer
    if number - kvo_acquire32(&c.peer.records_taken) >= KVO_RECORDS:
        return -EAGAIN
    memset(&one, 0, sizeof(one))
    v.iov_base = &byte
    v.iov_len = 1
    one.msg_iov = &v
    one.msg_iovlen = 1
    one.msg_control = m.msg_control
    one.msg_controllen = m.msg_controllen
    # Under the bell lock, so that an end that is about to leave knows of a record on its way (can_leave); unless this is a signal
    # handler of the thread that holds it: then it keeps the end from leaving.
    locked = side_lock(c, &c.me.bell_lock) == 0
    kvo_add32(&c.peer.rung, 1)
    kvo_fence_after_rmw()
    flags = kvo_acquire32(&c.peer.flags)  # SYNC POINT left, as for a bell; SYNC POINT leaving
    if flags & KVO_LEFT:
        result = -EINPROGRESS
    elif flags & KVO_LEAVING:
        result = -EAGAIN
    elif kvo_sendmsg_now(fd, &one, MSG_DONTWAIT | MSG_NOSIGNAL) != 1:
        result = -errno
    if result:
        kvo_add32(&c.peer.drained, 1)
    else:
        kvo_store64(&c.me.record_at[number % KVO_RECORDS], kvo_load64(&c.me.put))
        kvo_store32(&c.me.record_bytes[number % KVO_RECORDS], <uint32_t>(total if total < 0x7fffffff else 0x7fffffff))
        kvo_release32(&c.me.records, number + 1)  # SYNC POINT record: place and length become visible with the count
    if locked:
        side_unlock(&c.me.bell_lock)
    return result


cdef inline size_t record_limit(conn_t *c, size_t want, uint64_t *gap) noexcept nogil:
    """How much of want (bytes known to wait, from ring_look) may be read at once: to the end of the next record's message. gap: bytes before that record; a
    read of more than gap bytes takes it."""
    cdef uint32_t taken = kvo_load32(&c.me.records_taken)
    cdef uint64_t end
    gap[0] = <uint64_t>-1
    if kvo_load32(&c.me.records_seen) == taken:
        return want
    gap[0] = kvo_load64(&c.peer.record_at[taken % KVO_RECORDS]) - kvo_load64(&c.me.head)
    end = gap[0] + kvo_load32(&c.peer.record_bytes[taken % KVO_RECORDS])
    return want if end > want or end == 0 else <size_t>end


cdef inline void deliver(stash_t *s, msghdr *m, int flags) noexcept nogil:
    """Hands descriptors (NULL: they are lost) to the program; those that find no room are closed, as the kernel does."""
    cdef cmsghdr *part = <cmsghdr *>m.msg_control
    cdef int i, fit = 0
    m.msg_flags |= flags & MSG_CMSG_CLOEXEC
    if s == NULL:
        m.msg_flags |= MSG_CTRUNC
        m.msg_controllen = 0
        return
    if part != NULL and m.msg_controllen > CMSG_LEN(0):
        fit = <int>((m.msg_controllen - CMSG_LEN(0)) / sizeof(int))
        if fit > s.count:
            fit = s.count
    for i in range(s.count):
        table_set(s.fds[i], 0)
        if i >= fit:
            kvo_close_now(s.fds[i])
        elif not flags & MSG_CMSG_CLOEXEC:
            kvo_next.fcntl(s.fds[i], F_SETFD, 0)
    if fit < s.count or s.cut_off:
        m.msg_flags |= MSG_CTRUNC
    if fit:
        part.cmsg_level = SOL_SOCKET
        part.cmsg_type = SCM_RIGHTS
        part.cmsg_len = CMSG_LEN(<size_t>fit * sizeof(int))
        memcpy(CMSG_DATA(part), s.fds, <size_t>fit * sizeof(int))
        if m.msg_controllen > CMSG_SPACE(<size_t>fit * sizeof(int)):
            m.msg_controllen = CMSG_SPACE(<size_t>fit * sizeof(int))
    else:
        m.msg_controllen = 0
    free(s)


cdef inline stash_t *stash_copy(conn_t *c) noexcept nogil:
    """For MSG_PEEK: duplicates of the oldest stashed descriptors, as the kernel hands them out; or NULL. Under my receive
    lock, so they are not taken meanwhile."""
    cdef stash_t *s = <stash_t *>kvo_load_pointer(&c.stash)
    cdef stash_t *copy
    cdef int i, fd
    if s == NULL or kvo_load32(&c.records_lost) & bit_of(c.records_given):
        return NULL
    copy = <stash_t *>malloc(sizeof(stash_t))
    if copy != NULL:
        copy.count = 0
        copy.cut_off = s.cut_off
        for i in range(s.count):
            fd = kvo_next.fcntl(s.fds[i], F_DUPFD_CLOEXEC, 0)
            if fd < 0:
                copy.cut_off = True
                break
            copy.fds[i] = fd
            copy.count = i + 1
    return copy


cdef inline void drop_stash(conn_t *c) noexcept nogil:
    cdef stash_t *s
    cdef int i
    while c.stash != NULL:
        s = c.stash
        c.stash = s.next
        for i in range(s.count):
            table_set(s.fds[i], 0)
            kvo_close_now(s.fds[i])
        free(s)
