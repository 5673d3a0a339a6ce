# The protocol is the one of the controller's sleep (docs/kvo.md): the sleeper makes its epoch odd, fences, looks at the dirty
# rings once more and sleeps; an owner appends to its ring, fences, looks at the epoch and rings if it is odd, once a sleep.
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close, usleep

from kvoshim._memory cimport fork_generation, memory_create, memory_open, memory_unmap
from kvoshim._store cimport Reader
from kvoshim.store_protocol cimport (
    KVO_LAYOUT, KVO_PAGE, KVOB_MAGIC, fall_asleep, kvo_fence, kvo_load64, kvo_relax, kvob_page, ring_head, wake_up)

import os

from kvoshim.errors import CorruptStoreError, LimitError

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events, revents
    int poll(pollfd *fds, unsigned long count, int timeout)
    int POLLIN

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int fd, void *data, size_t length, int flags)

cdef extern from "<fcntl.h>" nogil:
    int fcntl(int fd, int command, ...)
    int F_DUPFD_CLOEXEC

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef enum:  # what wait() has found
    FOUND_LINK = 1
    FOUND_STORES = 2
    FOUND_BROKEN = 4
LINK, STORES, BROKEN = FOUND_LINK, FOUND_STORES, FOUND_BROKEN

cdef enum:
    SCORE = 64           # of 256: how often spins were worth it, from which on waits begin with one
    WAKING_NS = 20000    # that being woken takes about: a sleep that was shorter than a spin and this would have been one
    CROWDED_SHORTEST = 64   # waits before the next spin, after the first yield that took long; doubled with each
    CROWDED_MOST = 7        # times
    CALM = 65536            # spins that make good for all of them
    WASTED_MOST = 64     # rings in a row with nothing to see, before they are held up


cdef uint64_t now_ns() noexcept nogil:
    cdef timespec moment
    clock_gettime(CLOCK_MONOTONIC, &moment)
    return <uint64_t> moment.tv_sec * 1000000000 + <uint64_t> moment.tv_nsec


cdef kvob_page *open_page(int fd, size_t *size) except NULL:
    # No more than a page: what a client hands in is mapped by all who ring it.
    cdef kvob_page *page = <kvob_page *> memory_open(fd, KVO_PAGE, KVO_PAGE, size)
    if page.magic != KVOB_MAGIC or page.layout != KVO_LAYOUT:
        memory_unmap(<char *> page, size[0])
        raise CorruptStoreError(f"no bell page of layout {KVO_LAYOUT}")
    return page


cdef class Bell:
    """Rings another process. page: descriptor of its bell page; sock: of the socket. The caller keeps both.

    CorruptStoreError if the page is none; LimitError if there is no descriptor or memory left.
    """

    def __cinit__(self):
        self.fd = -1

    def __init__(self, int page, int sock):
        self.page = open_page(page, &self.size)
        self.fd = fcntl(sock, F_DUPFD_CLOEXEC, 0)
        if self.fd < 0:
            raise LimitError(f"no descriptor for a bell: {os.strerror(errno)}")

    def __dealloc__(self):
        if self.page != NULL:
            memory_unmap(<char *> self.page, self.size)
        if self.fd >= 0:
            close(self.fd)

    @property
    def asleep(self) -> bool:
        """Whether the other process says so."""
        return bool(kvo_load64(&self.page.epoch) & 1)

    def ring(self) -> None:
        """Wakes it if it sleeps."""
        kvo_fence()
        bell_ring(self.page, &self.rung, self.fd)


