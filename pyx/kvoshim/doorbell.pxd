# Sleeping and waking.
#
# The kernel socket under the connection is doorbell and lifeline in one. After a direction's cut its kernel stream carries
# nothing but doorbell bytes; a sleeper sleeps in the kernel on the application's own descriptor, in recv, poll or
# epoll_wait, and the same sleep ends when the peer closes, dies, or when a signal or a timeout comes. No further
# descriptor is needed, and a loop whose registration we never saw wakes all the same.
#
#   sleeper:  old = bells outstanding            writer:  publish tail
#             wait |= WANT_DATA                           fence
#             fence                                       .
#             look at the ring again                      if wait & WANT_DATA: clear it (swap);
#             drain exactly old bells                        if it was set: rung += 1, send one byte
#             sleep
#
# The fences are StoreLoad: without them each could miss the other's store. Where both processes take part in membarrier's
# expedited fences one of two ways is chosen, by what has lately been rare:
#
#   * writing is not, sleeping is: the sleeper makes every CPU fence, and the writer's is free. This costs 150 ns, but a
#     hundred times that where it has to interrupt another CPU (14 to 20 us in a virtual machine: more than a sleep).
#   * sleeping is not rare: each fences for itself. A sleeper that has fenced everywhere wishes for it (KVO_WANT_FENCE, which the
#     writer sees where it looks for wishes anyway), so only its first sleep costs that much. A writer that has found nobody
#     asleep AWAKE_MOST times takes the wish back.
#
# Each time that the wish is made is a turn of its own. Who has fenced everywhere since a turn began knows that every writer
# that has looked before it has published visibly, and that every other one fences until the turn is over; so as long as
# the very operation that arms finds that turn, its own fence will do. Another process or thread of its side can't know
# that: each process keeps the turn that it has fenced for (c.fenced).
#
# Bells are counted (rung, drained), so nobody asks the kernel for a bell that was never rung, nor takes one rung after it
# armed.
#
# Invariant, while others wait on the descriptor unseen (kvo_process.foreign_wait, or no poll or epoll of ours has met the
# connection yet): "not armed" implies that at least one bell lies in the kernel socket, which keeps it readable until a
# receive finds the ring empty and arms again.
from libc.stdint cimport int32_t, int64_t, uint32_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.lock cimport alone, nap, side_lock, side_unlock, owner_is_gone
from kvoshim.ring cimport ring_readable, least
from kvoshim.ancillary cimport take_bytes

cdef enum:
    AWAKE_MOST = 128   # fences of a writer's, at some 30 ns each, that found nobody asleep
    DRAIN_MOST = 256
    BELL_TRIES = 5000  # naps, for the kernel to have memory again
    TRIES = 100        # naps, for the peer to take bells out
    WAKE_UPS = KVO_WANT_DATA | KVO_WANT_SPACE | KVO_WANT_ROOM


cdef inline bint light(conn_t *c) noexcept nogil:
    """Both processes take part in expedited fences: the sleeper fences for both, the one that publishes does not."""
    return (kvo_load32(&c.me.flags) & kvo_load32(&c.peer.flags) & KVO_EXPEDITED) != 0


cdef inline void fence_as_wished(conn_t *c) noexcept nogil:
    """After publishing, where the peer wishes for a fence."""
    kvo_fence()
    if kvo_load32(&c.peer.wait) & WAKE_UPS:
        kvo_store32(&c.awake, 0)
        return
    bump(&c.awake)
    if kvo_load32(&c.awake) >= AWAKE_MOST:
        kvo_store32(&c.awake, 0)
        kvo_and32(&c.peer.wait, ~<uint32_t>KVO_WANT_FENCE)


cdef inline void fence_after_publishing(conn_t *c) noexcept nogil:
    """Between the store of an index and the look whether the peer sleeps."""
    if not light(c):
        kvo_fence()
        return
    kvo_light_fence()
    if kvo_load32(&c.peer.wait) & KVO_WANT_FENCE:
        fence_as_wished(c)


cdef inline uint32_t arm(conn_t *c, uint32_t bits) noexcept nogil:
    """Wishes to be woken. Between this and the second look at the ring a fence: my own if this returns 0, else one
    everywhere, after which fenced() may be told of the turn that this returns."""
    cdef uint32_t was = kvo_or32(&c.me.wait, bits), turn
    if not light(c) or was & KVO_WANT_FENCE and turn_of(was) == kvo_load32(&c.fenced):
        return 0
    while not was & KVO_WANT_FENCE:
        was = kvo_load32(&c.me.wait)
        turn = (was + KVO_WANT_TURN) | KVO_WANT_FENCE
        if not was & KVO_WANT_FENCE and kvo_cas32(&c.me.wait, was, turn):
            was = turn
    return turn_of(was)


