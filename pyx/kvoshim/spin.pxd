# Whether and how long to spin before sleeping. A spin is worth its while when the peer answers sooner than a sleep and
# a wake-up would take; that is learned per connection and direction, from what the last spins brought:
#
#   * score: moving average of success, 0..256. Up a quarter of the way on success, halved on failure. Below a quarter,
#     waits go straight to sleep, except for a probe now and then, whose interval doubles while probes fail.
#   * the peer slept when I last sent: it needs a wake-up before it can answer, so I sleep too (but for probes). Two
#     sleepers find back to spinning because a probe of one of them sees the other's next message come at once.
#     (Not in a stream, where a bell is rung for a slower peer that will soon be at work, and not for room in the ring.)
#   * a yield that takes long has gone to a third process that is busy. Spins that were worth it save up for that, and when
#     what they have saved is spent, there is no more spinning for a while. With a hog on the CPU each yield takes
#     three milliseconds, and soon nobody yields any more.
#   * all who have stopped for that reason try again at the same time, a multiple of 2^25 ticks of the clock that they share
#     (13 ms, doubled up to 200 ms): a crowd of pairs that all yield is served twice as fast as one that sleeps, but
#     who yields alone in a crowd of sleepers is served last. (8 pairs on 2 CPUs: 10 us a trip when all yield, 20 when
#     all sleep, as kernel sockets; left to themselves, they never find out.)
#   * on the peer's own CPU, pausing can't help, only yielding can; and once yielding no longer switches to anybody,
#     nobody there is about to answer.
#   * in a stream (I only receive, small messages, from another CPU), looking at once would take the peer's cache line from it for every message;
#     three microseconds between two looks let it write a batch (measured: 8 million messages of 64 bytes a second
#     when looking at once, 17 million so).
#   * elsewhere, an answer is not looked for at once: who looks too early takes the cache line away from the peer that is
#     about to write into it, which costs two transfers. How long to wait is found out by trying a little more and a little less.
#   * then: a microsecond of pauses, then pauses with sched_yield between, in case that CPU has other work. Which comes
#     first, and without pauses, if the last message came while others had the CPU: they have their messages to answer too.
from libc.stdint cimport uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport bump, conn_t, spin_t, count_spin

cdef enum:
    STREAM = 16         # receives in a row that make a stream
    SPIN_SCORE = 64     # at least this: spin
    PROBE_LONGEST = 64  # waits between two probes, at most
    LONG_US = 50        # a yield that takes longer went to a process that has other work
    SAVED_US = 5        # what a spin that is worth it saves: a sleep and a wake-up take longer
    SAVED_MOST_US = 8000
    TRIAL_US = 1500     # what a new trial may spend; less than one yield to a hog
    LATER_MOST = 4      # doublings of the time between two trials
    PATIENCE_MOST_NS = 400      # between my message and the first look for its answer
    PATIENCE_STEP_NS = 10
    PATIENCE_ROUND = 32         # answers of the client's with one patience; the server changes its own less often
    PATIENCE_TICKS = 0xffff     # conn_t.receiving.patience: the ticks,
    PATIENCE_LOOK = 1 << 16     # answers so far,
    PATIENCE_LOOKS = 0x7fff0000
    PATIENCE_LESS = 0x80000000  # and which way it goes next


cdef inline bint spin_worth(spin_t *s, bint peer_slept) noexcept nogil:
    if kvo_process.spin_ticks == 0:
        return False
    if kvo_load64(&s.later):
        if kvo_ticks() < kvo_load64(&s.later):
            return False
        kvo_store64(&s.later, 0)
        kvo_store64(&s.saved, TRIAL_US * kvo_process.ticks_per_us)
        kvo_store32(&s.score, SPIN_SCORE)
        return True
    if kvo_load32(&s.score) >= SPIN_SCORE and not peer_slept:
        return True
    bump(&s.tick)
    if kvo_load32(&s.tick) < kvo_load32(&s.period):
        return False
    kvo_store32(&s.tick, 0)
    return True


cdef inline bint crowded(spin_t *s, uint64_t before) noexcept nogil:
    """After sched_yield(): has it handed the CPU to somebody busy, for longer than spinning has saved? Then a sleeper is served
    sooner than one who yields (waking preempts, yielding queues), and there is no spinning before the next trial."""
    cdef uint64_t now = kvo_ticks(), saved
    cdef uint32_t shift, crowd = kvo_load32(&s.crowd)
    if now - before < LONG_US * kvo_process.ticks_per_us:
        return False
    saved = kvo_load64(&s.saved)
    if saved > now - before:
        kvo_store64(&s.saved, saved - (now - before))
        return False
    shift = kvo_process.trial_shift + (crowd if crowd < LATER_MOST else LATER_MOST)
    kvo_store64(&s.later, ((now >> shift) + 1) << shift)
    bump(&s.crowd)
    return True


cdef inline void spin_learn(spin_t *s, bint success) noexcept nogil:
    cdef uint32_t score = kvo_load32(&s.score), period = kvo_load32(&s.period)
    cdef uint64_t saved
    if success:
        kvo_store32(&s.score, score + ((256 - score) >> 2))
        kvo_store32(&s.period, 16)
        saved = kvo_load64(&s.saved)
        if saved < SAVED_MOST_US * kvo_process.ticks_per_us:
            kvo_store64(&s.saved, saved + SAVED_US * kvo_process.ticks_per_us)
        else:
            kvo_store32(&s.crowd, 0)
    else:
        kvo_store32(&s.score, score >> 1)
        if period < PROBE_LONGEST:
            kvo_store32(&s.period, period * 2)


