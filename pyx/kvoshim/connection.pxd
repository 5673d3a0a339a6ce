# The connection table: one slot a connection, named by a negative ID; one word a descriptor, which holds that ID.
#
# Life of a connection, as this process sees it (ARCHITECTURE.md tells the whole story):
#
#   client:  MARKED -> PENDING -> LIVE            server:  CANDIDATE -> OFFERED -> LIVE
#               \________\______-> PLAIN                      \___________\______-> PLAIN
#
# Everything here is process-private memory; what two processes share is in layout.h.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *

cdef enum:
    FIRST_ID = -100
    QUARANTINE = 16  # closed slots that keep their memory for a while, in a process with threads

cdef extern from "stats_layout.h" nogil:
    const uint32_t FREE "KVO_FREE"
    const uint32_t MARKED "KVO_MARKED"        # client: marked, not connected yet
    const uint32_t PENDING "KVO_PENDING"      # client: connected, on the kernel, no offer seen
    const uint32_t CANDIDATE "KVO_CANDIDATE"  # server: accepted from a marked client, nothing offered yet
    const uint32_t OFFERED "KVO_OFFER_MADE"   # server: offered; each operation looks whether the client has attached
    const uint32_t LIVE "KVO_LIVE"            # both ends are attached; each direction switches at its cut
    const uint32_t PLAIN "KVO_PLAIN"          # on the kernel for good, until close()

# What waiting has lately been worth, for one direction.
cdef struct spin_t:
    uint32_t score   # 0..256, moving average of "the spin ended in success"
    uint32_t tick    # waits since the last probe
    uint32_t period  # waits between two probes
    uint32_t crowd   # how often in a row long yields have cost more than was saved
    uint32_t queue   # the last spin that was worth it had yielded to others
    uint32_t patience # between my message and the first look for the answer (spin.pxd); receiving only
    uint64_t saved   # ticks that spins have saved, less those that long yields have cost
    uint64_t later   # no spin before this time; 0: at any time

# Descriptors that came with an ancillary record.
cdef struct stash_t:
    stash_t *next
    bint cut_off  # some found no room
    int count
    int fds[253]

# What the lower layers know of an epoll registration (epollset.pxd). A kick makes the next wait on its set look at it.
cdef struct watch_t:
    watch_t *next            # other registrations of the same connection
    uint32_t *set_sleepers   # threads in the kernel's wait on its set
    void **set_kicks         # its set's list of those that were kicked, newest first
    watch_t *next_kicked
    uint32_t kicked          # 1: it is on that list
    int32_t slot             # waiting slot of the connection's side, -1: none; changed under watch_lock

