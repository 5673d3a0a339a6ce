# poll() and select() over a mix of our connections and anything else.
#
# Look at the rings; if none is ready, spin where that pays, then arm every ring, look again, and sleep in the kernel on
# the same descriptors: for ours, "readable" there means a doorbell or the peer's end, and the rings are asked again.
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport malloc, free
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.clock cimport *
from kvoshim.connection cimport *
from kvoshim.demote cimport attend
from kvoshim.doorbell cimport *
from kvoshim.epolltable cimport set_at, set_t
from kvoshim.hotlist cimport set_arm, set_ready
from kvoshim.lock cimport NAP_NS
from kvoshim.readiness cimport *
from kvoshim.spin cimport crowded, note_cpu, spin_worth, spin_learn
from kvoshim.wait cimport SLICE_NS, breathe, slice_of

cdef enum:
    ON_STACK = 64
    ALWAYS = 0x38  # POLLERR | POLLHUP | POLLNVAL


cdef struct waiting_t:
    conn_t *c        # NULL: none of ours
    int slot
    uint32_t target  # bells rung before arming
    uint32_t turn    # what arming has returned


cdef struct polling_t:  # one call's sleep
    pollfd *fds
    pollfd *copy
    waiting_t *w
    nfds_t n
    const timespec *left
    const sigset_t *mask


cdef inline conn_t *live_at(int fd) noexcept nogil:
    """The LIVE connection of a descriptor, or NULL."""
    cdef int32_t ident = ident_of_fd(fd)
    cdef conn_t *c
    if ident >= 0:
        return NULL
    c = conn_at(ident)
    attend(c, fd)
    return c if state_of(c) == LIVE else NULL


cdef inline int look_at_rings(pollfd *fds, nfds_t n) noexcept nogil:
    """Fills revents of ours (0 for the others); how many are ready."""
    cdef nfds_t i
    cdef conn_t *c
    cdef int ready = 0
    for i in range(n):
        fds[i].revents = 0
        if fds[i].fd < 0:
            continue
        c = live_at(fds[i].fd)
        if c != NULL:
            kvo_store32(&c.shadow, 1)
            if fds[i].events & POLLRDHUP:
                look_at_kernel(c, fds[i].fd)  # the program wants to know of the end behind the bytes that wait
            fds[i].revents = readiness(c, fds[i].fd) & (fds[i].events | ALWAYS)
            if fds[i].revents:
                ready += 1
        else:
            ready += look_at_set(&fds[i])
    return ready


cdef inline int look_at_set(pollfd *p) noexcept nogil:
    """An epoll descriptor is readable when a ring in its set is ready, whatever the kernel knows. 1: newly so."""
    cdef set_t *s = set_at(p.fd)
    if s == NULL or p.revents or not p.events & (POLLIN | POLLRDNORM) or not set_ready(s):
        return 0
    p.revents = p.events & (POLLIN | POLLRDNORM)
    return 1


cdef inline void arm_all(pollfd *fds, waiting_t *w, nfds_t n) noexcept nogil:
    cdef nfds_t i
    cdef conn_t *c
    cdef set_t *s
    cdef bint everywhere = False
    for i in range(n):
        if fds[i].fd >= 0:
            s = set_at(fds[i].fd)
            if s != NULL:
                set_arm(s)
        c = w[i].c
        if c != NULL and state_of(c) == LIVE:
            w[i].turn = arm_for(c, fds[i].events & (POLLOUT | POLLWRNORM) and not writable(c, fds[i].fd))
            everywhere = everywhere or w[i].turn != 0
    fence_before_sleep(everywhere)
    for i in range(n):
        if w[i].c != NULL:
            fenced(w[i].c, w[i].turn)


cdef inline void enter_all(pollfd *fds, waiting_t *w, nfds_t n) noexcept nogil:
    """Ours get a waiting slot each; before arming."""
    cdef nfds_t i
    cdef conn_t *c
    for i in range(n):
        c = live_at(fds[i].fd)
        w[i].c = c
        w[i].turn = 0
        if c != NULL:
            kvo_add32(&c.sleepers, 1)
            w[i].slot = slot_take(c, <uint32_t>kvo_tid())
            w[i].target = kvo_load32(&c.me.rung)


cdef inline void leave_all(waiting_t *w, nfds_t n) noexcept nogil:
    cdef nfds_t i
    for i in range(n):
        if w[i].c != NULL:
            if state_of(w[i].c) != FREE:
                slot_give(w[i].c, w[i].slot)
            kvo_add32(&w[i].c.sleepers, <uint32_t>-1)


