# Registrations of our connections in the program's epoll sets: how epoll_ctl, close, dup and fork change them, and what the
# kernel is told of them. What a registration is, and waiting on a set, stand in epollset.pxd.
from libc.stdint cimport int32_t, uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.doorbell cimport *
from kvoshim.epolltable cimport *
from kvoshim.negotiate cimport refresh


cdef inline void reg_hand_over(reg_t *r, conn_t *c) noexcept nogil:
    """A set that was inherited through fork: the parent's descriptor keeps the registration alive, so what the kernel says
    of it passes (of a dormant one nothing: the parent has removed it). Under s.lock; the first of the connection's."""
    private_lock(&c.watch_lock)
    kvo_store_pointer(&c.registrations, r.watch.next)
    private_unlock(&c.watch_lock)
    if r.mode != DORMANT:
        kvo_store32(&r.mode, PASS)
    r.ident = 0


cdef inline bint inherited(conn_t *c) noexcept nogil:
    """Is it in an epoll set of the process that this one was forked from?"""
    cdef bint found = False
    cdef watch_t *w
    private_lock(&c.watch_lock)
    w = c.registrations
    while w != NULL:
        found = found or kvo_load32(&(<set_t *>(<reg_t *>w).set).pid) != <uint32_t>kvo_process.pid
        w = w.next
    private_unlock(&c.watch_lock)
    return found


cdef inline uint32_t kernel_events(reg_t *r) noexcept nogil:
    return <uint32_t>(EPOLLIN | EPOLLRDHUP | EPOLLET) if r.mode == RING else r.events


cdef inline void tell_kernel(set_t *s, int index) noexcept nogil:
    """The mode of a registration that the kernel has already has changed. Under s.lock."""
    cdef reg_t *r = s.regs[index]
    cdef epoll_event e
    e.events = kernel_events(r)
    if r.mode == NATIVE and r.spent:
        e.events &= EPOLLONESHOT | EPOLLET
    e.data.u64 = tag_of(index, r.generation)
    r.loose = 0
    if kvo_next.epoll_ctl(s.epfd, EPOLL_CTL_MOD, r.fd, &e):
        if errno == EINVAL:  # EPOLLEXCLUSIVE can't be modified
            kvo_next.epoll_ctl(s.epfd, EPOLL_CTL_DEL, r.fd, NULL)
        r.loose = kvo_next.epoll_ctl(s.epfd, EPOLL_CTL_ADD, r.fd, &e) != 0
    if r.loose:
        kvo_store32(&s.slices, 1)


cdef inline void convert(set_t *s, int index) noexcept nogil:
    """NATIVE -> RING. Under s.lock, connection LIVE."""
    cdef reg_t *r = s.regs[index]
    kvo_store32(&r.mode, RING)
    r.fresh = 1
    tell_kernel(s, index)
    make_hot(s, index)


cdef inline void leave_watch(int fd, conn_t *c) noexcept nogil:
    """A socket that was put into epoll sets before it was connected (or marked): its registrations become those of its
    connection. NULL: it has none, and is about to be closed."""
    cdef uint32_t i
    cdef set_t *s
    cdef reg_t *r
    cdef int index
    for i in range(kvo_acquire32(&kvo_process.sets_high)):
        s = set_locked(<int>i)
        if s == NULL:
            continue
        index = find(s, fd)
        if index >= 0 and s.regs[index].mode == PASS and c == NULL:
            reg_drop(s, index)
        elif index >= 0 and s.regs[index].mode == PASS:
            r = s.regs[index]
            kvo_store32(&r.mode, NATIVE)
            r.ident = ident_of(c)
            reg_join(r, c)
        private_unlock(&s.lock)


cdef inline void unconvert(set_t *s, int index) noexcept nogil:
    """RING -> NATIVE: its connection has gone back to the kernel socket. Under s.lock."""
    cdef reg_t *r = s.regs[index]
    cdef conn_t *c = conn_at(r.ident)
    kvo_store32(&r.mode, NATIVE)
    tell_kernel(s, index)
    private_lock(&c.watch_lock)
    slot_give(c, r.watch.slot)
    set_slot(&r.watch, -1)
    private_unlock(&c.watch_lock)