cdef class Sleeper:
    """Says whether this process sleeps, and sleeps. Used by one thread at a time."""

    def __cinit__(self):
        self.fd = self.bell = -1
        self.generation = fork_generation()

    def __init__(self):
        cdef char *base
        self.size = KVO_PAGE
        self.fd = memory_create("kvoshim-bell", self.size, &base)
        self.page = <kvob_page *> base
        self.page.layout = KVO_LAYOUT
        self.page.header_size = sizeof(kvob_page)
        self.page.magic = KVOB_MAGIC

    def __dealloc__(self):
        # In a forked child the mapping is gone, and its address may be another's by now.
        if self.page != NULL and self.generation == fork_generation():
            memory_unmap(<char *> self.page, self.size)
        if self.fd >= 0:
            close(self.fd)
        if self.bell >= 0:
            close(self.bell)

    def hear(self, int bell) -> None:
        """Takes a socket to be rung on from now on, in place of the one before; it is the sleeper's. -1: none."""
        if self.bell >= 0:
            close(self.bell)
        self.bell = bell

    def arm(self, list stores) -> bool:
        """Says that this process sleeps, and looks once more: False if there is something in the dirty rings."""
        fall_asleep(&self.page.epoch)
        return not self.written(stores)

    def disarm(self) -> None:
        """Says that it is awake."""
        wake_up(&self.page.epoch)

    cpdef bint written(self, list stores) except -1:
        """Whether the dirty ring of any of these Monitors has something that was not taken."""
        cdef Reader store
        for store in stores:
            if store.base != NULL and ring_head(store.header) != store.tail:
                return True
        return False

    cpdef bint silence(self) noexcept:
        """Takes what the bell was rung with; False if nobody can ring it any more."""
        cdef char rings[512]
        cdef ssize_t got
        self.noisy = False
        if self.bell < 0:
            return True
        got = recv(self.bell, rings, sizeof(rings), 0x40)  # MSG_DONTWAIT; more than that is left for the next time
        return got > 0 or got < 0 and (errno == EAGAIN or errno == EINTR)

    cpdef int wait(self, list stores, int link, double timeout, int spin_us) except -1:
        """Sleeps until one of the stores is written to, or the descriptor `link` (-1: none) is readable, or the time is over
        (negative: never), or a signal has come. Returns what there is: LINK, STORES, BROKEN (nobody can ring any more)."""
        cdef pollfd fds[2]
        cdef int found = 0, milliseconds, count
        cdef uint64_t begun
        self.slept = False
        if self.noisy and not self.silence():
            return FOUND_BROKEN
        if self.written(stores):
            return FOUND_STORES
        if timeout != 0 and spin_us and stores and self.worth() and self.spin(stores, spin_us):
            return FOUND_STORES
        fall_asleep(&self.page.epoch)
        if self.written(stores):
            wake_up(&self.page.epoch)
            return FOUND_STORES
        if self.wasted > WASTED_MOST and timeout != 0:
            with nogil:
                usleep(1000)  # somebody rings for nothing, over and over: he is heard a thousand times a second
        fds[0].fd, fds[1].fd = link, self.bell
        fds[0].events = fds[1].events = <short> POLLIN
        fds[0].revents = fds[1].revents = 0
        self.slept = True
        milliseconds = -1 if timeout < 0 else <int> min(timeout * 1000 + 0.999, <double> 1e9)
        begun = now_ns()
        with nogil:
            count = poll(fds, 2, milliseconds)
        wake_up(&self.page.epoch)
        if count > 0 and fds[0].revents:
            found |= FOUND_LINK
        if self.written(stores):
            self.wasted = 0
            self.learn(now_ns() - begun < <uint64_t> spin_us * 1000 + WAKING_NS)
            if fds[1].revents == POLLIN and not found:
                # What was written first: the bell is silenced before the next sleep.
                self.noisy = True
                return FOUND_STORES
            found |= FOUND_STORES
        if count > 0 and fds[1].revents and not self.silence():
            found |= FOUND_BROKEN
        if count > 0 and fds[1].revents and not found:
            self.wasted += 1
        return found

    # --- spinning ---------------------------------------------
    # Whether it is worth it is learned from how long sleeps last: one that ends at once need not have been. So nobody spins in vain
    # to find out. Connections have to (spin.pxd): their sleeps are not all seen. Here many owners write when they like, a yield
    # that takes long is judged by itself, and pauses are counted in waits, not in time.

    cdef bint worth(self) noexcept:
        if self.pause:
            self.pause -= 1
            return False
        return self.score >= SCORE

    cdef void learn(self, bint short) noexcept:
        self.score = self.score + ((256 - self.score) >> 2) if short else self.score >> 1

    cdef bint spin(self, list stores, int spin_us) except -1:
        """Looks at the dirty rings for at most so long; True as soon as there is something."""
        cdef uint64_t **heads
        cdef uint64_t *tails
        cdef Reader store
        cdef size_t count = 0, room = len(stores)
        cdef bint found = False, crowded = False
        heads = <uint64_t **> malloc(room * sizeof(void *))
        tails = <uint64_t *> malloc(room * sizeof(uint64_t))
        held = []
        try:
            if heads == NULL or tails == NULL:
                raise MemoryError()
            for store in stores:
                if store.base != NULL:
                    store.users += 1  # stays mapped so long
                    held.append(store)
                    heads[count], tails[count] = &store.header.ring_head, store.tail
                    count += 1
            with nogil:
                found = look(heads, tails, count, <uint64_t> spin_us * 1000, &crowded)
        finally:
            for store in held:
                store.leave()
            free(heads)
            free(tails)
        if crowded:
            self.score, self.pause, self.calm = 0, CROWDED_SHORTEST << self.crowd, 0
            self.crowd = min(self.crowd + 1, CROWDED_MOST)
            return False
        self.learn(found)
        if found:
            self.calm += 1
            if self.calm == CALM:
                self.crowd = 0
        return found


cdef bint look(uint64_t **heads, uint64_t *tails, size_t count, uint64_t longest, bint *crowded) noexcept nogil:
    """A microsecond of pauses, then pauses with sched_yield between, in case that CPU has other work."""
    cdef uint64_t start = now_ns(), now = start, before
    cdef size_t i
    cdef int turn
    while now - start < longest:
        if now - start > 1000:
            before = now
            sched_yield()
            now = now_ns()
            if now - before > 300000:  # it went to somebody busy: a sleeper is served sooner than one who yields
                crowded[0] = True
                return False
        for turn in range(24):
            for i in range(count):
                if kvo_load64(heads[i]) != tails[i]:
                    return True
            kvo_relax()
        now = now_ns()
    return False
