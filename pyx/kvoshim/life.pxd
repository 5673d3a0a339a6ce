# How connections come and go: connect, accept, dup, shutdown, close, fork.
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.clock cimport early_use
from kvoshim.connection cimport *
from kvoshim.ancillary cimport drop_stash
from kvoshim.demote cimport attend, demote, follow
from kvoshim.doorbell cimport departed, look_at_kernel, ring_bell, rouse
from kvoshim.negotiate cimport *
from kvoshim.registration cimport bury_all, inherited, leave_watch
from kvoshim.segment cimport *
from kvoshim.wait cimport nap
from kvoshim.watched cimport named_twice, tag_watched, watched_inside


cdef inline bint stream_socket(int fd) noexcept nogil:
    cdef int kind = 0, family = 0
    cdef socklen_t n = sizeof(int)
    if ident_of_fd(fd) >= KVO_SOCKET:
        return True
    return (kvo_next.getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &n) == 0 and kind == SOCK_STREAM
            and kvo_next.getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &n) == 0 and family == AF_UNIX)


cdef inline int life_connect(int fd, const sockaddr *address, socklen_t length) noexcept nogil:
    """connect() with a mark where the path is selected. 0 or -1 with errno, as the C library."""
    cdef const sockaddr_un *un = <const sockaddr_un *>address
    cdef int32_t ident = ident_of_fd(fd)
    cdef conn_t *c
    cdef int r, saved = errno
    if (ident >= 0 and kvo_process.table_len and address != NULL
            and length > sizeof(unsigned short) and length <= sizeof(sockaddr_un)
            and un.sun_family == AF_UNIX and kvo_path_selected(un.sun_path, length - sizeof(unsigned short))
            and stream_socket(fd)):
        if kvo_stays_short(un.sun_path, length - sizeof(unsigned short)):
            refuse(KVO_SHORT, fd, b"client")
        elif ident == KVO_TWICE:
            refuse(KVO_NAMED_TWICE, fd, b"client")
        elif ident == KVO_WATCHED and watched_inside(fd):
            refuse(KVO_NESTED, fd, b"client")
        elif ident == KVO_KERNEL or ident == KVO_WATCHED and not tag_watched(fd):
            refuse(KVO_NO_MEMORY, fd, b"client")  # it is in an epoll set that has no place for it
        elif not in_vfork_child():
            mark(fd, un, length)
            if ident_of_fd(fd) < 0:
                leave_watch(fd, conn_at(ident_of_fd(fd)))
    kvo_set_errno(saved)
    r = kvo_next.connect(fd, address, length)
    ident = ident_of_fd(fd)
    if r == 0 and (ident == KVO_SOCKET or ident == KVO_WATCHED):
        table_set(fd, 0)  # the kernel's for good
    if r == 0 and ident < 0:
        c = conn_at(ident)
        if state_of(c) == MARKED:
            enter(c, PENDING)
    return r


cdef inline bint listener_selected(int fd) noexcept nogil:
    cdef sockaddr_un own
    cdef socklen_t n = sizeof(sockaddr_un)
    cdef int32_t kind
    if <uint32_t>fd >= kvo_process.table_len:
        return False
    kind = table_get(<uint32_t>fd)
    if kind == 0 or kind >= KVO_SOCKET:
        kind = KVO_KERNEL
        if (kvo_next.getsockname(fd, <sockaddr *>&own, &n) == 0 and own.sun_family == AF_UNIX
                and n > sizeof(unsigned short) and stream_socket(fd)
                # a path of 108 bytes has no final zero: the kernel's length counts one beyond the structure
                and kvo_path_selected(own.sun_path, (n if n < sizeof(own) else sizeof(own)) - sizeof(unsigned short))):
            kind = KVO_LISTENER
        table_set(fd, kind)
    return kind == KVO_LISTENER


cdef inline void hide_mark(sockaddr *address, socklen_t *length, socklen_t room) noexcept nogil:
    """A marked peer looks like the unnamed socket it would have been."""
    cdef uint8_t nonce[16]
    if length[0] <= room and nonce_of(<sockaddr_un *>address, length[0], c'-', nonce):
        length[0] = sizeof(unsigned short)