cdef struct conn_t:
    uint32_t state
    int32_t fds              # descriptors of this process that name it
    int32_t fd               # one of them
    int32_t role             # 0 client, 1 server: index of "me" in the header
    side_t *me
    side_t *peer
    news_t *news             # mine; the peer's is the other of the pair (their_news)
    uint8_t *out             # ring I write
    uint8_t *inc             # ring I read
    uint64_t size            # bytes of each ring: private copy, checked at attach
    uint64_t calm            # the peer's flags and closing while nothing is unusual (quick.pxd); 0: something may be
    conn_stats_t *stats      # counters, and a copy of what other processes may see (stats_layout.h)
    uint32_t send_ring       # my direction has switched
    uint32_t recv_ring       # the peer's direction has switched, and the kernel's bytes are read
    uint32_t send_back       # my direction has gone back to the kernel, with all that was left in the ring
    uint32_t recv_back       # the peer's direction has gone back, and ring and bells are read
    uint32_t gone            # the kernel says that the peer has closed
    uint32_t closing_seen
    uint32_t shadow          # poll, select or epoll on it go through us
    uint32_t shared          # forked since it went live: another process may use it too
    uint32_t native_shut     # the kernel socket itself has been shut down
    uint32_t lock            # negotiation, within this process
    uint32_t early_sleepers  # threads asleep in the kernel since before it was attached
    int32_t early_slot       # the waiting slot that they share, -1: none; changed under watch_lock
    uint32_t sleepers        # threads asleep on it: its memory stays
    uint32_t rang            # the peer slept when I last sent
    uint32_t stamped         # sends with a stamp
    uint32_t silent_sends    # sends since I last received
    uint32_t silent_receives # receives since I last sent
    uint32_t spun            # this receive has spun in vain already
    uint32_t fenced          # the peer's writers are known to fence as long as this turn lasts (doorbell.pxd)
    uint32_t awake           # fences in a row that found nobody of the peer's asleep
    uint32_t full            # counts sends that found the ring full
    uint32_t moves           # before the switch: kernel calls that moved bytes
    uint32_t answers         # of these, receives of a PENDING client, weighted
    uint32_t asked           # it has sent since
    uint32_t awaits          # client: an offer may come to the rendezvous
    uint32_t calls           # that block in the kernel and will be counted when they return
    int32_t offering         # client: from the rendezvous, the offer not read yet
    int32_t memfd            # the segment, kept for a successor by exec; -1: no descriptor to spare
    int32_t next_free
    uint64_t kernel_sent     # counts while PENDING or CANDIDATE
    uint64_t kernel_read
    uint64_t alive_ticks     # when the peer was last known to move
    uint64_t alive_head
    uint64_t looked_ticks    # when the kernel was last asked on an empty, non-blocking receive
    spin_t receiving
    spin_t sending
    uint32_t waited          # ticks for answers, with this patience
    uint32_t waited_before   # and with the one before
    stash_t *stash           # ancillary records taken off the kernel socket, not delivered yet; oldest first
    uint32_t records_off     # how many have been taken off, ever
    uint32_t records_given   # and delivered
    uint32_t records_lost    # those, by number modulo 32, whose descriptors found no room in this process
    watch_t *registrations   # epoll, under watch_lock
    uint32_t watch_lock
    uint64_t since_ns        # connect() or accept()
    uint32_t reason          # why it is PLAIN
    int32_t peer_pid         # 0: not known
    uint8_t nonce[16]
    char path[108]           # to KVO_SLOT_BYTES, a power of two: each call finds its slot by a shift


cdef inline conn_t *conn_at(int32_t ident) noexcept nogil:
    return <conn_t *>(<char *>kvo_process.slots + FIRST_ID * <int64_t>sizeof(conn_t) - ident * <int64_t>sizeof(conn_t))


cdef inline int32_t ident_of(conn_t *c) noexcept nogil:
    return <int32_t>(FIRST_ID - (c - <conn_t *>kvo_process.slots))


cdef inline header_t *header_of(const conn_t *c) noexcept nogil:
    """Of the segment, where there is one: where me is not NULL."""
    return <header_t *>(<uintptr_t>c.me & ~<uintptr_t>(KVO_HEADER_BYTES - 1))  # mapped at a page, which it fills


cdef inline news_t *their_news(const conn_t *c) noexcept nogil:
    return <news_t *>(<uintptr_t>c.news ^ sizeof(news_t))  # two halves of one line


cdef inline int32_t table_get(uint32_t fd) noexcept nogil:
    return <int32_t>kvo_load32(<uint32_t *>&kvo_process.table[fd])


cdef inline int32_t ident_of_fd(int fd) noexcept nogil:
    """The connection ID of a descriptor; >= 0 when it is not ours."""
    if <uint32_t>fd >= kvo_process.table_len:
        return 0
    return table_get(<uint32_t>fd)


cdef inline void upset(conn_t *c) noexcept nogil:
    """After a change that the quick way has to know of: it asks again (quick.pxd)."""
    kvo_store64(&c.calm, 0)


