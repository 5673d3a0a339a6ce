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
from libc.stdint cimport int32_t, uint32_t, uint64_t, uint8_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.clock cimport *
from kvoshim.connection cimport *
from kvoshim.demote cimport demote, follow
from kvoshim.doorbell cimport *
from kvoshim.negotiate cimport refresh
from kvoshim.readiness cimport *
from kvoshim.spin cimport crowded, spin_worth, spin_learn
from kvoshim.registration cimport *
from kvoshim.ring cimport least
from kvoshim.arrival cimport ORDERED, put_in_order, since

cdef enum:
    FAIR_EVERY = 16     # waits with hot rings, between two that ask the kernel first
    CROWD = 32          # quiet rings on the hot list, for which it is worth their while to arm some
    IDLE_MOST = 64      # times that one of them was asked in vain
    SLICE_MS = 100      # longest sleep while a registration has no waiting slot
    LENT_MOST = 64      # registrations of a set that gives the slots of shared connections back after each wait


cdef struct set_sleeper_t:  # one call's sleep
    set_t *s
    uint32_t life
    int epfd
    epoll_event *events
    int most
    int ms
    const sigset_t *mask


cdef inline uint32_t in_question(reg_t *r, conn_t *c, uint64_t tail, uint32_t full) noexcept nogil:
    """The events that would be reported now, by level or edge, with the peer's tail and the count of full rings as they
    were before the look; 0: none."""
    cdef uint32_t mask = <uint32_t><unsigned short>readiness(c, r.fd) & (r.events | EPOLLERR | EPOLLHUP)
    if mask == 0 or r.spent:
        return 0
    if r.events & EPOLLET and not (r.fresh or (mask & EPOLLIN and tail != r.tail_seen)
                                   or (mask & EPOLLOUT and full != r.full_seen)
                                   or mask & (EPOLLHUP | EPOLLRDHUP | EPOLLERR) & ~r.hung):
        return 0
    return mask


cdef inline uint32_t due(reg_t *r, conn_t *c) noexcept nogil:
    """The events to report now, taken note of; 0: none."""
    cdef uint64_t tail = kvo_load64(&c.peer.tail)
    cdef uint32_t full = kvo_load32(&c.full)
    cdef uint32_t mask = in_question(r, c, tail, full)
    if mask == 0:
        return 0
    if r.events & EPOLLET:
        r.tail_seen = tail
        if mask & EPOLLIN and not is_set(&c.recv_ring):
            r.kernel_seen = kernel_position(c, r.fd)
        if mask & EPOLLOUT:
            r.full_seen = full
        r.hung = mask & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)
    r.fresh = 0
    if r.events & EPOLLONESHOT:
        r.spent = 1
    return mask


cdef inline void edge_of_kernel(reg_t *r, conn_t *c) noexcept nogil:
    """The kernel has reported something: data from before the cut are an edge that no ring shows, unless it has been told."""
    if not is_set(&c.recv_ring) and not (r.events & EPOLLET and kernel_position(c, r.fd) == r.kernel_seen):
        r.fresh = 1


cdef inline bint goes_back(set_t *s, int index) noexcept nogil:
    """A RING registration whose connection is on the kernel again becomes NATIVE. Under s.lock."""
    cdef reg_t *r = s.regs[index]
    cdef conn_t *c = conn_at(r.ident)
    if state_of(c) == LIVE and departed(c):
        follow(c, r.fd)
    if state_of(c) != PLAIN:
        return False
    unconvert(s, index)
    return True


cdef inline void leave_hot(set_t *s, int32_t index) noexcept nogil:
    """What remains to be done for a registration that was taken off the hot list. Under s.lock."""
    cdef reg_t *r = s.regs[index]
    r.hot = 0
    reg_release(s, r)


cdef inline int collect(set_t *s, epoll_event *events, int most) noexcept nogil:
    """Ready ones on the hot list. Whoever was asked goes to the end of the list, so that each has its turn where `most` are
    fewer than are ready. Otherwise they are told of in the order in which they became ready. Under s.lock."""
    cdef int n = 0
    cdef int32_t index, last = s.hot_last
    cdef int32_t found[ORDERED]
    cdef bint more = s.hot_list != 0, several = s.hot_list != last
    cdef reg_t *r
    cdef uint32_t mask, idle = 0, began = stamp_now() if several else 0
    while more and n < most:
        more = s.hot_list != last
        index = s.hot_list - 1
        r = s.regs[index]
        kvo_store32(<uint32_t *>&s.hot_list, <uint32_t>r.next_hot)
        leave_hot(s, index)
        if r.mode != RING or goes_back(s, index):
            continue
        make_hot(s, index)
        mask = due(r, conn_at(r.ident))
        if mask:
            r.idle = 0
            if n < ORDERED:
                found[n] = index
            events[n].events = mask
            events[n].data.u64 = r.data
            n += 1
        else:
            r.idle += 1
            idle += 1
    kvo_store32(&s.idle, idle)
    if several and 0 < n < ORDERED:
        if since(s, found, n, began):
            n = collect_late(s, events, found, n, least(most, ORDERED))
        if n > 1:
            put_in_order(s, events, found, n)
    return n