cdef inline bint may_sleep(set_t *s, reg_t *r, conn_t *c) noexcept nogil:
    """The program removes it: may the kernel keep it, for the program to add it again? Not where others would see it."""
    return (r.mode == RING and state_of(c) == LIVE and not r.events & EPOLLEXCLUSIVE and not r.loose
            and s.pid == <uint32_t>kvo_process.pid and not kvo_load32(&c.shared)
            and kvo_load32(<uint32_t *>&c.fds) == 1 and ident_of_fd(s.epfd) != KVO_EPOLL_INSIDE)


cdef inline set_t *set_for(int epfd) noexcept nogil:
    """The set of a descriptor, locked. One that this process has inherited is made now; one that it has created was made then,
    since a thread that sleeps on it has to know of tags. NULL: it can't be known."""
    if set_at(epfd) == NULL and ident_of_fd(epfd) != KVO_EPOLL and ident_of_fd(epfd) != KVO_EPOLL_INSIDE:
        set_make(epfd)
    return set_locked(epfd)


cdef inline void pass_on(reg_t *r, int fd, uint32_t events, uint64_t data) noexcept nogil:
    """A new registration of what is no connection."""
    kvo_store32(&r.mode, PASS)
    r.fd = fd
    r.ident = 0
    r.events = events
    r.data = data
    r.fresh = 1


cdef inline void lie_dormant(reg_t *r, conn_t *c) noexcept nogil:
    kvo_store32(&r.mode, DORMANT)
    private_lock(&c.watch_lock)
    slot_give(c, r.watch.slot)
    set_slot(&r.watch, -1)
    private_unlock(&c.watch_lock)


cdef inline void bury(set_t *s, int index) noexcept nogil:
    """A dormant registration that will not be woken, or has woken somebody for nothing, goes in the kernel too. Under s.lock."""
    cdef reg_t *r = s.regs[index]
    kvo_next.epoll_ctl(s.epfd, EPOLL_CTL_DEL, r.fd, NULL)
    reg_drop(s, index)


cdef inline void wake_sleepers(set_t *s, reg_t *r) noexcept nogil:
    """Other threads may sleep on the set; an event that is true at once has one look at the hot list. Under s.lock."""
    cdef epoll_event e
    if kvo_load32(&s.sleepers):
        e.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET
        e.data.u64 = tag_of(r.index, r.generation)
        kvo_next.epoll_ctl(s.epfd, EPOLL_CTL_MOD, r.fd, &e)


cdef inline void set_interest(set_t *s, int index, const epoll_event *event) noexcept nogil:
    """What the program asks of a RING registration from now on. Under s.lock."""
    cdef reg_t *r = s.regs[index]
    r.events = event.events
    r.data = event.data.u64
    r.fresh = 1
    r.spent = 0
    r.hung = 0
    make_hot(s, index)
    wake_sleepers(s, r)


cdef inline set_t *set_with(conn_t *c, uint32_t mode, int *index) noexcept nogil:
    """A set, locked, in which the connection has a registration of that mode; NULL: none."""
    cdef watch_t *w
    cdef set_t *s
    while kvo_load_pointer(&c.registrations) != NULL:
        s = NULL
        private_lock(&c.watch_lock)
        w = c.registrations
        while w != NULL and s == NULL:
            if kvo_load32(&(<reg_t *>w).mode) == mode:
                s = <set_t *>(<reg_t *>w).set
                index[0] = (<reg_t *>w).index
            w = w.next
        private_unlock(&c.watch_lock)
        if s == NULL:
            return NULL
        private_lock(&s.lock)
        if index[0] < s.count and s.regs[index[0]].mode == mode and s.regs[index[0]].ident == ident_of(c):
            return s
        private_unlock(&s.lock)  # it has gone meanwhile
    return NULL


