"""The hot part of an observation: from what was found of a key to the callback. kvoshim/kvo/delivery.py has the rest."""
from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport uint32_t, uint64_t

from kvoshim._monitor cimport Monitor
from kvoshim._store cimport Found
cimport cython

cdef enum:
    BUCKETS = 26


cdef class Known:
    """An observable as this process sees it: what delivering needs of it. kvoshim.kvo.handle has the rest."""
    cdef public str name
    cdef public bytes instance        # of the store
    cdef public bint live
    cdef public object reader         # of the store
    cdef public Monitor ring          # the same, for the short way: with its dirty ring


cdef class Counts:
    cdef public uint64_t delivered    # calls of callbacks for changes of keys
    cdef public uint64_t merged       # changes that are part of others (mode latest)
    cdef public uint64_t missed       # changes that are lost (mode every)
    cdef public uint64_t latency_us
    cdef uint64_t counted[BUCKETS]
    cdef void note(self, uint64_t written_ns, uint64_t now) noexcept


cdef class Gate:
    cdef PyThread_type_lock lock      # for waiting only: locked as long as somebody is inside and nobody was called
    cdef unsigned long holder         # thread; valid while depth > 0
    cdef unsigned depth
    cdef unsigned waiting             # threads
    cdef unsigned called              # of these, or one that a signal has taken away
    cdef int enter(self) except -1
    cdef int leave(self) except -1
    cpdef bint enter_at_once(self) noexcept


@cython.no_gc  # nobody outside gets one, so none is part of a cycle
@cython.freelist(4)
cdef class Reading:
    cdef bint good                    # what follows was found; else each has to look for itself
    cdef str key
    cdef object value
    cdef uint64_t revision, count, changed, wall, monotonic
    cdef bytes instance               # of the store
    cdef uint64_t now                 # by CLOCK_MONOTONIC
    cdef object change                # what was told last of it, and how many changes were merged into that
    cdef uint64_t merged


cdef class Run:
    cdef list numbers
    cdef Py_ssize_t done
    cdef object slot
    cdef int put_back(self, dict todo) except -1


cdef class Seen:
    cdef public uint64_t revision
    cdef public uint64_t count        # of writes, in the store that is read now; 0: not known
    cdef public bint present
    cdef public object value          # kept where it will be needed
    cdef public uint64_t wall
    cdef public uint64_t monotonic
    cdef public str failed            # the error that was told last


cdef class Teller:
    cdef public object client, selector, callback, since
    cdef public object denied         # the error, if the controller's policy does not admit it any more
    cdef public str name
    cdef public bint closed
    cdef public bint own              # what this process publishes itself as well
    cdef public bint plain            # the usual kind: one key, its new value and nothing else; see tell()
    cdef public bint live
    cdef public bytes instance        # of the store that was read last
    cdef public object processed      # all changes up to this revision were delivered
    cdef public double progress       # when something was looked at last
    cdef readonly Gate _gate          # held while a callback runs; close() takes it
    cdef public Counts _counts
    cdef public dict _seen            # key -> Seen
    cdef public dict _slots
    cdef public object _held          # a change that waits for what follows it
    cdef public uint64_t _written     # when the change was written that was delivered last in this look; 0: none was
    cdef public object _first         # what the first refresh has to do: 'initial', 'since'
    cdef public bint _based           # what is not in `seen` has come into being since the observation began
    cdef public bint _again           # the last look failed half-way: the next one is at everything
    cdef public long _pid             # of the process that published the store read last
    cdef public bint _every, _new, _old, _initial, _prior, _marks, _unchanged, _keeps, _values
    cdef public bint _several         # changes are of more than one key
    cdef public bint _path
    cdef public object _one           # the one key that it is about, if there is one; else None
    cdef Seen only                    # what was seen of it
    cdef public bint _weak            # the callback is a weak reference

    cdef bint tell(self, Reading reading) except -1
    cdef int take(self, Found found, str kind, bint more) except -1
    cdef int deliver(self, str key, Seen seen, str kind, value, uint64_t revision, uint64_t skipped, uint64_t wall,
                     uint64_t monotonic, reason, bint more) except -1
    cdef int pass_on(self, change, uint64_t revision, bint more) except -1
    cdef int release(self, revision) except -1
    cdef int run(self, change) except -1


cdef class Group:
    cdef readonly dict numbers        # registration -> its Teller, in order
    cdef Teller one                   # if there is a single one
    cdef tuple place                  # (handle, slot) that was looked at last


cpdef int dispatch(dict todo, list runs, dict fresh, dict observations, dict handles) except -1
cdef bint deliver(Group group, Known handle, uint32_t slot, uint64_t binding, dict todo, list runs) except -1
