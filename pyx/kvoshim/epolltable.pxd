# The tables beside the program's epoll sets: which connections are registered in a set, and what for. What a registration is
# stands in epollset.pxd.
from libc.stdint cimport int32_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport malloc, realloc, free
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.doorbell cimport *

cdef enum:
    SETS_MOST = 131072  # KVO_SETS_BYTES / sizeof(void *): epoll descriptors below this number are looked after
    UNUSED = 0
    NATIVE
    RING
    PASS
    DORMANT

cdef struct reg_t:
    watch_t watch        # first: the connection's list knows no more of it
    uint32_t mode
    uint8_t hot          # on the hot list
    uint8_t fresh        # added or modified: an edge by itself
    uint8_t spent        # EPOLLONESHOT has fired
    uint8_t loose        # the kernel could not be told what the mode asks for: look often, and try again
    uint32_t hung        # which bits of the end have been reported (edge-triggered)
    uint32_t generation
    int32_t fd
    int32_t ident
    uint32_t events
    uint32_t full_seen
    uint64_t data
    uint64_t tail_seen   # the peer's tail when IN was last reported (edge-triggered)
    uint64_t kernel_seen # and up to where data had come through the kernel, while they did
    int32_t index
    int32_t next_hot     # index + 1
    uint32_t idle        # times in a row that it was asked in vain while hot
    int32_t next_free
    uint32_t turn        # what arming has returned, until the fence
    void *set

# The memory of a set is never given back, but used again for a later one: another thread may have loaded its address, or wait
# for its lock, or sleep in the kernel, while it is closed. So whoever has locked it looks whether it is still the one it
# looked for: by its descriptor (set_locked), by its life (a wait), or by its registrations. These are used under its lock alone.
cdef struct set_t:
    set_t *next_made     # of all
    uint32_t lock
    uint32_t sleepers    # threads in the kernel's epoll_wait, in whatever life they began
    uint32_t life        # how many sets were here before
    uint32_t names       # descriptors that name it; 0: its memory may be used again
    uint32_t pid         # who made it: a forked child shares the kernel's set and must not change it by closing
    uint32_t shared      # such a child waits on it
    uint32_t slices      # some registration found no waiting slot: sleep in slices
    bint lent            # some registration holds a waiting slot that other processes have to heed
    uint32_t turn
    uint32_t idle        # hot ones that the last look has found quiet
    uint32_t crowded_out # the last wait had no room for rings
    int32_t hot_list, hot_last  # index + 1 of the first and the last hot one; whoever was told of last is last
    spin_t spin          # so far, also looked at without the lock, maybe in a life that is over
    int32_t epfd         # one of its descriptors
    void *kicks          # registrations that were kicked
    bint scan            # all of them are to be looked at
    int32_t count, room, free_list
    reg_t **regs


cdef inline uint64_t tag_of(int index, uint32_t generation) noexcept nogil:
    return (<uint64_t>0xA5C3D1 << 40) | (<uint64_t>(generation & 0xffff) << 24) | <uint64_t>index


cdef inline bint is_tag(uint64_t data) noexcept nogil:
    return data >> 40 == 0xA5C3D1


cdef inline set_t *set_at(int epfd) noexcept nogil:
    if <uint32_t>epfd >= SETS_MOST or kvo_process.table_len == 0:
        return NULL
    return <set_t *>kvo_load_pointer(&(<set_t **>kvo_process.sets)[epfd])


cdef inline set_t *set_locked(int epfd) noexcept nogil:
    """The set of a descriptor, locked, so that it stays that; NULL: none."""
    cdef set_t *s = set_at(epfd)
    while s != NULL:
        private_lock(&s.lock)
        if set_at(epfd) == s:
            return s
        private_unlock(&s.lock)  # it was closed meanwhile
        s = set_at(epfd)
    return NULL


cdef inline set_t *set_unused() noexcept nogil:
    """Memory for a set, locked; NULL: there is none."""
    cdef set_t *s = <set_t *>kvo_load_pointer(&kvo_process.sets_made)
    cdef void *first
    while s != NULL:
        if kvo_load32(&s.names) == 0 and kvo_cas32(&s.lock, 0, 1):
            if s.names == 0:
                return s
            private_unlock(&s.lock)
        s = s.next_made
    s = <set_t *>malloc(sizeof(set_t))
    if s != NULL:
        memset(s, 0, sizeof(set_t))
        s.lock = 1
        while True:
            first = kvo_load_pointer(&kvo_process.sets_made)
            s.next_made = <set_t *>first
            if kvo_cas_pointer(&kvo_process.sets_made, first, s):
                break
    return s


