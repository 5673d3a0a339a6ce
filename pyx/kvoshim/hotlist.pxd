# The hot list of an epoll set: the registrations whose rings may be ready. What they are stands in epollset.pxd.
from libc.stdint cimport int32_t, uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.clock cimport *
from kvoshim.connection cimport *
from kvoshim.demote cimport follow
from kvoshim.doorbell cimport *
from kvoshim.epolltable cimport *
from kvoshim.readiness cimport *
from kvoshim.registration cimport convert, tell_kernel, unconvert
from kvoshim.ring cimport least
from kvoshim.arrival cimport ORDERED, put_in_order, since

cdef enum:
    LENT_MOST = 64      # registrations of a set that gives the slots of shared connections back after each wait

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
    cdef uint64_t tail = kvo_load64(&their_news(c).tail)
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
            tail = kvo_load64(&their_news(c).tail)
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
    cdef bint ready = False, quiet, everywhere = False
    cdef int32_t at = link[0]
    while at:
        r = s.regs[at - 1]
        at = r.next_hot
        if r.idle < idle:
            continue
        if r.mode == RING and not r.spent:
            c = conn_at(r.ident)
            hold_slot(s, r, c)
            r.turn = arm_for(c, r.events & EPOLLOUT and not writable(c, r.fd))
            everywhere = everywhere or r.turn != 0
        elif r.mode == RING:
            drop_slot(r, conn_at(r.ident))
    fence_before_sleep(everywhere)
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
            fenced(c, r.turn)
            # The same question as collect() will ask: a different one would go round in circles without sleeping.
            quiet = in_question(r, c, kvo_load64(&their_news(c).tail), kvo_load32(&c.full)) == 0
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
