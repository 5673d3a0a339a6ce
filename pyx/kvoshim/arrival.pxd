# The order in which the connections of an epoll set became ready. The kernel tells of descriptors in that order, and a program
# that sends on two connections may rely on it. Who sleeps is told by bells, which keep it; rings that are looked at without
# sleep have it from the stamps that a sender with several connections puts beside its tail (ring.pxd).
from libc.stdint cimport int32_t, uint32_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport *
from kvoshim.connection cimport *
from kvoshim.epolltable cimport *

cdef enum:
    ORDERED = 64  # events at a time; the rest comes in the order of the set


cdef inline bint arrived(conn_t *c, uint32_t *at) noexcept nogil:
    """When the first of the unread bytes was written, of those times that are known. False: none is."""
    cdef uint32_t head = <uint32_t>kvo_load64(&c.me.head), time
    cdef uint64_t stamp
    cdef bint known = False
    cdef int i
    for i in range(<int>KVO_STAMPS):
        stamp = kvo_load64(&c.peer.stamps[i])
        time = <uint32_t>stamp
        if stamp and <int32_t>(<uint32_t>(stamp >> 32) - head) >= 0 and (not known or <int32_t>(time - at[0]) < 0):
            at[0] = time
            known = True
    return known


cdef inline bint since(set_t *s, const int32_t *found, int n, uint32_t began) noexcept nogil:
    """Whether one of these has become ready since: another one may have been ready before it, and was asked too early."""
    cdef uint32_t at = 0
    cdef int i
    for i in range(n):
        if arrived(conn_at(s.regs[found[i]].ident), &at) and <int32_t>(at - began) >= 0:
            return True
    return False


cdef inline void put_in_order(set_t *s, epoll_event *events, int32_t *found, int n) noexcept nogil:
    """Sorts events by arrival; those of which it is not known stay where they are."""
    cdef uint32_t times[ORDERED]
    cdef int32_t places[ORDERED]
    cdef uint32_t time = 0
    cdef epoll_event event
    cdef int i, j, known = 0
    for i in range(n):
        if not arrived(conn_at(s.regs[found[i]].ident), &time):
            continue
        event = events[i]
        places[known] = i
        j = known
        while j > 0 and <int32_t>(times[j - 1] - time) > 0:
            times[j] = times[j - 1]
            events[places[j]] = events[places[j - 1]]
            j -= 1
        times[j] = time
        events[places[j]] = event
        known += 1
