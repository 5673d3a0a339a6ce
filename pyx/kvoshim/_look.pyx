"""What a client does whenever observables wake it: looks at their dirty rings, and delivers. From one sleep to the next without
the interpreter, but for callbacks: where many processes are woken at a time, each has its memory to fetch from afar.
kvoshim/kvo/direct.py has the rest."""
from libc.stdint cimport uint32_t, uint64_t

from kvoshim._bell cimport Sleeper
from kvoshim._delivery cimport Group, Known, deliver, dispatch
from kvoshim._monitor cimport Monitor
from kvoshim.store_protocol cimport ring_head

import logging

from kvoshim._bell import STORES
from kvoshim.errors import KvoshimError

cdef object log = logging.getLogger("kvoshim.client")
cdef int WRITTEN = STORES
cdef enum:
    LOOKS = 16  # at stores in a row, without a sleep, before the controller is heard


cdef class Watch:
    """What is observed directly of one name."""
    cdef readonly dict by_key      # key -> Group
    cdef readonly dict everything  # registrations of all keys -> whether the slot matters to them
    cdef readonly dict keys        # slot -> the observed key that it stood for last
    cdef public bint rung          # the observable rings this client
    cdef Known handle
    cdef Group spot                # the observed key that was written last, its slot and the slot's binding
    cdef uint32_t slot
    cdef uint64_t binding

    def __cinit__(self):
        self.by_key, self.everything, self.keys = {}, {}, {}

    def forget(self) -> None:
        """Another store has the name."""
        self.keys.clear()
        self.spot = None

    def numbers(self) -> list[int]:
        return [*self.everything, *(number for group in list(self.by_key.values()) for number in list(group.numbers))]

    cdef int written(self, Monitor reader, list slots, dict todo) except -1:
        """Notes what has to be looked at."""
        cdef Group group
        cdef uint64_t binding
        for slot in slots:
            binding = reader.bindings[<uint32_t> slot]
            key = reader.key_of(<uint32_t> slot)
            before = self.keys.get(slot)
            if before is not None and before != key:  # the slot was given to another key
                del self.keys[slot]
                group = self.by_key.get(before)
                if group is not None:
                    todo[group, None] = None
            group = self.by_key.get(key)
            if group is not None:
                if before is None or before != key:
                    self.keys[slot] = key
                todo[group, slot] = None
                if not self.everything and binding:
                    self.spot, self.slot, self.binding = group, slot, binding
            if self.everything:
                for number, precise in list(self.everything.items()):
                    todo[number, slot if precise else None] = None
        return 0


cdef class Looks:
    """The stores that are looked at, and what is observed of each. Used where changes are taken in."""
    cdef readonly list stores  # Monitors
    cdef list watches
    cdef public bint valid     # False: to be found anew

    def __cinit__(self):
        self.watches, self.stores, self.valid = [], [], True

    def hold(self, list watches, list handles):
        cdef Watch watch
        for watch, handle in zip(watches, handles):
            watch.handle = handle
        self.watches, self.stores = watches, [handle.ring for handle in handles]

    cpdef bint at_once(self, dict todo, list runs) except -1:
        """Delivers what is in the dirty rings, if that is the usual: one key was written, the same as the last time, and those who
        observe it want its new value. The short way: where many processes are woken at a time, each page that one touches
        is fetched from afar. False if there is more to do, in `todo` or for look()."""
        cdef Watch watch
        cdef Monitor store
        cdef Group group
        cdef Py_ssize_t place
        cdef bint all = True
        for place in range(len(self.stores)):
            store = self.stores[place]
            if store.base == NULL or ring_head(store.header) == store.tail:
                continue
            watch = self.watches[place]
            group = watch.spot
            if group is None or not group.numbers or watch.everything or not store.only(watch.slot, watch.binding):
                all = False
                continue
            if not deliver(group, watch.handle, watch.slot, watch.binding, todo, runs):
                todo[group, watch.slot] = None
            if todo or not self.valid:  # left to do, or by what a callback has done
                return False
        return all

    cpdef int look(self, dict todo, dict fresh) except -1:
        """Takes what is in the dirty rings."""
        cdef Watch watch
        cdef Monitor store
        cdef Py_ssize_t place
        fresh.clear()
        for place in range(len(self.stores)):
            watch, store = self.watches[place], self.stores[place]
            try:
                slots = store.drain()
                if slots is None:
                    for number in watch.numbers():
                        todo[number, None] = None
                else:
                    watch.written(store, slots, todo)
            except KvoshimError as error:
                log.debug("%r cannot be looked at: %s", store.name, error)
        return 0


def listen(Sleeper sleeper not None, Looks looks not None, int link, int spin_us, dict todo, list runs, dict fresh,
           dict observations, dict handles):
    """Sleeps, looks and delivers until there is something else to do. Returns what the sleeper has found; 0: the controller is to
    be heard in any case. The last five are dispatch()'s."""
    cdef int found, busy = 0
    while looks.valid and busy < LOOKS:
        found = sleeper.wait(looks.stores, link, -1.0, spin_us)
        busy = 0 if sleeper.slept else busy + 1
        if found == WRITTEN and not todo and not runs and looks.at_once(todo, runs):
            continue
        if found & WRITTEN:
            looks.look(todo, fresh)
        if found != WRITTEN:
            return found
        fresh.clear()
        dispatch(todo, runs, fresh, observations, handles)
    return 0