cdef inline int collect_late(set_t *s, epoll_event *events, int32_t *found, int n, int most) noexcept nogil:
    """Asks those again that were not ready, since others have become ready in the meantime. Under s.lock."""
    cdef int32_t at = s.hot_list
    cdef reg_t *r
    cdef uint32_t mask
    cdef int i
    while at and n < most:
        r = s.regs[at - 1]
        for i in range(n):
            if found[i] == at - 1:
                break
        else:
            mask = due(r, conn_at(r.ident)) if r.mode == RING and state_of(conn_at(r.ident)) == LIVE else 0
            if mask:
                found[n] = at - 1
                events[n].events = mask
                events[n].data.u64 = r.data
                n += 1
        at = r.next_hot
    return n


cdef inline bint hot_changed(set_t *s) noexcept nogil:
    """A cheap look while spinning: has any hot ring something? Under s.lock."""
    cdef int32_t at = s.hot_list
    cdef uint64_t tail
    cdef reg_t *r
    cdef conn_t *c
    while at:
        r = s.regs[at - 1]
        at = r.next_hot
        if r.mode == RING:
            c = conn_at(r.ident)
            tail = kvo_load64(&c.peer.tail)
            if (tail != kvo_load64(&c.me.head) and not (r.events & EPOLLET and tail == r.tail_seen)
                    or kvo_load32(&c.peer.closing) != kvo_load32(&c.closing_seen)):
                return True
            if r.events & EPOLLOUT and not (r.events & EPOLLET and r.full_seen == kvo_load32(&c.full)) and writable(c, r.fd):
                return True
    return False


cdef inline void hold_slot(set_t *s, reg_t *r, conn_t *c) noexcept nogil:
    """The registration is about to leave the hot list: from here on it has to be woken by a bell."""
    private_lock(&c.watch_lock)
    if r.loose:
        kvo_store32(&s.slices, 1)
    elif r.watch.slot < 0:
        set_slot(&r.watch, slot_take(c, <uint32_t>kvo_process.pid))
        if r.watch.slot < 0:
            kvo_store32(&s.slices, 1)
    else:
        kvo_store32(&c.me.slot_floor[r.watch.slot], kvo_load32(&c.me.rung))
    if kvo_load32(&c.shared):
        s.lent = True
    private_unlock(&c.watch_lock)


cdef inline void drop_slot(reg_t *r, conn_t *c) noexcept nogil:
    if slot_of(&r.watch) >= 0:
        private_lock(&c.watch_lock)
        slot_give(c, r.watch.slot)
        set_slot(&r.watch, -1)
        private_unlock(&c.watch_lock)


cdef inline void give_slots_back(set_t *s) noexcept nogil:
    """Nobody sleeps on the set any more, and its process may never come back to it: the bells of connections that other
    processes share must not stay for that. They are hot until the next wait takes slots again. A large set keeps them: one fork
    shares all its connections for good, and each wait would cost as much as there are. Under s.lock."""
    cdef int i
    cdef reg_t *r
    s.lent = False
    if s.count > LENT_MOST:
        return
    for i in range(s.count):
        r = s.regs[i]
        if r.mode == RING and slot_of(&r.watch) >= 0 and kvo_load32(&conn_at(r.ident).shared):
            drop_slot(r, conn_at(r.ident))
            make_hot(s, i)


cdef inline void look_again(set_t *s, reg_t *r) noexcept nogil:
    """Has the next look include a registration, in the state that its connection has now. Under s.lock."""
    if r.loose and (r.mode == RING or r.mode == NATIVE):
        tell_kernel(s, r.index)
    if r.mode == RING and not goes_back(s, r.index):
        make_hot(s, r.index)
    elif r.mode == NATIVE and state_of(conn_at(r.ident)) == LIVE:
        convert(s, r.index)