cdef inline uint32_t turn_of(uint32_t wishes) noexcept nogil:
    """Never 0 while there is the wish for a fence."""
    return wishes & ~<uint32_t>WAKE_UPS


cdef inline void fence_before_sleep(bint everywhere) noexcept nogil:
    if everywhere:
        kvo_fence_everywhere()
    else:
        kvo_fence_after_rmw()


cdef inline void fenced(conn_t *c, uint32_t turn) noexcept nogil:
    """There was a fence everywhere since arm() returned this turn."""
    if turn:
        kvo_store32(&c.fenced, turn)


cdef inline void want(conn_t *c, uint32_t bits) noexcept nogil:
    """Arms, and fences before the second look at the ring."""
    cdef uint32_t turn = arm(c, bits)
    fence_before_sleep(turn != 0)
    fenced(c, turn)


cdef inline void look_at_kernel(conn_t *c, int fd) noexcept nogil:
    """Asks the kernel whether the peer has closed."""
    cdef pollfd p
    cdef int saved = errno
    kvo_store32(&c.closing_seen, kvo_load32(&c.peer.closing))
    p.fd = fd
    p.events = POLLRDHUP
    p.revents = 0
    if kvo_poll_now(&p, 1) == 1 and p.revents & POLLHUP and not kvo_load32(&c.native_shut):
        set_flag(&c.gone, 1)
        upset(c)
    kvo_set_errno(saved)


