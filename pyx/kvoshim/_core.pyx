cdef public int kvo_probe() noexcept nogil:
    return 42


def probe():
    return kvo_probe()