cdef inline void take_kicks(set_t *s) noexcept nogil:
    """Looks again at the registrations that others have kicked, or at all. Under s.lock."""
    cdef int i
    cdef watch_t *w
    cdef watch_t *next
    cdef watch_t *oldest = NULL
    if kvo_load_pointer(&s.kicks) != NULL:
        w = <watch_t *>kvo_exchange_pointer(&s.kicks, NULL)
        while w != NULL:  # newest first; but who was kicked first is told of first
            next = w.next_kicked
            w.next_kicked = oldest
            oldest = w
            w = next
        w = oldest
        while w != NULL:
            next = w.next_kicked
            kvo_exchange32(&w.kicked, 0)  # before the look: a later kick means another one
            reg_release(s, <reg_t *>w)
            look_again(s, <reg_t *>w)
            w = next
    if s.scan:
        s.scan = False
        for i in range(s.count):
            if s.regs[i].mode == NATIVE or s.regs[i].watch.slot < 0:
                look_again(s, s.regs[i])


cdef inline bint arm_hot(set_t *s, uint32_t idle) noexcept nogil:
    """Arms every hot ring that has been asked in vain so many times, looks again, empties the list of those that stay quiet.
    True: one is ready after all. Under s.lock."""
    cdef int32_t *link = &s.hot_list
    cdef int32_t index, last = 0
    cdef reg_t *r
    cdef conn_t *c
    cdef uint32_t target
    cdef int slot
    cdef bint ready = False, quiet
    cdef int32_t at = link[0]
    while at:
        r = s.regs[at - 1]
        at = r.next_hot
        if r.idle < idle:
            continue
        if r.mode == RING and not r.spent:
            c = conn_at(r.ident)
            hold_slot(s, r, c)
            arm(c, r.events & EPOLLOUT and not writable(c, r.fd))
        elif r.mode == RING:
            drop_slot(r, conn_at(r.ident))
    fence_for_sleep()
    while link[0]:
        index = link[0] - 1
        r = s.regs[index]
        if r.idle < idle:
            last = index + 1
            link = &r.next_hot
            continue
        r.idle = 0
        if r.mode == RING and not r.spent:
            c = conn_at(r.ident)
            # The same question as collect() will ask: a different one would go round in circles without sleeping.
            quiet = in_question(r, c, kvo_load64(&c.peer.tail), kvo_load32(&c.full)) == 0
            if departed(c):
                kvo_store32(&s.slices, 1)  # on its way back to the kernel; what it waits for there is not registered yet
            if not quiet:
                ready = True
                last = index + 1
                link = &r.next_hot
                continue
            if idle == 0:
                count_sleep(c)
            # Bells are edges here, so old ones may lie; but they must not fill the socket.
            slot = slot_of(&r.watch)
            target = kvo_load32(&c.me.slot_floor[slot]) if slot >= 0 else kvo_load32(&c.me.drained)
            if <int32_t>(target - kvo_load32(&c.me.drained)) >= 64:
                settled(c, r.fd, target, slot)
        kvo_store32(<uint32_t *>link, <uint32_t>r.next_hot)
        leave_hot(s, index)
    s.hot_last = last
    return ready


cdef inline bint set_ready(set_t *s) noexcept nogil:
    """For a poll of the epoll descriptor itself: would a wait return something from the rings? Takes nothing away."""
    cdef int32_t at, index
    cdef reg_t *r
    cdef bint ready = False
    private_lock(&s.lock)
    at = s.hot_list
    while at and not ready:
        index = at - 1
        r = s.regs[index]
        at = r.next_hot
        if r.mode == RING and not r.spent and not goes_back(s, index):
            ready = (<uint32_t><unsigned short>readiness(conn_at(r.ident), r.fd)
                     & (r.events | EPOLLHUP | EPOLLERR)) != 0
    private_unlock(&s.lock)
    return ready


cdef inline void set_arm(set_t *s) noexcept nogil:
    private_lock(&s.lock)
    arm_hot(s, 0)
    private_unlock(&s.lock)


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


cdef inline void note_watched(int fd) noexcept nogil:
    """Before a Unix stream socket is added to a set: unless it is a listener or connected already, it may be connected to a
    selected path later, so that its registration must be known."""
    cdef sockaddr_un peer
    cdef int listening = 0
    cdef socklen_t n = sizeof(int), room = sizeof(sockaddr_un)
    cdef bint fresh
    cdef int saved = errno
    fresh = (kvo_next.getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) == 0 and not listening
             and kvo_next.getpeername(fd, <sockaddr *>&peer, &room) != 0 and errno == ENOTCONN)
    table_set(fd, KVO_WATCHED if fresh else 0)
    kvo_set_errno(saved)


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
