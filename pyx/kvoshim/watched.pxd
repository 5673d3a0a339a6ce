# Sockets that the program puts into an epoll set before it connects them (nginx does). They may become connections of ours, so
# what the program asked for is noted by descriptor; the kernel has it as it is until the connect() that marks the socket, and for
# good where the socket stays with the kernel.
from libc.stdint cimport int32_t, uint32_t, uint64_t
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.epolltable cimport *
from kvoshim.registration cimport *

cdef struct watched_t:  # for one descriptor, KVO_WATCHED
    uint64_t data
    uint32_t events
    int32_t epfd

cdef enum:
    TAGGED_NOW = 1


cdef inline watched_t *watched_at(int fd) noexcept nogil:
    return <watched_t *>kvo_process.watched + fd


cdef inline bint notable(const epoll_event *event) noexcept nogil:
    """A note of it will do. Not where the kernel would have to be told of changes that it does not take (EPOLLEXCLUSIVE), or
    where nobody knows whether it has fired (EPOLLONESHOT)."""
    return not event.events & (EPOLLONESHOT | EPOLLEXCLUSIVE) and not is_tag(event.data.u64)


cdef inline void note(int epfd, int fd, const epoll_event *event) noexcept nogil:
    cdef watched_t *w = watched_at(fd)
    KVO_IS_WATCHED(sizeof(watched_t))
    w.epfd = epfd
    w.events = event.events
    w.data = event.data.u64


cdef inline bint tag_watched(int fd) noexcept nogil:
    """KVO_WATCHED -> KVO_TAGGED: a registration beside the set, and its tag in the kernel's. False: that was not possible, so
    the kernel keeps the socket for good."""
    cdef watched_t *w = watched_at(fd)
    cdef epoll_event e
    cdef reg_t *r = NULL
    cdef int index = 0
    cdef int saved = errno
    cdef set_t *s = set_for(w.epfd)
    if s != NULL:
        r = reg_new(s, &index)
        if r != NULL:
            pass_on(r, fd, w.events, w.data)
            e.events = w.events
            e.data.u64 = tag_of(index, r.generation)
            if kvo_next.epoll_ctl(s.epfd, EPOLL_CTL_MOD, fd, &e):  # the set has been closed, under this name
                reg_drop(s, index)
                r = NULL
        private_unlock(&s.lock)
    table_set(fd, KVO_KERNEL if r == NULL else KVO_TAGGED)
    kvo_set_errno(saved)
    return r != NULL


cdef inline bint watched_inside(int fd) noexcept nogil:
    """Is it in a set that is inside another one?"""
    return ident_of_fd(watched_at(fd).epfd) == KVO_EPOLL_INSIDE


cdef inline int watched_ctl(int epfd, int op, int fd, epoll_event *event) noexcept nogil:
    """epoll_ctl for KVO_SOCKET and KVO_WATCHED. 0 or -errno; -EINPROGRESS: let the kernel do it as it is; TAGGED_NOW: go on
    as with any registration."""
    cdef bint known = ident_of_fd(fd) == KVO_WATCHED
    cdef bint here = known and watched_at(fd).epfd == epfd
    if op == EPOLL_CTL_ADD and event != NULL and not (known and here):
        if known and not tag_watched(fd):  # in a second set
            return -EINPROGRESS
        if known or not notable(event):
            table_set(fd, KVO_TAGGED)
            return TAGGED_NOW
        if kvo_next.epoll_ctl(epfd, op, fd, event):
            return -errno
        note(epfd, fd, event)
        table_set(fd, KVO_WATCHED)
        return 0
    if not here or op != EPOLL_CTL_DEL and event == NULL:
        return -EINPROGRESS
    if op == EPOLL_CTL_MOD and not notable(event):
        return TAGGED_NOW if tag_watched(fd) else -EINPROGRESS
    if kvo_next.epoll_ctl(epfd, op, fd, event):
        return -errno
    if op == EPOLL_CTL_DEL:
        table_set(fd, KVO_SOCKET)
    elif notable(event):
        note(epfd, fd, event)  # an ADD that succeeds: the set of that name is another one
    else:
        table_set(fd, KVO_KERNEL)
    return 0


cdef inline void named_twice(int fd) noexcept nogil:
    """The socket gets a second descriptor (dup, fork) before it is connected. The one that is not connected would not know of
    the ring, so there will be none."""
    cdef int32_t kind = ident_of_fd(fd)
    if kind == KVO_SOCKET or kind == KVO_WATCHED or kind == KVO_TAGGED:
        table_set(fd, KVO_TWICE)


cdef inline void sockets_forked() noexcept nogil:
    """Before fork()."""
    cdef uint32_t fd
    for fd in range(kvo_load32(&kvo_process.fd_high) + 1 if kvo_process.table_len else 0):
        named_twice(<int>fd)