cdef inline void enter(conn_t *c, uint32_t state) noexcept nogil:
    if (state == LIVE) != (kvo_load32(&c.state) == LIVE):
        kvo_add32(&kvo_process.live, 1 if state == LIVE else <uint32_t>-1)
    # SYNC POINT state: what the connection has in the new state (segment, sizes, nonce) becomes visible with it
    kvo_release32(&c.state, state)
    upset(c)
    kvo_store32(&c.stats.state, state)


cdef inline uint32_t state_of(conn_t *c) noexcept nogil:
    return kvo_acquire32(&c.state)  # SYNC POINT state


cdef inline void set_flag(uint32_t *word, uint32_t value) noexcept nogil:
    """send_ring to gone: how far the connection has come."""
    kvo_release32(word, value)  # SYNC POINT progress: what made it so is visible to whoever sees it


cdef inline uint32_t is_set(const uint32_t *word) noexcept nogil:
    return kvo_acquire32(word)  # SYNC POINT progress


cdef inline int32_t fd_of(const conn_t *c) noexcept nogil:
    """One of its descriptors; -1: none that is known."""
    return <int32_t>kvo_load32(<const uint32_t *>&c.fd)


cdef inline int32_t offering_of(const conn_t *c) noexcept nogil:
    """A socket on which an offer is to come, which any thread of the client may have accepted; -1: none."""
    return <int32_t>is_set(<const uint32_t *>&c.offering)


cdef inline void bump(uint32_t *word) noexcept nogil:
    """A count that steers and decides nothing: that threads lose one now and then is cheaper than a locked addition."""
    kvo_store32(word, kvo_load32(word) + 1)


cdef inline void count(uint64_t *counter, uint64_t n) noexcept nogil:
    kvo_store64(counter, kvo_load64(counter) + n)


cdef inline void count_sent(conn_t *c, ssize_t n) noexcept nogil:
    """What a send through the kernel returned."""
    if n > 0:
        count(&c.stats.sent, <uint64_t>n)
        count(&c.stats.sends, 1)


cdef inline void count_received(conn_t *c, ssize_t n, bint peek) noexcept nogil:
    if n > 0 and not peek:
        count(&c.stats.received, <uint64_t>n)
        count(&c.stats.receives, 1)


cdef inline void count_sleep(conn_t *c) noexcept nogil:
    count(&c.stats.sleeps, 1)
    kvo_stats_cover(<uint32_t>(c - <conn_t *>kvo_process.slots))  # a forked child shows what it was given once it waits


cdef inline void count_spin(conn_t *c, bint won) noexcept nogil:
    count(&c.stats.spins_won if won else &c.stats.spins_lost, 1)


cdef inline void describe(conn_t *c) noexcept nogil:
    """Tells the statistics what the connection is."""
    cdef conn_stats_t *s = c.stats
    cdef uint32_t sequence = kvo_load32(&s.sequence) | 1
    kvo_exchange32(&s.sequence, sequence)
    s.since_ns = c.since_ns
    s.reason = c.reason
    s.role = <uint32_t>c.role
    s.peer_pid = c.peer_pid
    memcpy(s.path, c.path, KVO_STATS_PATH)
    kvo_store32(&s.state, state_of(c))
    kvo_release32(&s.sequence, sequence + 1)


cdef inline void name_connection(conn_t *c, const char *path, size_t length) noexcept nogil:
    """path as in sun_path."""
    memcpy(c.path, path, length if length < 107 else 107)
    if length and c.path[0] == 0:
        c.path[0] = c'@'
    describe(c)


cdef inline void table_set(int fd, int32_t value) noexcept nogil:
    if <uint32_t>fd < kvo_process.table_len:
        kvo_store32(<uint32_t *>&kvo_process.table[fd], <uint32_t>value)
        kvo_raise32(&kvo_process.fd_high, <uint32_t>fd)