cdef inline void bury_all(conn_t *c) noexcept nogil:
    """Its dormant registrations, before others can see them: another descriptor, another process."""
    cdef int index = 0
    cdef set_t *s = set_with(c, DORMANT, &index)
    while s != NULL:
        bury(s, index)
        private_unlock(&s.lock)
        s = set_with(c, DORMANT, &index)


cdef inline void give_back(conn_t *c) noexcept nogil:
    """The connection is PLAIN: the kernel gets its registrations as the program made them."""
    cdef int index = 0
    cdef set_t *s = set_with(c, RING, &index)
    while s != NULL:
        unconvert(s, index)
        private_unlock(&s.lock)
        s = set_with(c, RING, &index)
    bury_all(c)


cdef inline bint exclusive_allowed(set_t *s, int op, int index, const epoll_event *event) noexcept nogil:
    """What is EPOLLEXCLUSIVE can't be changed, and has no part in what is oneshot or half-closed (epoll_ctl(2))."""
    if event == NULL:
        return True
    if op == EPOLL_CTL_MOD and index >= 0:
        return not (s.regs[index].events | event.events) & EPOLLEXCLUSIVE
    return not (op == EPOLL_CTL_ADD and index < 0 and event.events & EPOLLEXCLUSIVE
                and event.events & (EPOLLRDHUP | EPOLLONESHOT | EPOLLPRI))


cdef inline int epollset_ctl(int epfd, int op, int fd, epoll_event *event) noexcept nogil:
    """epoll_ctl for a descriptor of ours, or one with a data word that looks like a tag. 0 or -errno; -EINPROGRESS:
    let the kernel do it as it is."""
    cdef set_t *s
    cdef int32_t ident = ident_of_fd(fd)
    cdef conn_t *c = conn_at(ident) if ident < 0 else NULL
    cdef epoll_event e
    cdef reg_t *r
    cdef int index, result = 0
    if c != NULL:
        refresh(c, fd)
        if state_of(c) == PLAIN and (set_at(epfd) == NULL or kvo_load_pointer(&c.registrations) == NULL):
            return -EINPROGRESS
    if op == EPOLL_CTL_ADD and event != NULL:
        s = set_for(epfd)
        if s == NULL:
            return -ENOMEM if <uint32_t>epfd < SETS_MOST else -EINPROGRESS
    else:
        s = set_locked(epfd)
        if s == NULL:
            return -EINPROGRESS
    index = find_of(s, c, fd) if c != NULL else find(s, fd)
    if c != NULL and index >= 0 and s.regs[index].mode == DORMANT:
        if op != EPOLL_CTL_ADD and op != EPOLL_CTL_MOD and op != EPOLL_CTL_DEL or op != EPOLL_CTL_DEL and event == NULL:
            private_unlock(&s.lock)
            return -EINPROGRESS
        if op == EPOLL_CTL_ADD and state_of(c) == LIVE and not kvo_load32(&c.shared) and not event.events & EPOLLEXCLUSIVE:
            kvo_store32(&s.regs[index].mode, RING)
            set_interest(s, index, event)
            private_unlock(&s.lock)
            return 0
        bury(s, index)
        index = -1
    if c != NULL and not exclusive_allowed(s, op, index, event):
        result = -EINVAL
    elif op == EPOLL_CTL_ADD and index < 0 and event != NULL:
        r = reg_new(s, &index)
        if r == NULL:
            private_unlock(&s.lock)
            return -ENOMEM
        pass_on(r, fd, event.events, event.data.u64)
        if c != NULL:
            kvo_store32(&r.mode, RING if state_of(c) == LIVE else NATIVE)
            r.ident = ident
        e.events = kernel_events(r)
        if r.mode == RING:
            if event.events & EPOLLEXCLUSIVE:
                e.events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE  # the kernel allows no EPOLLRDHUP beside it
            if kvo_load32(&s.sleepers):
                e.events |= EPOLLOUT  # true at once: has a thread that sleeps on the set look at the hot list
        e.data.u64 = tag_of(index, r.generation)
        if kvo_next.epoll_ctl(epfd, op, fd, &e):
            result = -errno
            r.ident = 0
            reg_drop(s, index)
        elif c != NULL:
            reg_join(r, c)
            if r.mode == RING:
                make_hot(s, index)
    elif op == EPOLL_CTL_MOD and index >= 0 and event != NULL:
        r = s.regs[index]
        if r.mode == RING:
            set_interest(s, index, event)
        else:
            r.events = event.events
            r.data = event.data.u64
            r.fresh = 1
            r.spent = 0
            r.hung = 0
            e.events = event.events
            e.data.u64 = tag_of(index, r.generation)
            if kvo_next.epoll_ctl(epfd, op, fd, &e):
                result = -errno
    elif op == EPOLL_CTL_DEL and index >= 0 and c != NULL and may_sleep(s, s.regs[index], c):
        lie_dormant(s.regs[index], c)
    elif op == EPOLL_CTL_DEL and index >= 0:
        if kvo_next.epoll_ctl(epfd, op, fd, event):
            result = -errno
        reg_drop(s, index)
    else:
        result = -EINPROGRESS
    private_unlock(&s.lock)
    return result