cdef inline bint settle_all(pollfd *fds, waiting_t *w, nfds_t n, bint *slices) noexcept nogil:
    """Drains what the rings have answered. False: a kernel socket stays readable for other reasons than those asked for,
    so nobody can sleep on it now. slices: some connection had no waiting slot to give."""
    cdef nfds_t i
    cdef conn_t *c
    cdef bint all_of_them = True
    slices[0] = False
    for i in range(n):
        c = w[i].c
        if c == NULL:
            continue
        if w[i].slot < 0 or departed(c):
            slices[0] = True
        if (not settled(c, fds[i].fd, w[i].target, w[i].slot) or kvo_load32(&c.me.flags) & KVO_SHUT_RD
                or not fds[i].events & (POLLIN | POLLRDNORM) and not switch_receiving(c) and kernel_readable(fds[i].fd)):
            all_of_them = False
        count_sleep(c)
    return all_of_them


cdef inline int ask_kernel(pollfd *fds, pollfd *copy, nfds_t n, const timespec *left, const sigset_t *mask) noexcept nogil:
    """Polls the kernel: others for what they asked, ours for bells and the peer's end. How many others are ready (their
    revents set), or -errno; *fds of ours are left alone."""
    cdef nfds_t i
    cdef conn_t *c
    cdef int r, ready = 0
    for i in range(n):
        copy[i] = fds[i]
        copy[i].revents = 0
        c = live_at(fds[i].fd)
        if c != NULL:
            copy[i].events = POLLIN | POLLRDHUP
    if left != NULL and left.tv_sec == 0 and left.tv_nsec == 0:
        r = kvo_ppoll_now(copy, n, left, mask)
    else:
        r = kvo_next.ppoll(copy, n, left, mask)
    if r <= 0:
        return -errno if r < 0 else 0
    for i in range(n):
        if copy[i].revents == 0:
            continue
        c = live_at(fds[i].fd)
        if c == NULL:
            if fds[i].revents == 0:
                ready += 1
            fds[i].revents |= copy[i].revents
        elif copy[i].revents & POLLHUP:
            look_at_kernel(c, fds[i].fd)
        else:
            drop_surplus(c, fds[i].fd)
    return ready


cdef inline int poll_asleep(void *about) noexcept nogil:
    cdef polling_t *p = <polling_t *>about
    return ask_kernel(p.fds, p.copy, p.n, p.left, p.mask)


cdef inline void poll_over(void *about) noexcept nogil:
    cdef polling_t *p = <polling_t *>about
    leave_all(p.w, p.n)


cdef inline bint spin_on_rings(pollfd *fds, pollfd *copy, nfds_t n, conn_t *first, bint others) noexcept nogil:
    """Spins on the rings of ours while that pays (judged by the first of them); looks at the others meanwhile."""
    cdef uint64_t start, now
    cdef timespec zero
    cdef bint won = False
    cdef bint slept = kvo_load32(&first.rang) != 0
    cdef uint32_t mine
    cdef bint same
    cdef int idle = 0, i
    kvo_store32(&first.rang, 0)
    if not spin_worth(&first.receiving, slept):
        return False
    mine = note_cpu(first)
    same = kvo_load32(&first.peer.cpu) == mine
    zero.tv_sec = zero.tv_nsec = 0
    start = now = kvo_ticks()
    while now - start < kvo_process.spin_ticks and not won:
        if same or now - start > kvo_process.pause_ticks:
            sched_yield()
            if crowded(&first.receiving, now):
                break
            if others and ask_kernel(fds, copy, n, &zero, NULL):
                won = True
                break
        for i in range(1 if same else 16):
            if look_at_rings(fds, n):
                won = True
                break
            if not same:
                kvo_relax()
        if same:
            idle = idle + 1 if kvo_ticks() - now < kvo_process.pause_ticks else 0
            if idle >= 2:
                break
        now = kvo_ticks()
    spin_learn(&first.receiving, won)
    count_spin(first, won)
    return won


