"""A timer that is a descriptor: readable from the moment it was set for until it is taken."""
from libc.errno cimport errno
from libc.stdint cimport uint64_t
from posix.time cimport CLOCK_MONOTONIC, itimerspec
from posix.unistd cimport close, read

import os

cdef extern from "<sys/timerfd.h>" nogil:
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec *new, itimerspec *old)
    int TFD_NONBLOCK, TFD_CLOEXEC


cdef class Timer:
    """Owns its descriptor."""
    cdef int fd

    def __cinit__(self):
        self.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self.fd < 0:
            raise OSError(errno, os.strerror(errno))

    def fileno(self) -> int:
        return self.fd

    def set(self, double seconds):
        """Sets it for so many seconds from now, in place of what it was set for before; 0: for nothing."""
        cdef itimerspec moment
        moment.it_interval.tv_sec = moment.it_interval.tv_nsec = 0
        moment.it_value.tv_sec = <long> seconds
        moment.it_value.tv_nsec = <long> ((seconds - <long> seconds) * 1e9)
        if timerfd_settime(self.fd, 0, &moment, NULL) < 0:
            raise OSError(errno, os.strerror(errno))

    def take(self) -> bool:
        """Whether the moment has come since the last time."""
        cdef uint64_t count
        return read(self.fd, &count, 8) == 8

    def close(self):
        if self.fd >= 0:
            close(self.fd)
            self.fd = -1

    def __dealloc__(self):
        self.close()
