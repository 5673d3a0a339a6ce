# epoll over a mix of our connections and anything else.
#
# The kernel's epoll set stays the program's own. Beside each set that holds a connection of ours lies a table of
# registrations. A registration is
#
#   NATIVE  while its connection is not LIVE: the kernel has the program's events; only the data word is ours;
#   RING    once it is: the kernel has EPOLLIN|EPOLLRDHUP|EPOLLET and so reports each doorbell once, and what the program
#           asked (level, edge, one-shot, OUT) is computed from the ring;
#   PASS    a descriptor that is none of ours whose data word looks like one of our tags;
#   DORMANT a RING one that the program has removed: the kernel keeps it, so that a program that adds it again for each
#           message pays no system call. The first event that it gives rise to ends it.
#
# RING registrations whose ring may be ready are on the hot list. epoll_wait looks at the hot ones before it enters the
# kernel; before it sleeps it arms them, looks again, and takes them off the list. An idle connection is on no list, so
# the cost of a wait does not grow with their number.
from libc.stdint cimport int32_t, uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.clock cimport *
from kvoshim.connection cimport *
from kvoshim.demote cimport demote
from kvoshim.doorbell cimport *
from kvoshim.epolltable cimport *
from kvoshim.hotlist cimport *
from kvoshim.negotiate cimport refresh
from kvoshim.registration cimport *
from kvoshim.spin cimport crowded, spin_worth, spin_learn

cdef enum:
    FAIR_EVERY = 16     # waits with hot rings, between two that ask the kernel first
    CROWD = 32          # quiet rings on the hot list, for which it is worth their while to arm some
    IDLE_MOST = 64      # times that one of them was asked in vain
    SLICE_MS = 100      # longest sleep while a registration has no waiting slot


cdef struct set_sleeper_t:  # one call's sleep
    set_t *s
    uint32_t life
    int epfd
    epoll_event *events
    int most
    int ms
    const sigset_t *mask


cdef inline int translate(set_t *s, uint32_t life, epoll_event *events, int n, int most, bint collected,
                          bint *again) noexcept nogil:
    """Turns what the kernel returned into what the program asked for: others' events stay, ours are computed. collected: the
    hot ones have been asked just before, and only new ones are. again: some are the kernel's from now on; ask it."""
    cdef int i, out = 0
    cdef int index
    cdef reg_t *r
    cdef conn_t *c
    cdef uint64_t data
    cdef uint32_t mask
    cdef bint asked
    private_lock(&s.lock)
    for i in range(n):
        data = events[i].data.u64
        if not is_tag(data):
            events[out] = events[i]
            out += 1
            continue
        index = <int>(data & 0xffffff)
        if index >= s.count or s.life != life:
            continue
        r = s.regs[index]
        if r.mode == UNUSED or (r.generation & 0xffff) != ((data >> 24) & 0xffff):
            continue
        if r.mode == PASS:
            events[out].events = events[i].events
            events[out].data.u64 = r.data
            out += 1
            continue
        if r.mode == DORMANT:
            if r.ident < 0:
                bury(s, index)
            again[0] = True
            continue
        c = conn_at(r.ident)
        refresh(c, r.fd)
        if r.mode == RING and goes_back(s, index):
            again[0] = True  # what the kernel said was of a bell
            continue
        if state_of(c) != LIVE:
            events[out].events = events[i].events
            events[out].data.u64 = r.data
            out += 1
            continue
        asked = collected and r.hot
        if r.mode == NATIVE:
            convert(s, index)
        if events[i].events & EPOLLHUP:
            look_at_kernel(c, r.fd)
        edge_of_kernel(r, c)
        make_hot(s, index)
        mask = due(r, c) if collected and not asked else 0
        if mask:
            events[out].events = mask
            events[out].data.u64 = r.data
            out += 1
    if not collected and s.life == life:
        out += collect(s, events + out, most - out)
    private_unlock(&s.lock)
    return out


cdef inline int ask_kernel_set(set_t *s, uint32_t life, int epfd, epoll_event *events, int most, int timeout_ms,
                               const sigset_t *mask, bint collected) noexcept nogil:
    cdef int n
    cdef bint again = False
    if timeout_ms:
        n = kvo_next.epoll_pwait(epfd, events, most, timeout_ms, mask)
    else:
        n = kvo_epoll_now(epfd, events, most, mask)  # the events of rings may be in hand, which must not get lost
    if n > 0:
        n = translate(s, life, events, n, most, collected, &again)
        if n == 0 and again:
            n = kvo_epoll_now(epfd, events, most, mask)
            if n > 0:
                n = translate(s, life, events, n, most, collected, &again)
    return -errno if n < 0 else n


