"""Drop-in for the standard select module: `from kvoshim import select`.

select(), poll() and epoll() know what lies in the rings of kvoshim.socket's connections: a descriptor is ready exactly when
a call on it would not block, for writing too, which the kernel's own calls cannot tell. Everything else, and every other
name here, is the standard module's own; so are the errors.
"""

import select as _standard
from select import *  # noqa: F403

from kvoshim import _core

_IN = _standard.POLLIN | _standard.POLLHUP | _standard.POLLERR
_OUT = _standard.POLLOUT | _standard.POLLERR
_ADD, _DELETE, _MODIFY = 1, 2, 3  # EPOLL_CTL_...
_MOST = 1023  # events that one epoll wait gives when the caller does not say

_select, _poll, _epoll = _standard.select, _standard.poll, _standard.epoll  # kvoshim.patch() may replace them


def _descriptor(fileobj):
    return fileobj if isinstance(fileobj, int) else fileobj.fileno()


def select(rlist, wlist, xlist, timeout=None):
    """As select.select: ([readable], [writable], [exceptional]) of the objects given."""
    lists = [list(objects) for objects in (rlist, wlist, xlist)]
    try:
        descriptors = [[_descriptor(one) for one in objects] for objects in lists]
        ours = any(_core.is_ours(fd) for fds in descriptors for fd in fds)
    except Exception:  # not a descriptor: the standard module says so in its own words
        ours = False
    if not ours:
        return _select(*lists, *(() if timeout is None else (timeout,)))
    if timeout is not None and timeout < 0:
        raise ValueError("timeout must be non-negative")
    interests = {}
    for fds, events in zip(descriptors, (_standard.POLLIN, _standard.POLLOUT, _standard.POLLPRI), strict=True):
        for fd in fds:
            interests[fd] = interests.get(fd, 0) | events
    ready = dict(_core.poll(interests, timeout))
    if any(events & _standard.POLLNVAL for events in ready.values()):
        raise OSError(9, "Bad file descriptor")
    return tuple([one for one, fd in zip(objects, fds, strict=True) if ready.get(fd, 0) & mask]
                 for objects, fds, mask in zip(lists, descriptors, (_IN, _OUT, _standard.POLLPRI), strict=True))


class poll:
    """As select.poll()."""

    def __init__(self):
        self._kernel = _poll()
        self._interests = {}

    def register(self, fd, eventmask=_standard.POLLIN | _standard.POLLPRI | _standard.POLLOUT):
        self._kernel.register(fd, eventmask)
        self._interests[_descriptor(fd)] = eventmask

    def modify(self, fd, eventmask):
        self._kernel.modify(fd, eventmask)
        self._interests[_descriptor(fd)] = eventmask

    def unregister(self, fd):
        self._kernel.unregister(fd)
        del self._interests[_descriptor(fd)]

    def poll(self, timeout=None):
        """[(descriptor, events)]; timeout in milliseconds, None or negative: for ever."""
        if not any(map(_core.is_ours, self._interests)):
            return self._kernel.poll(timeout)
        return _core.poll(self._interests.copy(), None if timeout is None or timeout < 0 else timeout / 1000)


class epoll:
    """As select.epoll()."""

    def __init__(self, sizehint=-1, flags=0):
        self._kernel = _epoll(sizehint, flags)
        _core.epoll_begin(self._kernel.fileno())

    @classmethod
    def fromfd(cls, fd):
        """The epoll object of a descriptor; what is registered in it already stays the kernel's alone."""
        self = cls.__new__(cls)
        self._kernel = _epoll.fromfd(fd)
        _core.epoll_begin(fd)
        return self

    @property
    def closed(self):
        return self._kernel.closed

    def fileno(self):
        return self._kernel.fileno()

    def close(self):
        if not self.closed:
            _core.epoll_end(self.fileno())
            self._kernel.close()

    def __enter__(self):
        self.fileno()  # ValueError when it is closed
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if hasattr(self, "_kernel"):
            self.close()

    def register(self, fd, eventmask=_standard.EPOLLIN | _standard.EPOLLPRI | _standard.EPOLLOUT):
        _core.epoll_ctl(self.fileno(), _ADD, _descriptor(fd), eventmask)

    def modify(self, fd, eventmask):
        _core.epoll_ctl(self.fileno(), _MODIFY, _descriptor(fd), eventmask)

    def unregister(self, fd):
        _core.epoll_ctl(self.fileno(), _DELETE, _descriptor(fd), 0)

    def poll(self, timeout=None, maxevents=-1):
        """[(descriptor, events)]; timeout in seconds, None or negative: for ever."""
        if maxevents == -1:
            maxevents = _MOST
        elif maxevents <= 0:
            raise ValueError(f"maxevents must be greater than 0, got {maxevents}")
        return _core.epoll_wait(self.fileno(), maxevents, None if timeout is None or timeout < 0 else timeout)
