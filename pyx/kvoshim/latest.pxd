# The latest message, where it is small, lies twice in the segment: in the ring, and in the cache line of the tail. Whoever waits
# for a message polls that line, so a small one has come with the news of it; a message that lies in the ring alone costs the
# transfer of a second line. The ring has every byte all the same: who finds the copy gone or half written reads there.
from libc.stdint cimport uint8_t, uint64_t
from kvoshim.layout cimport *
from kvoshim.runtime cimport memcpy

cdef enum:
    LATEST_LEAST = 8 # the lengths that fit, as two words that overlap where the length is not 16
    LATEST_MOST = 16


cdef inline void write_little(news_t *mine, uint8_t *to, const uint8_t *source, size_t n, uint64_t end) noexcept nogil:
    """n bytes to their place in the ring and beside the tail; end is the tail to be. Under my send lock, before the tail is
    published."""
    cdef uint64_t first, last
    kvo_store64(&mine.latest_is, 0)
    kvo_fence_before_stores()  # SYNC POINT latest: with any of the new words comes the 0, or what is behind it
    memcpy(&first, source, 8)
    memcpy(&last, source + n - 8, 8)
    memcpy(to, &first, 8)
    memcpy(to + n - 8, &last, 8)
    kvo_store64(&mine.latest[0], first)
    kvo_store64(&mine.latest[1], last)
    kvo_release64(&mine.latest_is, end << 8 | n)


cdef inline bint read_little(const news_t *theirs, uint8_t *to, size_t n, uint64_t end) noexcept nogil:
    """The n bytes before end, LATEST_LEAST to LATEST_MOST, from beside the tail. False: they do not lie there, or no longer;
    what has been written to `to` means nothing."""
    cdef uint64_t wanted = end << 8 | n, word
    if kvo_acquire64(&theirs.latest_is) != wanted:
        return False
    word = kvo_load64(&theirs.latest[0])
    memcpy(to, &word, 8)
    word = kvo_load64(&theirs.latest[1])
    memcpy(to + n - 8, &word, 8)
    kvo_fence_after_loads()  # SYNC POINT latest
    return kvo_load64(&theirs.latest_is) == wanted