cdef inline bint life_accepted(int listener, int fd, const sockaddr_un *peer, socklen_t length) noexcept nogil:
    """fd was accepted from a peer with this name. True: the name is a mark, to be hidden; fd is a CANDIDATE then."""
    cdef sockaddr_un own
    cdef socklen_t n = sizeof(sockaddr_un)
    cdef uint8_t nonce[16]
    cdef conn_t *c = NULL
    cdef int marked
    cdef uint64_t signals
    if not listener_selected(listener):
        return False
    memset(&own, 0, sizeof(own))
    marked = nonce_of(peer, length, c'-', nonce)
    if marked and not in_vfork_child():
        signals = kvo_hold_signals()
        c = conn_new(fd, CANDIDATE, 1)
        kvo_release_signals(signals)
        early_use()
        if c == NULL:
            refuse(KVO_TABLE_FULL, fd, b"server")
    if c != NULL or (not marked and kvo_process.log_level):
        kvo_next.getsockname(fd, <sockaddr *>&own, &n)
        if own.sun_path[0] == 0:
            own.sun_path[0] = c'@'
        own.sun_path[107] = 0
    if c != NULL:
        name_connection(c, own.sun_path, 107)
        memcpy(c.nonce, nonce, 16)
        if marked < 0:
            withdraw(c, fd, KVO_OTHER_VERSION)
    elif not marked:
        kvo_stats_cover(0)
        count(&kvo_process.stats.refused[<int>KVO_NO_MARK], 1)
        kvo_log(b"plain fd=%d side=server path=%s reason=no-mark", fd, &own.sun_path[0])
    return marked != 0


cdef inline int life_accept(int fd, sockaddr *address, socklen_t *length, int flags) noexcept nogil:
    """accept4() that knows marked clients. A descriptor, or -1 with errno."""
    cdef sockaddr_un peer[2]  # room for a path of 108 bytes and the zero behind it
    cdef socklen_t n = sizeof(peer)
    cdef int saved = errno, new
    cdef bint selected = listener_selected(fd)
    kvo_set_errno(saved)
    if not selected:
        return kvo_next.accept4(fd, address, length, flags)
    new = kvo_next.accept4(fd, <sockaddr *>peer, &n, flags)
    if new < 0:
        return new
    if life_accepted(fd, new, peer, n):
        n = sizeof(unsigned short)
    if address != NULL and length != NULL:
        memcpy(address, peer, n if n < length[0] else length[0])
        length[0] = n
    kvo_set_errno(saved)
    return new


cdef inline int life_pair(int a, int b) noexcept nogil:
    """The two ends of a socketpair(): one segment, live at once. 0 or -errno (they stay on the kernel)."""
    cdef conn_t *first = conn_new(a, CANDIDATE, 0)
    cdef conn_t *second
    cdef int32_t memfd
    cdef void *at = MAP_FAILED
    if first == NULL:
        return -EMFILE
    memfd = segment_create(first)
    if memfd >= 0:
        at = mmap(NULL, segment_bytes(first.size), PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0)
    close_quietly(&memfd)
    if at == MAP_FAILED:
        turn_plain(first, a, KVO_NO_SEGMENT)
        return -ENOMEM
    second = conn_new(b, CANDIDATE, 1)
    if second == NULL:
        munmap(at, segment_bytes(first.size))
        turn_plain(first, a, KVO_TABLE_FULL)
        return -EMFILE
    segment_adopt(second, <header_t *>at, first.size)
    name_connection(first, b"socketpair", 10)
    name_connection(second, b"socketpair", 10)
    note_inode(first, a)
    note_inode(second, b)
    kvo_release32(&header_of(first).state, KVO_ATTACHED)
    go_live(first, a)
    go_live(second, b)
    return 0


cdef inline void move_internal(int fd) noexcept nogil:
    """The program is about to put a file of its own under the number of one of our descriptors: ours moves away."""
    cdef uint32_t i
    cdef conn_t *c
    cdef int32_t *held = NULL
    cdef bint kept = False
    if ident_of_fd(fd) != KVO_INTERNAL or in_vfork_child():
        return
    if kvo_process.rendezvous == fd:
        held = &kvo_process.rendezvous
    for i in range(kvo_acquire32(&kvo_process.slot_high)):
        c = (<conn_t *>kvo_process.slots) + i
        if state_of(c) != FREE and offering_of(c) == fd:
            held = &c.offering
        elif state_of(c) != FREE and c.memfd == fd:
            held = &c.memfd
            kept = True
    table_set(fd, 0)
    if held != NULL:
        held[0] = kvo_next.fcntl(fd, F_DUPFD_CLOEXEC, kvo_process.internal_from)
        if held[0] >= 0:
            table_set(held[0], KVO_INTERNAL)
        elif kept:
            kvo_add32(&kvo_process.memfds, <uint32_t>-1)


