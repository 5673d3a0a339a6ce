from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from cpython.pythread cimport (
    NOWAIT_LOCK, PY_LOCK_ACQUIRED, PY_LOCK_INTR, PyLockStatus, PyThread_acquire_lock, PyThread_allocate_lock,
    PyThread_free_lock, PyThread_get_thread_ident, PyThread_release_lock)
from libc.stdint cimport uint32_t, uint64_t
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from kvoshim._store cimport Found, brief

import datetime
import logging

import msgspec

from kvoshim.errors import KvoshimError

cdef extern from "Python.h":
    object PyObject_Vectorcall(object called, PyObject *const *arguments, size_t positional, PyObject *names)

cdef extern from "pythread.h" nogil:
    PyLockStatus PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, int interruptible)

cdef object log = logging.getLogger("kvoshim.observer")
cdef object Change, difference
cdef uint64_t MOST = <uint64_t> -1
cdef frozenset SHARED = frozenset((type(None), bool, int, float, str, bytes, datetime.datetime))  # what no callback can change


def introduce(change, how_they_differ):
    """What a change is made of, and how two lists differ: kvoshim.kvo's."""
    global Change, difference
    Change, difference = change, how_they_differ


cdef object NO_MORE = False
cdef long last_pid = -1
cdef object last_process = -1  # the same as an object: it is nearly always the one before


cdef object usual(str name, str key, str kind, value, uint64_t revision, uint64_t merged, uint64_t missed, uint64_t wall,
                  uint64_t monotonic, long pid):
    """A change without anything that is rare. Its fields in their order: names would have to be looked for, each time."""
    global last_pid, last_process
    cdef object number = revision, merges = merged, misses = missed, moment = wall / 1e9, tick = monotonic
    cdef object process
    cdef PyObject *given[15]
    if pid != last_pid:
        last_pid, last_process = pid, pid
    process = last_process
    given[0], given[1], given[2] = <PyObject *> name, <PyObject *> key, <PyObject *> kind
    given[3], given[4], given[5] = <PyObject *> value, <PyObject *> None, <PyObject *> number
    given[6], given[7], given[8] = <PyObject *> merges, <PyObject *> misses, <PyObject *> moment
    given[9], given[10], given[11] = <PyObject *> None, <PyObject *> None, <PyObject *> None
    given[12], given[13], given[14] = <PyObject *> tick, <PyObject *> process, <PyObject *> NO_MORE
    return PyObject_Vectorcall(Change, given, 15, NULL)


cdef uint64_t now_ns() noexcept nogil:
    cdef timespec moment
    clock_gettime(CLOCK_MONOTONIC, &moment)
    return <uint64_t> moment.tv_sec * 1000000000 + <uint64_t> moment.tv_nsec


cdef class Known:
    pass


cdef class Counts:
    """What a process counts of its deliveries, where changes are taken in; totals that never fall."""

    def took(self, uint64_t written_ns) -> None:
        """A change that was written at that moment (CLOCK_MONOTONIC) has been delivered just now."""
        self.note(written_ns, now_ns())

    cdef void note(self, uint64_t written_ns, uint64_t now) noexcept:
        cdef uint64_t took
        cdef int bucket = 0
        if now < written_ns:  # the moment stands in another process's memory
            return
        took = (now - written_ns) // 1000
        if took < <uint64_t> 1 << 40:
            self.latency_us += took
            while took and bucket < BUCKETS - 1:
                took >>= 1
                bucket += 1
            self.counted[bucket] += 1

    @property
    def buckets(self) -> list[int]:
        """Latencies: bucket n counts those below 2**n us, the last one all that are longer."""
        return [self.counted[i] for i in range(BUCKETS)]


cdef class Gate:
    """A lock that its holder may take again, as threading.RLock, but at no cost where nobody waits: what it has is used under the
    GIL, and the lock of the system is only for those who have to wait. Whoever leaves calls one of them, who looks again."""

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL or not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            raise MemoryError()

    def __dealloc__(self):
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    cdef int enter(self) except -1:
        cdef PyLockStatus got
        while not self.enter_at_once():
            self.waiting += 1
            with nogil:
                got = PyThread_acquire_lock_timed(self.lock, -1, 1)
            self.waiting -= 1
            if got == PY_LOCK_INTR:
                PyErr_CheckSignals()
            else:
                self.called -= 1
        return 0

    cdef int leave(self) except -1:
        if not self.depth or self.holder != PyThread_get_thread_ident():
            raise RuntimeError("a gate is left by whoever has entered it")
        self.depth -= 1
        if not self.depth and self.waiting > self.called:  # those who were called and have not come yet are still on their way
            self.called += 1
            PyThread_release_lock(self.lock)
        return 0

    def __enter__(self):
        self.enter()

    def __exit__(self, *error):
        self.leave()

    cpdef bint enter_at_once(self) noexcept:
        """Enters if nobody else is inside."""
        cdef unsigned long me = PyThread_get_thread_ident()
        if self.depth and self.holder != me:
            return False
        self.holder = me
        self.depth += 1
        return True