cdef inline uint32_t patience_of(const conn_t *c) noexcept nogil:
    return kvo_load32(&c.receiving.patience) & PATIENCE_TICKS


cdef inline void hold_off(conn_t *c) noexcept nogil:
    """Before I look for the answer to what I have just sent."""
    cdef uint64_t start = kvo_ticks()
    cdef uint32_t patience = patience_of(c)
    while kvo_ticks() - start < patience:
        pass


cdef inline void answered(conn_t *c, uint64_t behind) noexcept nogil:
    """The answer was there at the first look, or so many ticks behind it. A number of answers with one patience are compared with as many
    before: where they took longer, the way to go is the other one."""
    cdef uint32_t word = kvo_load32(&c.receiving.patience), ticks = word & PATIENCE_TICKS
    cdef uint32_t waited = kvo_load32(&c.waited) + ticks + <uint32_t>behind, before = kvo_load32(&c.waited_before)
    cdef uint32_t step = <uint32_t>(PATIENCE_STEP_NS * kvo_process.ticks_per_us // 1000)
    cdef uint32_t less = word & PATIENCE_LESS
    word += PATIENCE_LOOK
    if (word & PATIENCE_LOOKS) >= (PATIENCE_ROUND + PATIENCE_ROUND * <uint32_t>c.role // 2) * PATIENCE_LOOK:
        if waited > before + (before >> 5):
            less ^= PATIENCE_LESS
        if less and ticks <= step or not less and ticks + step > PATIENCE_MOST_NS * kvo_process.ticks_per_us // 1000:
            less ^= PATIENCE_LESS
        word = (ticks - step if less else ticks + step) & PATIENCE_TICKS | less
        kvo_store32(&c.waited_before, waited)
        waited = 0
    kvo_store32(&c.waited, waited)
    kvo_store32(&c.receiving.patience, word)


cdef inline uint32_t note_cpu(conn_t *c) noexcept nogil:
    """Tells the peer where I wait. CPU + 1."""
    cdef uint32_t mine = <uint32_t>kvo_cpu() + 1
    if kvo_load32(&c.me.cpu) != mine:
        kvo_store32(&c.me.cpu, mine)
    return mine


cdef inline bint elsewhere(conn_t *c) noexcept nogil:
    """The peer last waited on another CPU than mine."""
    return kvo_load32(&c.peer.cpu) != <uint32_t>kvo_cpu() + 1


cdef inline bint changed(conn_t *c, const uint64_t *word, uint64_t old, uint32_t flags) noexcept nogil:
    return (kvo_load64(word) != old or kvo_load32(&c.peer.flags) != flags
            or kvo_load32(&c.peer.closing) != kvo_load32(&c.closing_seen))


cdef inline bint spin_until(conn_t *c, spin_t *s, const uint64_t *word, uint64_t old) noexcept nogil:
    """Spins, if that is worth it, until a word of the peer's differs from old (or the peer shuts down or closes).
    True: it did."""
    cdef uint32_t flags = kvo_load32(&c.peer.flags), mine
    cdef uint64_t start, now, before
    cdef bint same, won = False, queue
    cdef int idle = 0, i
    cdef bint stream = kvo_load32(&c.silent_receives) > STREAM
    cdef bint slept = kvo_load32(&c.rang) != 0 and not stream and s == &c.receiving
    kvo_store32(&c.rang, 0)
    if stream and kvo_load64(&c.stats.received) < kvo_load64(&c.stats.receives) << 12 \
            and kvo_load32(&c.peer.cpu) != kvo_load32(&c.me.cpu):
        start = kvo_ticks()
        while kvo_ticks() - start < 3 * kvo_process.pause_ticks:
            for i in range(8):
                kvo_relax()
    if not spin_worth(s, slept):
        return changed(c, word, old, flags)
    mine = note_cpu(c)
    same = kvo_load32(&c.peer.cpu) == mine
    start = now = kvo_ticks()
    queue = kvo_load32(&s.queue) != 0
    if not same and not queue:
        while now - start < kvo_process.pause_ticks and not won:
            for i in range(8):
                if (not stream or i == 0) and changed(c, word, old, flags):
                    won = True
                    break
                kvo_relax()
            now = kvo_ticks()
        if won and s == &c.receiving and not stream:
            answered(c, now - start)
    while not won and now - start < kvo_process.spin_ticks:
        before = now
        sched_yield()
        if crowded(s, before):
            break
        if not same:
            queue = kvo_ticks() - before > kvo_process.pause_ticks  # the yield went to somebody
        for i in range(1 if same or queue else 24):
            if changed(c, word, old, flags):
                won = True
                break
            if not same:
                kvo_relax()
        now = kvo_ticks()
        if same:
            # A yield that comes straight back switched to nobody.
            idle = idle + 1 if now - before < kvo_process.pause_ticks else 0
            if idle >= 2:
                break
    kvo_store32(&s.queue, queue and won)
    spin_learn(s, won)
    count_spin(c, won)
    return won
