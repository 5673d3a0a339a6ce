# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, nonecheck=False
# The core's C interface (core.h), and what Python sees of it. The preload library links only the upper half: nothing in
# it touches a Python object.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.negotiate cimport *
from kvoshim.receiving cimport *
from kvoshim.sending cimport *
from kvoshim.quick cimport *
from kvoshim.demote cimport attend, demote
from kvoshim.life cimport *
from kvoshim.inherit cimport *
from kvoshim.poller cimport *
from kvoshim.epollset cimport *
from kvoshim.clock cimport *
from kvoshim.watched cimport TAGGED_NOW, sockets_forked, watched_ctl
from libc.stdlib cimport malloc, free


cdef ssize_t receive_by_id(int32_t ident, int fd, msghdr *message, int flags) noexcept nogil:
    return stream_receive(conn_at(ident), fd, message, flags)


cdef ssize_t send_by_id(int32_t ident, int fd, msghdr *message, int flags) noexcept nogil:
    return stream_send(conn_at(ident), fd, message, flags)


cdef public ssize_t kvo_receive(int32_t ident, int fd, msghdr *message, int flags) noexcept nogil:
    if kvo_load32(&kvo_process.cancelling):
        return kvo_unless_cancelled(ident, fd, message, flags, receive_by_id)
    return receive_by_id(ident, fd, message, flags)


cdef public ssize_t kvo_send(int32_t ident, int fd, const msghdr *message, int flags) noexcept nogil:
    if kvo_load32(&kvo_process.cancelling):
        return kvo_unless_cancelled(ident, fd, <msghdr *>message, flags, send_by_id)
    return send_by_id(ident, fd, <msghdr *>message, flags)


# One buffer, as send() and recv() have it, with their result. First the quick way. What follows on it is called last and out
# of line, so that the quick way itself needs no stack.

cdef public ssize_t kvo_send_buffer(int32_t ident, int fd, const void *buffer, size_t n, int flags) noexcept nogil:
    cdef conn_t *c = conn_at(ident)
    cdef bint bell
    if ordinary(flags) and n - LITTLE <= MUCH - LITTLE:
        if send_in_place(c, buffer, n, &bell):
            return kvo_tell_sent(c, fd, n) if bell else <ssize_t>n
    return kvo_send_longer(c, fd, buffer, n, flags)


cdef public ssize_t kvo_receive_buffer(int32_t ident, int fd, void *buffer, size_t n, int flags) noexcept nogil:
    cdef conn_t *c = conn_at(ident)
    cdef bint bell
    cdef size_t got
    if ordinary(flags) and (not patience_of(c) or kvo_load32(&c.silent_receives)):
        got = receive_in_place(c, buffer, n, &bell)
        if got:
            return kvo_tell_received(c, fd, got) if bell else <ssize_t>got
    return kvo_receive_longer(c, fd, buffer, n, flags)


cdef public void kvo_expect_cancellation() noexcept nogil:
    """From now on each call looks whether its thread is cancelled."""
    cdef uint32_t i
    kvo_store32(&kvo_process.cancelling, 1)
    for i in range(kvo_acquire32(&kvo_process.slot_high)):
        upset((<conn_t *>kvo_process.slots) + i)


cdef public ssize_t kvo_tell_sent(void *c, int fd, size_t n) noexcept nogil:
    cdef int saved = errno
    tell_sent(<conn_t *>c, fd)
    kvo_set_errno(saved)
    return <ssize_t>n


cdef public ssize_t kvo_tell_received(void *c, int fd, size_t n) noexcept nogil:
    cdef int saved = errno
    tell_received(<conn_t *>c, fd)
    kvo_set_errno(saved)
    return <ssize_t>n


cdef inline ssize_t returned(ssize_t n, int saved) noexcept nogil:
    kvo_set_errno(saved if n >= 0 else <int>-n)
    return n if n >= 0 else -1


cdef inline void one_piece(msghdr *m, iovec *v, void *at, size_t n) noexcept nogil:
    memset(m, 0, sizeof(msghdr))
    v.iov_base = at
    v.iov_len = n
    m.msg_iov = v
    m.msg_iovlen = 1


