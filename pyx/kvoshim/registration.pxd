# Registrations of our connections in the program's epoll sets: the records, and what a change on a connection does to
# them. Waiting on a set is in epollset.pxd.
from libc.stdint cimport int32_t, uint32_t, uint64_t, uint8_t
from kvoshim.runtime cimport *
from kvoshim.connection cimport conn_t, spin_t, private_lock, private_unlock

cdef enum:
    SETS_MOST = 131072  # KVO_SETS_BYTES / sizeof(void *): epoll descriptors below this number are looked after
    UNUSED = 0
    NATIVE
    RING
    PASS
    FAIR_EVERY = 16     # waits answered from rings alone, between two looks at the kernel

cdef struct reg_t:
    uint8_t mode
    uint8_t hot          # on the hot list
    uint8_t fresh        # added or modified: an edge by itself
    uint8_t spent        # EPOLLONESHOT has fired
    uint32_t hung        # which bits of the end have been reported (edge-triggered)
    uint32_t generation
    int32_t fd
    int32_t ident
    uint32_t events
    uint32_t full_seen
    uint64_t data
    uint64_t tail_seen   # the peer's tail when IN was last reported (edge-triggered)
    int32_t next_hot     # index + 1
    int32_t next_free
    void *set
    void *next_of_conn   # other registrations of the same connection

cdef struct set_t:
    int32_t epfd
    int32_t names        # descriptors that name it
    int32_t pid          # who made it: a forked child shares the kernel's set and must not change it by closing
    uint32_t lock
    uint32_t sleepers    # threads in the kernel's epoll_wait
    int32_t count, room, free_list, hot_list
    uint32_t turn
    reg_t **regs
    spin_t spin
    void *next           # all sets of this process


cdef inline uint64_t tag_of(int index, uint32_t generation) noexcept nogil:
    return (<uint64_t>0xA5C3D1 << 40) | (<uint64_t>(generation & 0xffff) << 24) | <uint64_t>index


cdef inline int reg_index(set_t *s, reg_t *r) noexcept nogil:
    cdef int i
    for i in range(s.count):
        if s.regs[i] == r:
            return i
    return -1


cdef inline void make_hot(set_t *s, int index) noexcept nogil:
    cdef reg_t *r = s.regs[index]
    if not r.hot:
        r.hot = 1
        r.next_hot = s.hot_list
        s.hot_list = index + 1


cdef inline int convert(set_t *s, int index) noexcept nogil:
    """NATIVE -> RING. Under s.lock, connection LIVE."""
    cdef reg_t *r = s.regs[index]
    cdef epoll_event e
    e.events = EPOLLIN | EPOLLRDHUP | EPOLLET
    e.data.u64 = tag_of(index, r.generation)
    if kvo_next.epoll_ctl(s.epfd, EPOLL_CTL_MOD, r.fd, &e):
        if errno != EINVAL:
            return -errno
        # EPOLLEXCLUSIVE can't be modified
        kvo_next.epoll_ctl(s.epfd, EPOLL_CTL_DEL, r.fd, NULL)
        if kvo_next.epoll_ctl(s.epfd, EPOLL_CTL_ADD, r.fd, &e):
            return -errno
    r.mode = RING
    r.fresh = 1
    make_hot(s, index)
    return 0


cdef inline void kick(set_t *s, int index) noexcept nogil:
    """Another thread sleeps on the set: an event that is true at once wakes it to look at the hot list. Under s.lock."""
    cdef epoll_event e
    cdef int saved = errno
    e.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET
    e.data.u64 = tag_of(index, s.regs[index].generation)
    kvo_next.epoll_ctl(s.epfd, EPOLL_CTL_MOD, s.regs[index].fd, &e)
    kvo_set_errno(saved)


cdef inline void stir(conn_t *c) noexcept nogil:
    """A doorbell was taken off the kernel socket, which its epoll sets will not see: the registrations become hot, and
    threads asleep on the sets wake. Connection LIVE, no set's lock held."""
    cdef reg_t *r
    cdef set_t *s
    cdef int index
    private_lock(&kvo_process.sets_lock)
    r = <reg_t *>c.registrations
    while r != NULL:
        s = <set_t *>r.set
        private_lock(&s.lock)
        index = reg_index(s, r)
        if index >= 0 and r.mode != UNUSED:
            if r.mode == NATIVE:
                convert(s, index)
            make_hot(s, index)
            if s.sleepers:
                kick(s, index)
        private_unlock(&s.lock)
        r = <reg_t *>r.next_of_conn
    private_unlock(&kvo_process.sets_lock)