# Locks of this process. A signal handler may interrupt their holder and come here itself, so who changes what lasts (slots,
# states, offers) holds signals back first: kvo_hold_signals(). A lock that is held without that (a connection's, for one
# counted kernel call; those of epoll sets) knows its thread.
cdef inline bint own_lock(uint32_t *word) noexcept nogil:
    """False: this thread holds it already, further down its stack."""
    cdef uint32_t me = <uint32_t>kvo_tid()
    while not kvo_cas32(word, 0, me):
        if kvo_load32(word) == me:
            return False
        sched_yield()
    return True


cdef inline void private_lock(uint32_t *word) noexcept nogil:
    while not kvo_cas32(word, 0, 1):
        sched_yield()


cdef inline void private_unlock(uint32_t *word) noexcept nogil:
    kvo_release32(word, 0)


cdef inline void kick(conn_t *c) noexcept nogil:
    """Has all epoll registrations of the connection looked at by the next wait on their set."""
    cdef watch_t *w
    cdef void *first
    if kvo_load_pointer(&c.registrations) == NULL:
        return
    private_lock(&c.watch_lock)
    w = c.registrations
    while w != NULL:
        if kvo_exchange32(&w.kicked, 1) == 0:
            while True:
                first = kvo_load_pointer(w.set_kicks)
                w.next_kicked = <watch_t *>first
                if kvo_cas_pointer(w.set_kicks, first, w):
                    break
        w = w.next
    private_unlock(&c.watch_lock)


cdef inline int32_t slot_of(const watch_t *w) noexcept nogil:
    return <int32_t>kvo_load32(<const uint32_t *>&w.slot)


cdef inline void set_slot(watch_t *w, int32_t slot) noexcept nogil:
    kvo_store32(<uint32_t *>&w.slot, <uint32_t>slot)


cdef inline bint scarce(int error) noexcept nogil:
    """No descriptor or no memory."""
    return error == EMFILE or error == ENFILE or error == ENOMEM or error == ENOBUFS


cdef inline bint in_vfork_child() noexcept nogil:
    """A vfork child shares our memory: its descriptors are its own, our table is not."""
    return getpid() != kvo_process.pid


cdef inline void conn_unmap(conn_t *c) noexcept nogil:
    if c.me != NULL:
        munmap(header_of(c), KVO_HEADER_BYTES + 2 * c.size)
        c.me = NULL


cdef inline conn_t *conn_new(int fd, uint32_t state, int role) noexcept nogil:
    """A slot for a descriptor that is in the table's range; NULL when all are taken. Signals are held back."""
    cdef conn_t *c = NULL
    cdef int32_t free
    cdef uint32_t index
    if <uint32_t>fd >= kvo_process.table_len:
        return NULL
    private_lock(&kvo_process.slot_lock)
    free = kvo_process.slot_free - 1
    if free >= 0 and (kvo_process.slots_free > QUARANTINE or kvo_single_threaded()
                      or kvo_process.slot_high == kvo_process.slot_limit):
        c = (<conn_t *>kvo_process.slots) + free
        kvo_process.slot_free = c.next_free
        kvo_process.slots_free -= 1
        conn_unmap(c)
    elif kvo_process.slot_high < kvo_process.slot_limit:
        c = (<conn_t *>kvo_process.slots) + kvo_process.slot_high
        kvo_release32(&kvo_process.slot_high, kvo_process.slot_high + 1)
    private_unlock(&kvo_process.slot_lock)
    if c == NULL:
        return NULL
    KVO_IS_SLOT(sizeof(conn_t))
    memset(&c.state + 1, 0, sizeof(conn_t) - sizeof(state_of(c)))  # the state is FREE, and a late thread may be looking at it
    c.role = role
    c.fds = 1
    kvo_store32(<uint32_t *>&c.fd, <uint32_t>fd)
    kvo_store32(<uint32_t *>&c.offering, <uint32_t>-1)
    c.memfd = c.early_slot = -1
    c.receiving.score = c.sending.score = 128
    c.receiving.period = c.sending.period = 16
    c.since_ns = kvo_stats_now()
    index = <uint32_t>(c - <conn_t *>kvo_process.slots)
    kvo_stats_cover(index)
    c.stats = kvo_stats_slot(index)
    memset(c.stats, 0, KVO_STATS_COUNTER_BYTES)
    enter(c, state)
    describe(c)
    table_set(fd, ident_of(c))
    return c