cdef public ssize_t kvo_send_longer(void *connection, int fd, const void *buffer, size_t n, int flags) noexcept nogil:
    """Other lengths, threads and processes, still the quick way; and the long way."""
    cdef conn_t *c = <conn_t *>connection
    cdef msghdr m
    cdef iovec v
    cdef int saved = errno
    cdef ssize_t done
    calm_down(c)
    done = send_at_once(c, fd, buffer, n, flags)
    if done:
        kvo_set_errno(saved)
        return done
    one_piece(&m, &v, <void *>buffer, n)
    return returned(kvo_send(ident_of(c), fd, &m, flags), saved)


cdef public ssize_t kvo_receive_longer(void *connection, int fd, void *buffer, size_t n, int flags) noexcept nogil:
    cdef conn_t *c = <conn_t *>connection
    cdef msghdr m
    cdef iovec v
    cdef int saved = errno
    cdef ssize_t done
    cdef bint bell
    calm_down(c)
    if not flags & ~MSG_NOSIGNAL and n and (be_patient(c) or arrives_soon(c)):
        done = <ssize_t>receive_in_place(c, buffer, n, &bell)
        if done:
            return kvo_tell_received(c, fd, <size_t>done) if bell else done
    done = receive_at_once(c, fd, buffer, n, flags)
    if done:
        kvo_set_errno(saved)
        return done
    one_piece(&m, &v, buffer, n)
    done = returned(kvo_receive(ident_of(c), fd, &m, flags), saved)
    kvo_store32(&c.spun, 0)
    return done


cdef public int kvo_connect(int fd, const sockaddr *address, socklen_t length) noexcept nogil:
    kvo_cancellation_point()
    return life_connect(fd, address, length)


cdef public int kvo_unmark(int fd) noexcept nogil:
    return life_unmark(fd)


cdef public int kvo_accept(int fd, sockaddr *address, socklen_t *length, int flags) noexcept nogil:
    kvo_cancellation_point()
    return life_accept(fd, address, length, flags)


cdef public int kvo_spare_descriptors() noexcept nogil:
    return drop_memfds()


cdef public int kvo_close(int fd) noexcept nogil:
    cdef conn_t *c
    cdef int r
    if in_vfork_child():
        return kvo_next.close(fd)
    if ident_of_fd(fd) == KVO_INTERNAL:
        kvo_set_errno(EBADF)
        return -1
    kvo_cancellation_point()
    life_before_close(fd)
    if ident_of_fd(fd) == KVO_TAGGED or ident_of_fd(fd) == KVO_TWICE:
        leave_watch(fd, NULL)
    c = life_forget(fd)
    epollset_close(fd)
    if c == NULL:
        return kvo_close_now(fd)
    epollset_forget(c, fd)
    r = kvo_close_now(fd)
    dispose(c)
    return r


cdef public void kvo_replaced(int fd) noexcept nogil:
    cdef conn_t *c
    if in_vfork_child():
        return
    epollset_close(fd)
    if ident_of_fd(fd) == KVO_TAGGED or ident_of_fd(fd) == KVO_TWICE:
        leave_watch(fd, NULL)
    c = life_forget(fd)
    if c != NULL:
        epollset_forget(c, fd)
        dispose(c)


cdef public void kvo_move_internal(int fd) noexcept nogil:
    move_internal(fd)


cdef public void kvo_dup(int old_fd, int new_fd) noexcept nogil:
    life_dup(old_fd, new_fd)
    if not in_vfork_child():
        epollset_dup(old_fd, new_fd)


cdef public int kvo_shutdown(int32_t ident, int fd, int how) noexcept nogil:
    return life_shutdown(conn_at(ident), fd, how)


cdef public int kvo_poll(pollfd *fds, nfds_t n, const timespec *timeout, const sigset_t *mask) noexcept nogil:
    kvo_cancellation_point()
    return poller_poll(fds, n, timeout, mask)


cdef public int kvo_epoll_known(int epfd) noexcept nogil:
    return set_at(epfd) != NULL


cdef public int kvo_epoll_ctl(int epfd, int op, int fd, epoll_event *event) noexcept nogil:
    if op == EPOLL_CTL_ADD:
        note_nested(epfd, fd)
    cdef int r
    if ident_of_fd(fd) == KVO_SOCKET or ident_of_fd(fd) == KVO_WATCHED:
        r = watched_ctl(epfd, op, fd, event)
        if r != TAGGED_NOW:
            return r
    if ident_of_fd(fd) >= 0 and ident_of_fd(fd) != KVO_TAGGED and (event == NULL or not is_tag(event.data.u64)):
        return -EINPROGRESS
    r = epollset_ctl(epfd, op, fd, event)
    if r == -ENOMEM and op == EPOLL_CTL_ADD:
        r = unregistered(conn_at(ident_of_fd(fd)) if ident_of_fd(fd) < 0 else NULL, fd, event)
    return r