cdef inline void set_make(int epfd) noexcept nogil:
    cdef set_t *s
    if <uint32_t>epfd >= SETS_MOST or set_at(epfd) != NULL:
        return
    s = set_unused()
    if s == NULL:
        return
    s.epfd = epfd
    s.scan = s.lent = False
    kvo_store32(&s.pid, <uint32_t>kvo_process.pid)
    kvo_store32(&s.shared, 0)
    kvo_store32(&s.slices, 0)
    kvo_store32(&s.crowded_out, 0)
    kvo_store32(&s.spin.score, 128)
    kvo_store32(&s.spin.period, 16)
    if kvo_cas_pointer(&(<void **>kvo_process.sets)[epfd], NULL, s):  # else another thread was first
        kvo_store32(&s.names, 1)
        kvo_raise32(&kvo_process.sets_high, <uint32_t>epfd + 1)
    private_unlock(&s.lock)


cdef inline reg_t *reg_new(set_t *s, int *index) noexcept nogil:
    cdef reg_t *r
    cdef reg_t **more
    if s.free_list:
        index[0] = s.free_list - 1
        r = s.regs[index[0]]
        s.free_list = r.next_free
    else:
        if s.count == s.room:
            more = <reg_t **>realloc(s.regs, (s.room * 2 + 16) * sizeof(reg_t *))
            if more == NULL:
                return NULL
            s.regs = more
            s.room = s.room * 2 + 16
        r = <reg_t *>malloc(sizeof(reg_t))
        if r == NULL:
            return NULL
        r.generation = 0
        index[0] = s.count
        s.regs[s.count] = r
        s.count += 1
    cdef uint32_t generation = r.generation + 1
    memset(r, 0, sizeof(reg_t))
    r.generation = generation
    r.index = index[0]
    r.set = s
    r.watch.set_sleepers = &s.sleepers
    r.watch.set_kicks = &s.kicks
    r.watch.slot = -1
    return r


cdef inline void reg_release(set_t *s, reg_t *r) noexcept nogil:
    """An unused registration that is on no list may be used again. Under s.lock."""
    if r.mode == UNUSED and not r.hot and not kvo_load32(&r.watch.kicked):
        r.next_free = s.free_list
        s.free_list = r.index + 1


cdef inline void reg_drop(set_t *s, int index) noexcept nogil:
    """Under s.lock. One that is on the list of the hot or of the kicked ones leaves it at the next visit (mode UNUSED)."""
    cdef reg_t *r = s.regs[index]
    cdef conn_t *c
    cdef watch_t **link
    if r.ident < 0:
        c = conn_at(r.ident)
        private_lock(&c.watch_lock)
        link = &c.registrations
        while link[0] != NULL:
            if link[0] == &r.watch:
                kvo_store_pointer(link, r.watch.next)
                break
            link = &link[0].next
        slot_give(c, r.watch.slot)
        set_slot(&r.watch, -1)
        private_unlock(&c.watch_lock)
    kvo_store32(&r.mode, UNUSED)
    r.generation += 1
    reg_release(s, r)


cdef inline void reg_join(reg_t *r, conn_t *c) noexcept nogil:
    """The connection knows of its registration from here on. Under s.lock."""
    kvo_store32(&c.shadow, 1)
    private_lock(&c.watch_lock)
    r.watch.next = c.registrations
    kvo_store_pointer(&c.registrations, &r.watch)
    private_unlock(&c.watch_lock)
    if r.mode == NATIVE and state_of(c) == LIVE:
        kick(c)  # it has switched since the registration was made


cdef inline void make_hot(set_t *s, int index) noexcept nogil:
    cdef reg_t *r = s.regs[index]
    if not r.hot:
        r.hot = 1
        r.next_hot = 0
        if s.hot_list:
            s.regs[s.hot_last - 1].next_hot = index + 1
        else:
            kvo_store32(<uint32_t *>&s.hot_list, <uint32_t>(index + 1))
        s.hot_last = index + 1


cdef inline int find_of(set_t *s, conn_t *c, int fd) noexcept nogil:
    """The registration of a connection's descriptor; -1: none. Under s.lock."""
    cdef int index = -1
    cdef watch_t *w
    private_lock(&c.watch_lock)
    w = c.registrations
    while w != NULL and index < 0:
        if (<reg_t *>w).set == s and (<reg_t *>w).fd == fd:
            index = (<reg_t *>w).index
        w = w.next
    private_unlock(&c.watch_lock)
    return index


cdef inline int find(set_t *s, int fd) noexcept nogil:
    """The registration of a descriptor; -1: none. Those that are no connection's are few."""
    cdef int i
    for i in range(s.count):
        if s.regs[i].mode != UNUSED and s.regs[i].fd == fd:
            return i
    return -1


cdef inline void set_end(set_t *s) noexcept nogil:
    """Under s.lock. Who has been waiting on it finds that this life is over."""
    cdef int i
    kvo_store32(&s.life, s.life + 1)
    for i in range(s.count):
        if s.regs[i].mode != UNUSED:
            s.regs[i].hot = 1  # so that reg_drop leaves the free list alone
            reg_drop(s, i)
    for i in range(s.count):
        free(s.regs[i])
    free(s.regs)
    s.regs = NULL
    s.kicks = NULL
    s.count = s.room = s.free_list = s.hot_last = 0
    kvo_store32(<uint32_t *>&s.hot_list, 0)