cdef inline void slot_free(conn_t *c) noexcept nogil:
    """The slot, FREE, may be used again, but not at once where there are threads: one that was in the middle of a call on the
    connection finds that state, in memory that is still there. Signals are held back."""
    cdef int32_t place = <int32_t>(c - <conn_t *>kvo_process.slots) + 1
    private_lock(&kvo_process.slot_lock)
    if kvo_single_threaded():
        conn_unmap(c)
    c.next_free = 0
    if kvo_process.slots_free == 0:
        kvo_process.slot_free = place
    else:
        ((<conn_t *>kvo_process.slots) + kvo_process.slot_last - 1).next_free = place
    kvo_process.slot_last = place
    kvo_process.slots_free += 1
    private_unlock(&kvo_process.slot_lock)


cdef inline void close_quietly(int32_t *fd) noexcept nogil:
    """Closes one of our own descriptors; errno stays."""
    cdef int saved = errno
    if fd[0] >= 0:
        table_set(fd[0], 0)
        kvo_close_now(fd[0])
        fd[0] = -1
        kvo_set_errno(saved)


cdef inline int32_t make_internal(int fd) noexcept nogil:
    """Moves one of our own descriptors out of the program's way; -1 (and closed) when there is no room."""
    cdef int saved = errno
    cdef int32_t high
    if fd < 0:
        return -1
    high = kvo_next.fcntl(fd, F_DUPFD_CLOEXEC, kvo_process.internal_from)
    kvo_close_now(fd)
    if high >= 0:
        table_set(high, KVO_INTERNAL)
    kvo_set_errno(saved)
    return high


cdef inline void keep_memfd(conn_t *c, int memfd) noexcept nogil:
    """For a successor by exec. But most numbers are the program's: beyond a quarter of its limit, exec takes the connection
    back to the kernel."""
    if kvo_add32(&kvo_process.memfds, 1) < kvo_descriptor_limit() // 4:
        c.memfd = make_internal(memfd)
    else:
        kvo_close_now(memfd)
    if c.memfd < 0:
        kvo_add32(&kvo_process.memfds, <uint32_t>-1)


cdef inline void drop_memfd(conn_t *c) noexcept nogil:
    """By one thread, though several may try."""
    cdef int32_t memfd = <int32_t>kvo_exchange32(<uint32_t *>&c.memfd, <uint32_t>-1)
    if memfd >= 0:
        close_quietly(&memfd)
        kvo_add32(&kvo_process.memfds, <uint32_t>-1)


cdef inline bint drop_rendezvous() noexcept nogil:
    """Clients that wait for an offer there stay on the kernel socket; the next one has a new rendezvous made."""
    cdef uint64_t signals
    if kvo_process.rendezvous < 0:
        return False
    signals = kvo_hold_signals()
    private_lock(&kvo_process.rendezvous_lock)
    close_quietly(&kvo_process.rendezvous)
    private_unlock(&kvo_process.rendezvous_lock)
    kvo_release_signals(signals)
    return True


cdef inline bint drop_memfds() noexcept nogil:
    """The program has met its limit of descriptors: it gets all that are not needed. False: there were none."""
    cdef uint32_t i, before = kvo_load32(&kvo_process.memfds)
    cdef conn_t *c
    if in_vfork_child():
        return False
    if before == 0:
        return drop_rendezvous()
    for i in range(kvo_acquire32(&kvo_process.slot_high)):
        c = (<conn_t *>kvo_process.slots) + i
        if state_of(c) != FREE:
            drop_memfd(c)
    return True
