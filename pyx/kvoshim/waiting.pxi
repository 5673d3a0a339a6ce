# What kvoshim.select sees of the core: poll and epoll with the readiness of our connections in them. Descriptors are ints,
# times seconds (None: for ever). A signal's handler runs while a call waits; what it raises comes out.

def is_ours(int fd):
    """Is the descriptor a connection of ours, switched or about to?"""
    return ident_of_fd(fd) < 0


def poll(dict interests, timeout):
    """As ppoll(): [(descriptor, events)] of those of interests ({descriptor: events}) that are ready."""
    cdef nfds_t i = 0, n = <nfds_t>len(interests)
    cdef pollfd *fds = <pollfd *>malloc((n + 1) * sizeof(pollfd))
    cdef timespec left, deadline
    cdef bint timed = timeout is not None
    cdef int r
    if fds == NULL:
        raise MemoryError
    try:
        for fd, events in interests.items():
            fds[i].fd = fd
            fds[i].events = <short><unsigned short>events
            fds[i].revents = 0
            i += 1
        if timed:
            deadline_in(&deadline, timeout)
        while True:
            if timed:
                time_left(&deadline, &left)
            with nogil:
                r = kvo_poll(fds, n, &left if timed else NULL, NULL)
            if r >= 0:
                return [(fds[i].fd, fds[i].revents) for i in range(n) if fds[i].revents]
            if r != -EINTR:
                raise_errno(-r)
            PyErr_CheckSignals()
    finally:
        free(fds)


def epoll_begin(int epfd):
    """Looks after an epoll set from here on, before anything is registered in it."""
    if kvo_process.table_len:
        set_make(epfd)


def epoll_end(int epfd):
    """The set's descriptor is about to be closed."""
    if kvo_process.table_len:
        epollset_close(epfd)


def epoll_ctl(int epfd, int op, int fd, uint32_t events):
    """As epoll_ctl(); the data word is the descriptor."""
    cdef epoll_event event
    cdef int r
    event.events = events
    event.data.u64 = <uint64_t><uint32_t>fd
    r = epollset_ctl(epfd, op, fd, &event) if kvo_process.table_len and ident_of_fd(fd) < 0 else -EINPROGRESS
    if r == -EINPROGRESS:
        r = -errno if kvo_next.epoll_ctl(epfd, op, fd, &event) else 0
    if r < 0:
        raise_errno(-r)


def epoll_wait(int epfd, int most, timeout):
    """As epoll_wait(): [(descriptor, events)], at most that many."""
    cdef epoll_event *events = <epoll_event *>malloc(<size_t>most * sizeof(epoll_event))
    cdef timespec left, deadline
    cdef bint timed = timeout is not None
    cdef bint known = set_at(epfd) != NULL
    cdef int i, r, ms = -1
    if events == NULL:
        raise MemoryError
    try:
        if timed:
            deadline_in(&deadline, timeout)
        while True:
            if timed:
                time_left(&deadline, &left)
                ms = <int>(left.tv_sec * 1000 + (left.tv_nsec + 999999) // 1000000)
            with nogil:
                if known:
                    r = epollset_wait(epfd, events, most, &left if timed else NULL, NULL)
                else:
                    r = kvo_next.epoll_pwait(epfd, events, most, ms, NULL)
                    r = -errno if r < 0 else r
            if r >= 0:
                return [(<int>events[i].data.u64, events[i].events) for i in range(r)]
            if r != -EINTR:
                raise_errno(-r)
            PyErr_CheckSignals()
    finally:
        free(events)