cdef inline int set_asleep(void *about) noexcept nogil:
    cdef set_sleeper_t *p = <set_sleeper_t *>about
    return ask_kernel_set(p.s, p.life, p.epfd, p.events, p.most, p.ms, p.mask, False)


cdef inline void set_sleep_over(void *about) noexcept nogil:
    cdef set_t *s = (<set_sleeper_t *>about).s
    private_lock(&s.lock)
    if kvo_add32(&s.sleepers, <uint32_t>-1) == 1 and s.lent:
        give_slots_back(s)
    private_unlock(&s.lock)


cdef inline int spin_on_set(set_t *s, uint32_t life, int epfd, epoll_event *events, int most) noexcept nogil:
    """Spins while that pays. > 0: kernel events collected; 0: a hot ring moved; -EAGAIN: neither."""
    cdef uint64_t start, now, before
    cdef bint won = False
    cdef int n = 0, i
    cdef reg_t *r
    cdef conn_t *c = NULL
    cdef bint slept = False, same = False
    cdef uint32_t mine
    cdef int idle = 0
    cdef int32_t at
    private_lock(&s.lock)
    at = s.hot_list
    mine = <uint32_t>kvo_cpu() + 1
    slept = at != 0
    same = at != 0
    while at:
        r = s.regs[at - 1]
        at = r.next_hot
        if r.mode == RING:
            c = conn_at(r.ident)
            slept = slept and kvo_load32(&c.rang) != 0
            kvo_store32(&c.rang, 0)
            if kvo_load32(&c.me.cpu) != mine:
                kvo_store32(&c.me.cpu, mine)
            same = same and kvo_load32(&c.peer.cpu) == mine
    private_unlock(&s.lock)
    if c == NULL or not spin_worth(&s.spin, slept):
        return -EAGAIN
    start = now = kvo_ticks()
    while now - start < kvo_process.spin_ticks and not won:
        before = now
        if same or now - start > kvo_process.pause_ticks:
            sched_yield()
            if crowded(&s.spin, before):
                break
            n = ask_kernel_set(s, life, epfd, events, most, 0, NULL, False)
            if n:
                won = True
                break
        for i in range(1 if same else 16):
            private_lock(&s.lock)
            won = hot_changed(s)
            private_unlock(&s.lock)
            if won:
                break
            if not same:
                kvo_relax()
        now = kvo_ticks()
        if same:
            idle = idle + 1 if now - before < 2 * kvo_process.pause_ticks else 0
            if idle >= 2:
                break
    spin_learn(&s.spin, won)
    count_spin(c, won)
    if n:
        return n
    return 0 if won else -EAGAIN


cdef inline void members_back(set_t *s) noexcept nogil:
    """All connections in the set go back to the kernel socket, and their registrations with them."""
    cdef int i = 0, fd = -1
    cdef int32_t ident
    cdef bint more = True
    while more:
        ident = 0
        private_lock(&s.lock)
        more = i < s.count
        if more and (s.regs[i].mode == RING or s.regs[i].mode == NATIVE):
            ident = s.regs[i].ident
            fd = s.regs[i].fd
        elif more and s.regs[i].mode == DORMANT and s.regs[i].ident < 0:
            bury(s, i)
        private_unlock(&s.lock)
        if ident < 0:
            demote(conn_at(ident), fd, KVO_NESTED)
        i += 1


cdef inline int unregistered(conn_t *c, int fd, epoll_event *event) noexcept nogil:
    """No memory for a registration: the kernel is to have it alone, so the connection, or what is to become one, stays with
    the kernel too. -EINPROGRESS: let it do so; or -ENOMEM."""
    if c != NULL:
        return -EINPROGRESS if demote(c, fd, KVO_NO_MEMORY) else -ENOMEM
    if is_tag(event.data.u64):
        return -ENOMEM
    table_set(fd, KVO_KERNEL)
    return -EINPROGRESS