cdef public void kvo_socket_made(int fd) noexcept nogil:
    table_set(fd, KVO_SOCKET)


cdef public void kvo_socket_bound(int fd) noexcept nogil:
    if ident_of_fd(fd) == KVO_SOCKET or ident_of_fd(fd) == KVO_TWICE:
        table_set(fd, 0)


cdef public void kvo_epoll_made(int epfd) noexcept nogil:
    table_set(epfd, KVO_EPOLL)
    set_make(epfd)


cdef public int kvo_epoll_wait(int epfd, epoll_event *events, int most, const timespec *timeout,
                               const sigset_t *mask) noexcept nogil:
    kvo_cancellation_point()
    return epollset_wait(epfd, events, most, timeout, mask)


cdef public ssize_t kvo_readable_bytes(int32_t ident, int fd) noexcept nogil:
    cdef conn_t *c = conn_at(ident)
    cdef uint64_t kernel
    cdef ssize_t ring
    attend(c, fd)
    if state_of(c) != LIVE or is_set(&c.recv_back):
        return -EINPROGRESS
    if switch_receiving(c):
        return ring_readable(c)
    if not kvo_acquire32(&c.peer.flags) & KVO_CUT:  # SYNC POINT cut
        return -EINPROGRESS
    # The kernel has the rest before the cut, and bells behind it. A program that reads so many takes the socket to be empty.
    kernel = kvo_load64(&c.peer.cut) - kvo_load64(&c.me.kernel_read)
    ring = ring_readable(c)
    return ring + <ssize_t>kernel if ring >= 0 and kernel < <uint64_t>1 << 30 else -EINPROGRESS


cdef public ssize_t kvo_unsent_bytes(int32_t ident) noexcept nogil:
    cdef conn_t *c = conn_at(ident)
    if state_of(c) != LIVE or is_set(&c.send_back):
        return -EINPROGRESS
    return <ssize_t>c.size - ring_space(c)


cdef public int kvo_socket_error(int32_t ident, int fd) noexcept nogil:
    cdef conn_t *c = conn_at(ident)
    attend(c, fd)
    if state_of(c) != LIVE:
        return -EINPROGRESS
    look_at_kernel(c, fd)
    if unread_at_peer(c) and kvo_exchange32(&c.me.reset_seen, 1) == 0:
        return ECONNRESET
    return 0


cdef public void kvo_set_nonblock(int32_t ident, int on) noexcept nogil:
    cdef conn_t *c = conn_at(ident)
    if c.me != NULL and state_of(c) != FREE:
        if on:
            kvo_or32(&c.me.flags, KVO_NONBLOCK)
        else:
            kvo_and32(&c.me.flags, ~KVO_NONBLOCK)


cdef public int kvo_withdraw(int32_t ident, int fd, int reason) noexcept nogil:
    return withdraw(conn_at(ident), fd, reason)


cdef public void kvo_attend(int32_t ident, int fd) noexcept nogil:
    attend(conn_at(ident), fd)


cdef public int kvo_demote(int32_t ident, int fd, int reason) noexcept nogil:
    return demote(conn_at(ident), fd, reason)


cdef public void kvo_hide_mark(sockaddr *address, socklen_t *length, socklen_t room) noexcept nogil:
    hide_mark(address, length, room)


cdef public void kvo_before_fork() noexcept nogil:
    life_before_fork()
    sockets_forked()


cdef public void kvo_after_fork_in_child() noexcept nogil:
    epollset_forked_child()
    life_forked_child()


cdef public void kvo_before_exec(int inherit) noexcept nogil:
    before_exec(inherit)


cdef public void kvo_before_plain_exec(int last) noexcept nogil:
    part_with_all(last, False)


cdef public void kvo_part_with(int fd, int shimmed) noexcept nogil:
    part_with(fd, True, shimmed)


cdef public int kvo_inherit(int memfd, int fd) noexcept nogil:
    if inherit(memfd, fd):
        return 1
    count(&kvo_process.stats.refused[<int>KVO_NO_SEGMENT], 1)
    return 0


# ---- the Python half ----

include "bindings.pxi"
include "stats.pxi"
include "waiting.pxi"