cdef inline void epollset_forget(conn_t *c, int fd) noexcept nogil:
    """The last descriptor of a connection is about to be closed: its registrations go, in the kernel too, since a
    forked process may keep the socket open."""
    cdef reg_t *r
    cdef set_t *s
    cdef int index = 0
    while kvo_load_pointer(&c.registrations) != NULL:
        s = NULL
        private_lock(&c.watch_lock)
        r = <reg_t *>c.registrations
        if r != NULL:
            s = <set_t *>r.set
            index = r.index
        private_unlock(&c.watch_lock)
        if s == NULL:
            return
        private_lock(&s.lock)
        r = s.regs[index] if index < s.count else NULL
        if r != NULL and kvo_load_pointer(&c.registrations) == &r.watch:  # else it has gone meanwhile
            if s.pid == <uint32_t>kvo_process.pid:
                if r.fd == fd:  # else that number has been closed before
                    kvo_next.epoll_ctl(s.epfd, EPOLL_CTL_DEL, r.fd, NULL)
                reg_drop(s, index)
            else:
                reg_hand_over(r, c)
        private_unlock(&s.lock)


cdef inline void epollset_close(int epfd) noexcept nogil:
    """A descriptor is about to be closed. If it is the last one of a set, that ends."""
    cdef set_t *s = set_locked(epfd)
    cdef uint32_t i
    if s == NULL:
        return
    kvo_store_pointer(&(<set_t **>kvo_process.sets)[epfd], NULL)
    if s.names > 1 and s.epfd == epfd:
        for i in range(kvo_acquire32(&kvo_process.sets_high)):
            if set_at(<int>i) == s:
                s.epfd = <int32_t>i
                break
    if s.names == 1:
        set_end(s)
    kvo_store32(&s.names, s.names - 1)
    private_unlock(&s.lock)


cdef inline void epollset_dup(int old, int new) noexcept nogil:
    cdef set_t *s = set_locked(old)
    if s == NULL:
        return
    if <uint32_t>new < SETS_MOST and set_at(new) != s:
        kvo_store32(&s.names, s.names + 1)
        kvo_store_pointer(&(<set_t **>kvo_process.sets)[new], s)
        kvo_raise32(&kvo_process.sets_high, <uint32_t>new + 1)
    private_unlock(&s.lock)


cdef inline void epollset_forked_child() noexcept nogil:
    """Threads that held a lock or slept did not come along; one may have been about to put something on the list of kicks."""
    cdef int index
    cdef set_t *s = <set_t *>kvo_load_pointer(&kvo_process.sets_made)
    while s != NULL:
        s.lock = s.sleepers = 0
        s.kicks = NULL
        for index in range(s.count):
            if s.regs[index].watch.kicked:
                s.regs[index].watch.kicked = 0
                reg_release(s, s.regs[index])
        s = s.next_made