cdef inline void life_dup(int old, int new) noexcept nogil:
    """new is now another name of old."""
    cdef int32_t ident = ident_of_fd(old)
    if <uint32_t>new >= kvo_process.table_len or in_vfork_child():
        return
    if ident < 0:
        kvo_add32(<uint32_t *>&conn_at(ident).fds, 1)
        bury_all(conn_at(ident))
    named_twice(old)
    table_set(new, ident_of_fd(old) if ident >= 0 else ident)


cdef inline void dispose(conn_t *c) noexcept nogil:
    """The last descriptor of this process is closed. What another thread is at that changes the state (it takes or makes an
    offer, goes live, goes back) ends first, and afterwards nobody changes it."""
    cdef uint64_t signals = kvo_hold_signals()
    cdef bint locked = own_lock(&c.lock), unused
    if state_of(c) == PENDING:
        kvo_note_life(c.path, not warm(c))
    if state_of(c) != LIVE and state_of(c) != PLAIN:
        decide(c, PLAIN)
    drop_memfd(c)
    if c.me != NULL:
        if state_of(c) == LIVE and not kvo_load32(&c.shared):
            kvo_or32(&c.me.flags, KVO_CLOSED)
        kvo_add32(&c.me.closing, 1)
        rouse(c.peer)
        kvo_log(b"closed id=%d path=%s sent=%lu received=%lu sleeps=%lu bells=%lu spins_won=%lu spins_lost=%lu",
                ident_of(c), &c.path[0], kvo_load64(&c.stats.sent), kvo_load64(&c.stats.received),
                kvo_load64(&c.stats.sleeps), kvo_load64(&c.stats.bells), kvo_load64(&c.stats.spins_won),
                kvo_load64(&c.stats.spins_lost))
    unused = not kvo_load32(&c.sleepers)  # else a thread sleeps on it: its memory stays, the slot is not used again
    if unused:
        enter(c, FREE)
    if locked:
        private_unlock(&c.lock)  # before the slot may be used again
    drop_stash(c)
    if unused:
        slot_free(c)
    kvo_release_signals(signals)


cdef inline conn_t *life_forget(int fd) noexcept nogil:
    """The descriptor leaves the table (not in a vfork child). Returns the connection if this was its last one, for
    dispose()."""
    cdef int32_t ident
    cdef conn_t *c
    if <uint32_t>fd >= kvo_process.table_len or table_get(<uint32_t>fd) == 0:
        return NULL
    ident = <int32_t>kvo_exchange32(<uint32_t *>&kvo_process.table[fd], 0)
    if ident >= 0:
        return NULL
    c = conn_at(ident)
    if kvo_add32(<uint32_t *>&c.fds, <uint32_t>-1) > 1:
        kvo_cas32(<uint32_t *>&c.fd, <uint32_t>fd, <uint32_t>-1)
        return NULL
    return c


cdef inline int life_unmark(int fd) noexcept nogil:
    """Before bind(): a connect() that failed has left its mark on the socket, so a fresh one takes its number. 0, or -ENOMEM:
    there is none."""
    cdef int32_t ident = ident_of_fd(fd)
    cdef conn_t *c
    cdef int fresh, flags, descriptor_flags, saved = errno
    cdef bint unmarked = False
    if ident >= 0 or state_of(conn_at(ident)) != MARKED or in_vfork_child():
        return 0
    flags = kvo_next.fcntl(fd, F_GETFL)
    descriptor_flags = kvo_next.fcntl(fd, F_GETFD)
    fresh = kvo_next.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    if fresh >= 0 and kvo_next.dup3(fresh, fd, O_CLOEXEC if descriptor_flags & FD_CLOEXEC else 0) == fd:
        kvo_next.fcntl(fd, F_SETFL, flags & O_NONBLOCK)
        c = life_forget(fd)
        if c != NULL:
            dispose(c)
        unmarked = True
    if fresh >= 0:
        kvo_close_now(fresh)
    kvo_set_errno(saved)
    return 0 if unmarked else -ENOMEM