cdef class Reading:
    """What was found of a slot, and what is told of it: the same for all plain observations of its key."""


cdef class Seen:
    """What was delivered of a key."""

    def __cinit__(self):
        self.failed = ""


cdef class Teller:
    """Delivers what is found. Used behind the gate, where changes are taken in."""

    def __cinit__(self):
        self._gate = Gate()

    cdef bint tell(self, Reading reading) except -1:
        """Tells a plain observation of the next value of its key. False: refresh() has to see to it."""
        cdef Seen seen
        cdef uint64_t merged
        self._gate.enter()
        try:
            seen = self.only
            if seen is None:
                seen = self.only = self._seen.get(self._one)
            if (self.closed or seen is None or not seen.present or seen.failed or self._again or self._first is not None
                    or not self.live or self.instance is not reading.instance and self.instance != reading.instance):
                return False
            if reading.revision <= seen.revision:
                return True
            if seen.count == 0 or reading.count <= seen.count or reading.changed <= seen.count:
                return False
            merged = reading.count - seen.count - 1
            seen.revision, seen.count, seen.value = reading.revision, reading.count, reading.value
            seen.wall, seen.monotonic = reading.wall, reading.monotonic
            self.progress = <double> reading.now / 1e9
            if reading.change is None:
                self._counts.note(reading.monotonic, reading.now)
            if reading.change is None or reading.merged != merged:
                reading.merged = merged
                reading.change = usual(self.name, reading.key, "setting", reading.value, reading.revision, merged, 0, reading.wall,
                                       reading.monotonic, self._pid)
            self._counts.delivered += 1
            self._counts.merged += merged
            self.pass_on(reading.change, reading.revision, False)
            return True
        finally:
            self._gate.leave()

    def _take(self, Found found, str kind, bint more=False):
        """Delivers what was found of a key if it is news. kind: 'initial', 'setting', 'note' (delivers nothing)."""
        self.take(found, kind, more)

    cdef int take(self, Found found, str kind, bint more) except -1:
        cdef Seen seen
        cdef uint64_t skipped
        cdef bint present, quiet
        if self._path:
            self._take_part(found, kind, more)
            return 0
        if found.state == "corrupt":
            self._fail(found.key, found.value)
            return 0
        seen = self._seen.get(found.key)
        if seen is None:
            seen = self._seen[found.key] = Seen()
        seen.failed = ""
        if self._several:
            self._slots[found.slot] = found.key
        if found.revision <= seen.revision:
            return 0
        present = found.state == "set"
        if 0 < seen.count < found.count:
            skipped = found.count - seen.count - 1
        else:  # of writes before this one nothing is known
            skipped = found.count - 1 if self._based and found.count else 0
        quiet = (
            kind == "note"
            or not (present or seen.present or self._resumed(seen, kind))
            or present and seen.present and 0 < found.changed <= seen.count and not self._unchanged
            or not self.own and self._pid == self.client.pid
        )
        seen.count = found.count
        if quiet:
            seen.revision, seen.wall, seen.monotonic, seen.present = found.revision, found.wall_ns, found.monotonic_ns, present
            seen.value = found.value if self._keeps else None
            return 0
        return self.deliver(found.key, seen, kind if present else "deletion", found.value, found.revision,
                            0 if kind == "initial" else skipped, found.wall_ns, found.monotonic_ns, found.reason, more)

    def _resumed(self, Seen seen, str kind):
        """Whether a key that was never seen may have been seen before: its deletion is news then."""
        return self.since is not None and kind != "initial" and seen.revision == 0

    def _take_entries(self, list entries, reader):
        """Delivers entries of the journal, in mode every. (Whether more of a revision follow is known with the next one.)"""
        cdef Found entry, held = None
        cdef uint64_t count, processed = min(self.processed, MOST)
        cdef str wanted = None
        matches = self.selector.matches
        for entry in entries:
            if entry.revision <= processed:
                continue
            if entry.key is not wanted:  # not the one before
                if entry.key != self._one if self._one is not None else not matches(entry.key):
                    continue
                wanted = entry.key
            if not entry.kept and entry.state == "set":
                count, entry = entry.count, reader.read(entry.key, self._values)
                if entry.count != count:
                    continue  # the value is no longer to be had: counted with the next
            if held is not None:
                self.take(held, "setting", held.revision == entry.revision)
                if self.closed:
                    return
            held = entry
        if held is not None:
            self.take(held, "setting", False)

    def _tell(self, str key, Seen seen, str kind, value, revision, skipped, uint64_t wall, uint64_t monotonic, reason=None,
              bint more=False, bint quiet=False):
        """Delivers a change, or (quiet) notes it only."""
        cdef uint64_t number = min(revision, MOST)  # one that follows what another process has written
        if quiet:
            seen.revision, seen.wall, seen.monotonic, seen.present = number, wall, monotonic, kind != "deletion"
            seen.value = value if self._keeps else None
            return
        self.deliver(key, seen, kind, value, number, min(skipped, MOST), wall, monotonic, reason, more)

    cdef int deliver(self, str key, Seen seen, str kind, value, uint64_t revision, uint64_t skipped, uint64_t wall,
                     uint64_t monotonic, reason, bint more) except -1:
        cdef bint initial = kind == "initial"
        cdef uint64_t merged, missed
        old = seen.value
        seen.revision, seen.wall, seen.monotonic, seen.present = revision, wall, monotonic, kind != "deletion"
        seen.value = value if self._keeps else None
        self._counts.delivered += 1
        if self._every:
            self._counts.missed += skipped
        else:
            self._counts.merged += skipped
        if not initial:
            self._written = monotonic
        indexes = None
        told_old = old if self._old and not initial else None
        if told_old is not None and kind == "setting":
            kind, indexes = difference(told_old, value)
        if self._prior and not initial:
            self.pass_on(Change(target=self.name, key=key, kind="prior", old=told_old, revision=revision, timestamp=wall / 1e9,
                                monotonic_ns=monotonic, pid=self._pid, more=True), revision, True)
        value = value if self._new else None
        merged = 0 if self._every else skipped
        missed = skipped - merged
        if told_old is None and indexes is None and not more and kind != "deletion":
            change = usual(self.name, key, kind, value, revision, merged, missed, wall, monotonic, self._pid)
        else:
            change = Change(
                target=self.name, key=key, kind=kind, new=value, old=told_old, revision=revision, merged=merged, missed=missed,
                timestamp=wall / 1e9, reason=reason if kind == "deletion" else None, indexes=indexes, monotonic_ns=monotonic,
                pid=self._pid, more=more)
        self.pass_on(change, revision, more)
        return 0

    cdef int pass_on(self, change, uint64_t revision, bint more) except -1:
        # One that others follow waits for the next: those may turn out to be no news, and then it was the last.
        if self._held is not None:
            self.release(revision)
        if more:
            self._held = change
        else:
            self.run(change)
        return 0

    def _call(self, change):
        """Delivers a change of whatever kind."""
        self.pass_on(change, min(change.revision, MOST), change.more)

    def _release(self):
        """Delivers what has waited: nothing follows."""
        self.release(-1)

    cdef int release(self, revision) except -1:
        held, self._held = self._held, None
        if held is not None:
            self.run(held if held.revision == revision else msgspec.structs.replace(held, more=False))
        return 0

    cdef int run(self, change) except -1:
        if self.closed:  # a callback may have closed it just now
            return 0
        callback = self.callback
        if self._weak:
            callback = callback()
            if callback is None:
                self.close()
                return 0
        try:
            callback(change)
        except BaseException:  # not even SystemExit ends the thread that serves everybody else
            log.exception("the callback for %s of %r raised",
                          "all keys" if self.selector.given is None else repr(self.selector.given), self.name)
        return 0