cdef inline void note_nested(int epfd, int fd) noexcept nogil:
    """Before fd is added to epfd. What is inside a set that is inside another one goes to the kernel, the only one who can
    look through it."""
    cdef int32_t kind = ident_of_fd(fd)
    if kind < 0 and ident_of_fd(epfd) == KVO_EPOLL_INSIDE:
        demote(conn_at(kind), fd, KVO_NESTED)
    elif kind == KVO_EPOLL:
        table_set(fd, KVO_EPOLL_INSIDE)
        if set_at(fd) != NULL:
            members_back(set_at(fd))


cdef inline int epollset_wait(int epfd, epoll_event *events, int most, const timespec *timeout,
                              const sigset_t *mask) noexcept nogil:
    """epoll_pwait on a set that holds connections of ours. Events or -errno. timeout NULL: for ever."""
    cdef set_t *s = set_at(epfd)
    cdef uint32_t life = kvo_acquire32(&s.life) if s != NULL else 0
    cdef timespec deadline, left
    cdef set_sleeper_t sleep
    cdef int n, more
    cdef bint spun = False, hot, ready, at_once
    if most <= 0:
        return -EINVAL
    if s == NULL or set_at(epfd) != s:
        return -EBADF  # another thread has closed it
    if kvo_load32(&s.pid) != <uint32_t>kvo_process.pid and not kvo_load32(&s.shared):
        kvo_store32(&s.shared, 1)  # inherited through fork: the kernel's set is the parent's too
        members_back(s)
    if timeout != NULL and (timeout.tv_sec or timeout.tv_nsec):
        deadline_after(&deadline, timeout)
    while True:
        if kvo_load32(<uint32_t *>&s.hot_list):
            bump(&s.turn)
            if kvo_load32(&s.turn) % FAIR_EVERY == 0 or early_lately() and not kvo_load32(&s.crowded_out):
                # Rings may always be ready; so that the kernel's descriptors never starve, these come first now. And those
                # of connections on their way to a ring keep their place in the order of arrival.
                n = ask_kernel_set(s, life, epfd, events, most, 0, mask, False)
                if n > 0:
                    kvo_store32(&s.crowded_out, n == most)  # then it is the rings' turn
                    return n
            kvo_store32(&s.crowded_out, 0)
        private_lock(&s.lock)
        if s.life != life:
            private_unlock(&s.lock)
            return -EBADF
        take_kicks(s)
        n = collect(s, events, most) if s.hot_list else 0
        if n and kvo_load32(&s.idle) >= CROWD and kvo_load32(&s.turn) % FAIR_EVERY == 1:
            arm_hot(s, IDLE_MOST)  # a busy set never sleeps: those that stay quiet would be asked at each wait
        hot = s.hot_list != 0
        private_unlock(&s.lock)
        at_once = timeout != NULL and timeout.tv_sec == 0 and timeout.tv_nsec == 0
        if at_once and n < most:
            # Who does not wait may want to know of everything: whether a pipe is still readable, for instance.
            more = ask_kernel_set(s, life, epfd, events + n, most - n, 0, mask, n > 0)
            return n + more if more > 0 else n if n else more
        if n or at_once:
            return n
        if not spun and hot:
            spun = True
            n = spin_on_set(s, life, epfd, events, most)
            if n > 0:
                return n
            if n != -EAGAIN:
                if n < 0:
                    return n
                continue
        private_lock(&s.lock)
        if s.life != life:
            private_unlock(&s.lock)
            return -EBADF
        kvo_add32(&s.sleepers, 1)  # before the look for kicks: whoever kicks looks for sleepers afterwards
        if s.slices:
            kvo_store32(&s.slices, 0)
            s.scan = True
        take_kicks(s)
        ready = arm_hot(s, 0)
        private_unlock(&s.lock)
        n = 0
        sleep.s = s
        if ready:
            set_sleep_over(&sleep)
        else:
            sleep.life = life
            sleep.epfd = epfd
            sleep.events = events
            sleep.most = most
            sleep.ms = -1
            sleep.mask = mask
            if timeout != NULL:
                time_left(&deadline, &left)
                sleep.ms = <int>(left.tv_sec * 1000 + (left.tv_nsec + 999999) // 1000000)
            if kvo_load32(&s.slices) and (sleep.ms < 0 or sleep.ms > SLICE_MS):
                sleep.ms = SLICE_MS
            n = kvo_asleep(set_asleep, set_sleep_over, &sleep)
        if n:
            return n
        if timeout != NULL and not ready:
            time_left(&deadline, &left)
            if left.tv_sec == 0 and left.tv_nsec == 0:
                return 0