cdef inline bint ring_harder(int fd) noexcept nogil:
    """The socket is full of data from before the cut. It is readable then, but a sleeper that waits for room, or was
    told of those bytes already, needs a bell all the same: makes room for one."""
    cdef char byte = 0
    cdef int size = 0
    cdef socklen_t n = sizeof(int)
    if errno != EAGAIN or kvo_next.getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &n):
        return False
    kvo_next.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(int))  # the kernel doubles it
    return kvo_send_now(fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1


cdef inline bint departed(conn_t *c) noexcept nogil:
    """One of the ends goes back to the kernel socket (demote.pxd)."""
    return (kvo_acquire32(&c.me.flags) | kvo_acquire32(&c.peer.flags)) & (KVO_LEFT | KVO_BACK) != 0


cdef inline bint put_bell(conn_t *c, int fd) noexcept nogil:
    """Sends a bell that has been counted. False: uncounted again, errno says why."""
    cdef char byte = 0
    cdef uint32_t drained
    cdef int tries = 0
    while True:
        drained = kvo_load32(&c.peer.drained)
        if kvo_send_now(fd, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 or ring_harder(fd):
            return True
        # Full of bells: they wake everybody as long as they lie. Whoever takes some out has the lock, or has had it and changed
        # the count (then there is room now); or it comes later, finds this bell counted, and looks again instead (drain).
        if scarce(errno) and tries < BELL_TRIES:  # only this bell wakes the peer
            nap()
            tries += 1
            continue
        if errno != EAGAIN or tries >= TRIES:
            kvo_add32(&c.peer.drained, 1)
            return False
        if not kvo_load32(&c.peer.kernel_lock) and kvo_cas32(&c.peer.drained, drained, drained + 1):
            return False
        nap()
        kvo_set_errno(EAGAIN)
        tries += 1


cdef inline bint send_bell(conn_t *c, int fd) noexcept nogil:
    """Under my bell lock, my direction not BACK. False: errno says why the kernel didn't take it."""
    # Counted first: the send may hand this CPU to the very sleeper that it wakes, which would look for an uncounted bell
    # round and round.
    kvo_add32(&c.peer.rung, 1)
    kvo_fence_after_rmw()
    if kvo_acquire32(&c.peer.flags) & KVO_LEFT:  # SYNC POINT left: it takes bells no more, and is awake
        kvo_add32(&c.peer.drained, 1)  # it never was
        return True
    if not put_bell(c, fd):
        return False
    count(&c.stats.bells, 1)
    return True


cdef inline void rouse(side_t *side) noexcept nogil:
    """Wakes the senders of a side that sleep on its segment until there is room."""
    if kvo_load32(&side.wait) & KVO_WANT_ROOM and kvo_and32(&side.wait, ~KVO_WANT_ROOM) & KVO_WANT_ROOM:
        kvo_wake_all(&side.wait)


cdef inline void ring_bell(conn_t *c, int fd, uint32_t what) noexcept nogil:
    """Rings the peer if it waits for what, once a sleep. My direction has been cut before (LIVE)."""
    cdef int saved = errno
    cdef bint locked
    if what & KVO_WANT_SPACE:
        rouse(c.peer)
        if not kvo_load32(&c.peer.wait) & what:
            return
    locked = side_lock(c, &c.me.bell_lock) == 0  # else this thread holds it: a signal handler
    # Under the lock, so that the peer knows whether a bell is on its way that has not been counted (can_leave).
    if kvo_and32(&c.peer.wait, ~what) & what:
        if not kvo_load32(&c.me.flags) & KVO_BACK and not send_bell(c, fd):
            if errno == EAGAIN or scarce(errno):
                kvo_or32(&c.peer.wait, what)  # bells fill the socket: who drains them looks again (drain)
            else:
                look_at_kernel(c, fd)  # the peer may be gone
        if what == KVO_WANT_DATA:
            count(&c.stats.data_bells, 1)
        kvo_store32(&c.rang, 1)
    if locked:
        side_unlock(&c.me.bell_lock)
    kvo_set_errno(saved)


# ---- who waits ----
#
# A bell wakes everybody who sleeps on the descriptor, but the kernel asks again before it lets a poll or epoll_wait return:
# a bell that one thread drains before another has run is lost for that other. So whoever is going to wait in the kernel
# (a thread in a receive, a send or a poll, or an epoll registration that is off the hot list) holds a slot of its side, with
# the count of bells rung before it armed. It needs none of those; a later one stays in the kernel socket until it has woken.

cdef inline bint lead(conn_t *c) noexcept nogil:
    """Takes the lock around reading the kernel socket. False: this thread holds it already (a signal handler)."""
    return side_lock(c, &c.me.kernel_lock) == 0


cdef inline void unlead(conn_t *c) noexcept nogil:
    side_unlock(&c.me.kernel_lock)


cdef inline int slot_take(conn_t *c, uint32_t owner) noexcept nogil:
    """A waiting slot, from before arming to after waking; -1: none is free, wait in slices. Its floor is now."""
    cdef int i
    for i in range(<int>KVO_SLOTS):
        if kvo_load32(&c.me.slot_owner[i]) == 0 and kvo_cas32(&c.me.slot_owner[i], 0, owner):
            kvo_store32(&c.me.slot_floor[i], kvo_load32(&c.me.rung))
            return i
    return -1


cdef inline void slot_give(conn_t *c, int slot) noexcept nogil:
    if slot >= 0:
        kvo_release32(&c.me.slot_owner[slot], 0)


cdef inline uint32_t drainable(conn_t *c, uint32_t target, int mine) noexcept nogil:
    """Up to which count of bells, target at most, nobody but me (slot mine, or -1) needs one to be woken by."""
    cdef uint32_t floor, owner
    cdef watch_t *w
    cdef int i
    if kvo_load_pointer(&c.registrations) != NULL:
        kick(c)
        private_lock(&c.watch_lock)
        w = c.registrations
        while w != NULL:
            if w.slot >= 0 and kvo_load32(w.set_sleepers) == 0:
                slot_give(c, w.slot)  # kicked: it takes one again before it sleeps
                set_slot(w, -1)
            w = w.next
        private_unlock(&c.watch_lock)
    for i in range(<int>KVO_SLOTS):
        owner = kvo_load32(&c.me.slot_owner[i])
        if i == mine or owner == 0:
            continue
        floor = kvo_load32(&c.me.slot_floor[i])
        if <int32_t>(floor - target) < 0:
            if owner_is_gone(c, owner):
                kvo_cas32(&c.me.slot_owner[i], owner, 0)
            else:
                target = floor
    return target


cdef inline bint switch_receiving(conn_t *c) noexcept nogil:
    """Has the peer's direction switched, and are its kernel bytes all read?"""
    if is_set(&c.recv_ring):
        return True
    if is_set(&c.recv_back):
        return False  # it has switched back
    # SYNC POINT cut: pairs with go_live()
    if kvo_acquire32(&c.peer.flags) & KVO_CUT and kvo_load64(&c.me.kernel_read) >= kvo_load64(&c.peer.cut):
        set_flag(&c.recv_ring, 1)
        return True
    return False


cdef inline bint drain(conn_t *c, int fd, uint32_t target, uint32_t rung) noexcept nogil:
    """Takes bells out of the kernel socket, up to a count of them. With the peer's direction cut and its bytes read.
    True: those are out, or on their way still (counted, not sent yet); they will wake somebody for nothing, once.
    False: more than rung have been counted, of which one may have failed on those that lie here: they stay."""
    cdef char scratch[DRAIN_MOST]
    cdef ssize_t n
    cdef int32_t bells
    cdef bint done = False
    cdef int saved = errno
    if <int32_t>(target - kvo_load32(&c.me.drained)) <= 0:
        return True
    if lead(c):
        kvo_fence()  # pairs with send_bell(): a bell that is not counted yet finds the lock taken (put_bell)
        done = kvo_load32(&c.me.rung) == rung
        bells = <int32_t>(target - kvo_load32(&c.me.drained)) if done else 0
        if bells > 0:
            n = take_bytes(c, fd, scratch, least(<size_t>bells, DRAIN_MOST), MSG_DONTWAIT)
            if n == 0 or n == -ECONNRESET:
                look_at_kernel(c, fd)
        unlead(c)
    kvo_set_errno(saved)
    return done


cdef inline int32_t bells_out(conn_t *c) noexcept nogil:
    """Bells counted and not taken out. One that is counted and uncounted again meanwhile makes it one more, never one less."""
    cdef uint32_t drained = kvo_acquire32(&c.me.drained)
    return <int32_t>(kvo_load32(&c.me.rung) - drained)


cdef inline void drop_surplus(conn_t *c, int fd) noexcept nogil:
    """Takes bytes out that no bell was counted for: only a peer that breaks the rules sends them, and they would end each
    sleep at once, for ever. Bells are counted before they are sent, so what lay there before the look at the counts and is
    more than they say is surplus."""
    cdef char scratch[DRAIN_MOST]
    cdef int bytes = 0, saved = errno
    cdef int64_t surplus
    cdef ssize_t n
    if bells_out(c) > 0 or not switch_receiving(c) or not lead(c):
        return
    if kvo_next.ioctl(fd, FIONREAD, &bytes) == 0 and bytes > 0:
        kvo_fence()
        surplus = bytes - <int64_t>bells_out(c)
        if surplus > 0 and not departed(c):  # what a peer sends that has gone back to the kernel socket is data
            n = take_bytes(c, fd, scratch, least(least(<size_t>surplus, <size_t>bytes), DRAIN_MOST), MSG_DONTWAIT)
            if n > 0:
                kvo_add32(&c.me.drained, <uint32_t>-n)
    unlead(c)
    kvo_set_errno(saved)


cdef inline bint settled(conn_t *c, int fd, uint32_t target, int mine) noexcept nogil:
    """Armed, with target bells rung before that: drains those. False: some must stay for others, or because the ring
    is not empty and somebody may wait for data unseen; then the kernel socket stays readable and nobody can sleep on it.
    Or one has been rung meanwhile: look again."""
    cdef uint32_t limit
    if <int32_t>(target - kvo_load32(&c.me.drained)) <= 0:
        return True
    if not switch_receiving(c) or (kvo_process.foreign_wait and kvo_load64(&their_news(c).tail) != kvo_load64(&c.me.head)):
        return False
    limit = drainable(c, target, mine)
    return drain(c, fd, limit, target) and limit == target


cdef inline bint settle(conn_t *c, int fd) noexcept nogil:
    """The arm / second look / drain sequence for a thread that will not sleep here itself. True: armed, the ring is
    empty; False: look again."""
    cdef uint32_t target = kvo_load32(&c.me.rung)
    if kvo_load32(&c.me.wait) & KVO_WANT_DATA and target == kvo_load32(&c.me.drained):
        return kvo_load64(&their_news(c).tail) == kvo_load64(&c.me.head)
    want(c, KVO_WANT_DATA)
    if kvo_load64(&their_news(c).tail) != kvo_load64(&c.me.head):
        if alone(c):
            kvo_and32(&c.me.wait, ~KVO_WANT_DATA)
        return False
    settled(c, fd, target, -1)
    return kvo_load64(&their_news(c).tail) == kvo_load64(&c.me.head)