cdef int glance(Known handle, Py_ssize_t slot, uint64_t binding, Reading reading, bint shared) except -1:
    """Reads a slot for plain observations of its key; `reading` is good if there is a value. shared: for more than one of them."""
    cdef brief found
    reading.now = now_ns()
    if slot < 0 or not handle.live:
        return 0
    try:
        value = handle.ring.glance(<uint32_t> slot, binding, &found)
    except KvoshimError:
        return 0  # each finds out for itself
    if found.count and (not shared or type(value) in SHARED):
        reading.good = True
        reading.value, reading.instance = value, handle.instance
        reading.revision, reading.count, reading.changed = found.revision, found.count, found.changed
        reading.wall, reading.monotonic = found.wall, found.monotonic
    return 0


cdef Reading read(Known handle, key):
    """What refresh() would find of a plain observation's key, if that is known already."""
    cdef Reading reading = Reading.__new__(Reading)
    cdef Py_ssize_t slot = handle.ring.find(key)
    reading.key = key
    glance(handle, slot, handle.ring.bindings[slot] if slot >= 0 else 0, reading, True)
    return reading


cdef class Group:
    """All registrations of one key, which are refreshed together."""

    def __cinit__(self):
        self.numbers = {}

    def add(self, number, Teller observation):
        self.numbers[number] = observation
        self.one = observation if len(self.numbers) == 1 else None

    def remove(self, number):
        """An unknown one is no error."""
        self.numbers.pop(number, None)
        self.one = next(iter(self.numbers.values())) if len(self.numbers) == 1 else None