cdef inline int poll_mixed(pollfd *fds, pollfd *copy, waiting_t *w, nfds_t n, conn_t *first, nfds_t ours,
                           const timespec *timeout, const sigset_t *mask) noexcept nogil:
    cdef timespec deadline, left, zero, slice
    cdef polling_t sleep
    cdef nfds_t i
    cdef conn_t *c
    cdef int ready, others
    cdef bint spun = False, slices
    zero.tv_sec = zero.tv_nsec = 0
    if timeout != NULL:
        deadline_after(&deadline, timeout)
    while True:
        ready = look_at_rings(fds, n)
        if ready and ours == n:
            return ready
        if ready or (timeout != NULL and timeout.tv_sec == 0 and timeout.tv_nsec == 0):
            others = ask_kernel(fds, copy, n, &zero, mask)
            if others < 0:
                return ready if ready else others
            if ready == 0 and others == 0:
                ready = look_at_rings(fds, n)  # the kernel may have told of a peer's end
            return ready + others
        if not spun and first != NULL:
            spun = True
            if spin_on_rings(fds, copy, n, first, ours < n):
                continue
        if timeout != NULL:
            time_left(&deadline, &left)
        enter_all(fds, w, n)
        arm_all(fds, w, n)
        if look_at_rings(fds, n):
            leave_all(w, n)
            continue
        if not settle_all(fds, w, n, &slices):
            leave_all(w, n)
            zero.tv_sec = zero.tv_nsec = 0
            kvo_cancellation_point()
            others = -EINTR if breathe() else ask_kernel(fds, copy, n, &zero, mask)
        else:
            sleep.fds = fds
            sleep.copy = copy
            sleep.w = w
            sleep.n = n
            sleep.left = &left if timeout != NULL else NULL
            sleep.mask = mask
            if slices and (timeout == NULL or left.tv_sec or left.tv_nsec > SLICE_NS):
                slice_of(&slice)
                sleep.left = &slice
            others = kvo_asleep(poll_asleep, poll_over, &sleep)
        if others < 0:
            return others
        # Revents of the others are in place; now those of ours, without clearing them.
        ready = 0
        for i in range(n):
            c = live_at(fds[i].fd)
            if c != NULL:
                fds[i].revents = readiness(c, fds[i].fd) & (fds[i].events | ALWAYS)
                if fds[i].revents:
                    ready += 1
            else:
                ready += look_at_set(&fds[i])
        if ready + others:
            return ready + others
        if timeout != NULL and left.tv_sec == 0 and left.tv_nsec == 0:
            return 0
        if timeout != NULL:
            time_left(&deadline, &left)
            if left.tv_sec == 0 and left.tv_nsec == 0:
                return 0


cdef inline int poller_poll(pollfd *fds, nfds_t n, const timespec *timeout, const sigset_t *mask) noexcept nogil:
    """ppoll() with at least one descriptor of ours among fds. >= 0 or -errno; mask as in ppoll (applied while asleep)."""
    cdef pollfd copy_here[ON_STACK]
    cdef waiting_t waiting_here[ON_STACK]
    cdef pollfd *copy = copy_here
    cdef waiting_t *waiting = waiting_here
    cdef conn_t *first = NULL
    cdef conn_t *c
    cdef nfds_t i, ours = 0
    cdef bint sets = False
    cdef int r
    for i in range(n):
        if set_at(fds[i].fd) != NULL:
            sets = True
        c = live_at(fds[i].fd)
        if c != NULL:
            ours += 1
            if first == NULL:
                first = c
    if first == NULL and not sets:
        # PENDING and OFFERED ones: the kernel's word, but it may be a bell that tells of the switch.
        while True:
            r = kvo_next.ppoll(fds, n, timeout, mask)
            if r <= 0:
                return -errno if r < 0 else 0
            for i in range(n):
                if live_at(fds[i].fd) != NULL:
                    return poller_poll_again(fds, n, timeout, mask)
            return r
    if n > ON_STACK:
        copy = <pollfd *>malloc(n * (sizeof(pollfd) + sizeof(waiting_t)))
        if copy == NULL:
            return poll_by_parts(fds, n, timeout, mask)
        waiting = <waiting_t *>(copy + n)
    r = poll_mixed(fds, copy, waiting, n, first, ours, timeout, mask)
    if copy != copy_here:
        free(copy)
    return r


cdef inline int poll_by_parts(pollfd *fds, nfds_t n, const timespec *timeout, const sigset_t *mask) noexcept nogil:
    """No memory for a look at all of them at once: a part at a time, over and over."""
    cdef timespec zero, deadline, left
    cdef nfds_t i
    cdef int r, ready
    zero.tv_sec = zero.tv_nsec = 0
    if timeout != NULL:
        deadline_after(&deadline, timeout)
    while True:
        ready = 0
        i = 0
        while i < n:
            r = poller_poll(fds + i, n - i if n - i < ON_STACK else ON_STACK, &zero, NULL)
            if r < 0:
                return r
            ready += r
            i += ON_STACK
        if ready:
            return ready
        left.tv_sec = 0
        left.tv_nsec = NAP_NS
        if timeout != NULL:
            time_left(&deadline, &left)
            if left.tv_sec == 0 and left.tv_nsec == 0:
                return 0
            if left.tv_sec or left.tv_nsec > NAP_NS:
                left.tv_sec = 0
                left.tv_nsec = NAP_NS
        if kvo_next.ppoll(NULL, 0, &left, mask) < 0:
            return -errno


cdef inline int poller_poll_again(pollfd *fds, nfds_t n, const timespec *timeout, const sigset_t *mask) noexcept nogil:
    """A connection switched while we slept on it."""
    return poller_poll(fds, n, timeout, mask)