cdef inline int life_shutdown(conn_t *c, int fd, int how) noexcept nogil:
    """0 or -errno. The flags take effect behind the bytes already in the ring; the kernel socket stays open for
    bells until both directions are shut."""
    cdef uint32_t bits
    if how != SHUT_RD and how != SHUT_WR and how != SHUT_RDWR:
        return -EINVAL
    if state_of(c) != LIVE and not withdraw(c, fd, KVO_SHUT_EARLY):
        refresh(c, fd)
    attend(c, fd)
    if state_of(c) != LIVE:
        return -errno if kvo_next.shutdown(fd, how) else 0
    bits = (KVO_SHUT_WR if how != SHUT_RD else 0) | (KVO_SHUT_RD if how != SHUT_WR else 0)
    kvo_or32(&c.me.flags, bits)  # SYNC POINT shut: full fence before looking whether the peer sleeps
    upset(c)
    kvo_fence_after_rmw()
    if bits & KVO_SHUT_WR and kvo_load32(&c.peer.wait) & KVO_WANT_DATA:
        ring_bell(c, fd, KVO_WANT_DATA)
    if bits & KVO_SHUT_WR:
        rouse(c.me)
    if bits & KVO_SHUT_RD and kvo_load32(&c.peer.wait) & (KVO_WANT_SPACE | KVO_WANT_ROOM):
        ring_bell(c, fd, KVO_WANT_SPACE)
    if departed(c):
        attend(c, fd)  # a thread that goes back may have looked for the flag before: then it has set BACK before that
    if is_set(&c.send_back) or state_of(c) == PLAIN:
        kvo_next.shutdown(fd, how)
    elif (kvo_load32(&c.me.flags) & (KVO_SHUT_WR | KVO_SHUT_RD)) == (KVO_SHUT_WR | KVO_SHUT_RD):
        kvo_store32(&c.native_shut, 1)
        kvo_next.shutdown(fd, SHUT_RDWR)
    elif bits & KVO_SHUT_RD and kvo_load32(&c.sleepers):
        kvo_next.shutdown(fd, SHUT_RD)  # wakes a thread of mine that sleeps in a receive
    return 0


cdef inline void life_before_fork() noexcept nogil:
    """Settles what parent and child could not settle together: a private PENDING connection can't be attached by
    one of them, a CANDIDATE needs a segment that both share."""
    cdef uint32_t i
    cdef int fd
    cdef conn_t *c
    cdef uint64_t signals
    for i in range(kvo_acquire32(&kvo_process.slot_high)):
        c = (<conn_t *>kvo_process.slots) + i
        kvo_store32(&c.shared, 1)
        bury_all(c)
        upset(c)
        fd = fd_of(c)
        if fd < 0:
            continue
        if state_of(c) == PENDING or state_of(c) == CANDIDATE:
            signals = kvo_hold_signals()
            if own_lock(&c.lock):
                if state_of(c) == PENDING:
                    accept_offer(c, fd)
                elif state_of(c) == CANDIDATE and not kvo_load32(&c.calls):
                    offer_locked(c, fd)
                private_unlock(&c.lock)
            kvo_release_signals(signals)
            if state_of(c) == PENDING or state_of(c) == CANDIDATE:
                withdraw(c, fd, KVO_FORKED)


cdef inline void life_forked_child() noexcept nogil:
    cdef uint32_t i
    cdef conn_t *c
    cdef watch_t *w
    kvo_forked_child()
    close_quietly(&kvo_process.rendezvous)  # the parent's
    kvo_process.awaiting = kvo_process.marks = 0
    for i in range(kvo_acquire32(&kvo_process.slot_high)):
        c = (<conn_t *>kvo_process.slots) + i
        c.lock = c.sleepers = c.watch_lock = c.early_sleepers = 0
        c.early_slot = -1
        c.awaits = 0
        if state_of(c) != FREE:
            describe(c)  # its statistics begin anew
        w = c.registrations
        while w != NULL:
            w.slot = -1  # it is the parent's
            w = w.next
        kick(c)


cdef inline void life_before_close(int fd) noexcept nogil:
    """What a peer that has left the ring has not read goes through the kernel before the descriptor is closed (not in a vfork
    child). A forked child keeps the registrations in the sets that it has inherited, as long as the parent has its descriptor:
    what the child can't name it can't have in a ring."""
    cdef int32_t ident = ident_of_fd(fd)
    cdef conn_t *c
    cdef int tries = 0
    if ident >= 0:
        return
    c = conn_at(ident)
    if kvo_load32(&c.shared) and kvo_load32(<uint32_t *>&c.fds) == 1 and inherited(c):
        demote(c, fd, KVO_NESTED)
    while state_of(c) == LIVE and departed(c) and not is_set(&c.send_back) and not is_set(&c.gone) and tries < 200:
        follow(c, fd)
        if not is_set(&c.send_back):
            nap()
            look_at_kernel(c, fd)
        tries += 1