cdef class Run:
    """A group that is being refreshed."""

    cdef int put_back(self, dict todo) except -1:
        """Leaves those that are still to come to whoever looks there."""
        for number in self.numbers[self.done:]:
            todo[number, self.slot] = None
        self.done = len(self.numbers)
        return 0


cdef int refresh(number, slot, Group group, dict fresh, dict observations, dict handles) except -1:
    cdef Teller observation = observations.get(number)
    cdef Known handle
    cdef Reading reading
    cdef tuple place
    if observation is None:
        return 0
    if observation.denied is not None:
        observation.end_denied()
        return 0
    handle = handles.get(observation.name)
    if handle is None:
        return 0
    if slot is not None and observation.plain:
        if group is None:
            place = handle, slot
        else:
            if group.place is None or handle is not group.place[0] or slot != group.place[1]:
                group.place = handle, slot
            place = group.place
        reading = fresh.get(place)
        if reading is None:
            reading = fresh[place] = read(handle, observation._one)
        if reading.good and reading.key == observation._one and observation.tell(reading):
            return 0
    observation.refresh(handle, slot)
    return 0


cdef bint deliver(Group group, Known handle, uint32_t slot, uint64_t binding, dict todo, list runs) except -1:
    """Delivers the value of a slot to those who observe its key, if that is the usual thing to do: they are plain observations, and
    it is a value. False if not; what is left is in `todo` then, or nothing was done."""
    cdef Teller observation
    cdef Run run
    cdef Reading reading = Reading.__new__(Reading)
    glance(handle, slot, binding, reading, group.one is None)
    if not reading.good:
        return False
    if group.one is not None:
        reading.key = group.one._one
        return group.one.denied is None and group.one.plain and group.one.tell(reading)
    run = Run.__new__(Run)
    run.numbers, run.slot = list(group.numbers), slot
    tellers = list(group.numbers.values())
    runs.append(run)
    try:
        while run.done < len(run.numbers):
            observation = tellers[run.done]
            run.done += 1
            reading.key = observation._one
            if observation.denied is not None or not observation.plain or not observation.tell(reading):
                todo[run.numbers[run.done - 1], slot] = None
    finally:
        runs.remove(run)
        run.put_back(todo)
    return True


cpdef int dispatch(dict todo, list runs, dict fresh, dict observations, dict handles) except -1:
    """Refreshes what is due: (registration or Group, slot or None for all) in `todo`, in order. fresh: (handle, slot) -> Reading;
    whoever learns that more was written empties it. runs: those under way: a callback may want what is left of them now."""
    cdef tuple item
    cdef Run run
    for run in runs:
        run.put_back(todo)
    while todo:
        for item in list(todo):
            if item not in todo:  # a callback has had it looked at
                continue
            del todo[item]
            if not isinstance(item[0], Group):
                refresh(item[0], item[1], None, fresh, observations, handles)
                continue
            run = Run.__new__(Run)
            run.numbers, run.slot = list((<Group> item[0]).numbers), item[1]
            runs.append(run)
            try:
                while run.done < len(run.numbers):
                    run.done += 1
                    refresh(run.numbers[run.done - 1], run.slot, item[0], fresh, observations, handles)
            finally:
                runs.remove(run)
                run.put_back(todo)
    return 0
