from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_GetItemWithError
from cpython.long cimport PyLong_AsSsize_t
from cpython.object cimport PyObject
from cpython.pythread cimport (
    NOWAIT_LOCK, WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
    PyThread_release_lock)
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.math cimport ceil
from libc.string cimport memcmp, memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec
from posix.unistd cimport close, getpid, usleep

from kvoshim._memory cimport fork_generation, memory_create, memory_open, memory_unmap
from kvoshim._bell cimport Bell, bell_ring
from kvoshim._table cimport Table
from kvoshim._values cimport array_of, decode, encode, key_utf8, kvo_payload
from kvoshim.store_protocol cimport (
    KVO_ARRAY, KVO_BYTES, KVO_DELETED, KVO_EPHEMERAL, KVO_EXPIRED, KVO_LAYOUT, KVO_NOT_KEPT, KVO_OWNER_DIED, KVO_PAGE, KVO_PURGED,
    KVO_REMOVED, KVO_SAME_SHIFT, KVO_TOGETHER, KVO_TYPE, KVO_UNSET, KVOS_BLOCK_MIN, KVOS_HEAP_MAX, KVOS_HEAP_MIN, KVOS_INLINE,
    KVOS_JOURNAL_MAX, KVOS_JOURNAL_MIN, KVOS_KEY_MAX, KVOS_KEY_SIZE, KVOS_MAGIC, KVOS_RING_MAX, KVOS_SLOTS_MAX,
    KVOS_TOLD, KVOT_BITMAP, KVOT_NEW,
    commit, concerns, in_force, kvo_copy_crc32c, kvo_crc32c, kvo_crc32c_table, kvo_fence_acquire, kvo_fence, kvo_fence_release, kvo_load32,
    kvo_acquire64, kvo_load64, kvo_relax, kvo_store64, kvo_release64, kvos_entry, kvos_header,
    kvos_record, kvos_slot, record_copy, record_crc, ring_append, sleeps, slot_enter, slot_open, slot_publish, slot_unchanged)

import os

from kvoshim.errors import (
    ClosedError, ConflictError, CorruptStoreError, ExpiredViewError, ForkedError, InvalidValueError, KvoshimError,
    LimitError, ReadContentionError, UnknownKeyError, ValueTooLargeError)

cdef extern from "Python.h":
    bint PyUnicode_CheckExact(object value)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *length) except NULL

# Record types of our own: the slot stands for another key now; it was written too often since the revision
# that was asked for.
cdef uint32_t STALE = 0xfffffffe, MOVED = 0xfffffffd
cdef uint64_t NEWEST = 0xffffffffffffffff
cdef size_t LARGE = 1 << 17         # bytes from which copying is worth letting go of the GIL
cdef int SPINS = 200                # attempts to read before sleeping between them
cdef int ATTEMPTS = 2000            # attempts to read altogether
cdef object RAISE = object()

SET, ABSENT, REMOVED, CORRUPT = "set", "absent", "removed", "corrupt"
REASONS = ("deleted", "purged", "expired", "owner-died")


def crc32c(bytes data, bint table=False) -> int:
    """CRC32C of the data, by the processor's instruction if it has one, or by the portable table."""
    return (kvo_crc32c_table if table else kvo_crc32c)(0, <const char *> data, len(data))


cdef uint64_t now_ns(int clock) noexcept nogil:
    cdef timespec moment
    clock_gettime(clock, &moment)
    return <uint64_t> moment.tv_sec * 1000000000 + <uint64_t> moment.tv_nsec


cdef class Found:
    """A key as it was found: in its slot, or in an entry of the journal."""

    def __repr__(self):
        return f"<{self.key!r}: {self.state} {self.value!r} at revision {self.revision}, write {self.count}>"


cdef class Segment:
    """A mapped value store: what reading needs, for its owner and for everybody else."""

    def __cinit__(self, *args, **kwargs):
        self.fd = -1
        self.generation = fork_generation()
        self.index = {}

    cdef int place(self) except -1:
        self.keys_base = self.base + KVO_PAGE
        self.slots = <kvos_slot *> (self.keys_base + <size_t> KVOS_KEY_SIZE * self.slot_count)
        self.ring = <uint32_t *> (<char *> self.slots + sizeof(kvos_slot) * <size_t> self.slot_count)
        self.bindings = <uint64_t *> calloc(self.slot_count, sizeof(uint64_t))
        if self.bindings == NULL:
            raise MemoryError()
        self.instance = self.header.instance[:16]
        self.owner_pid = self.header.owner_pid
        self.owner_start = self.header.owner_start
        return 0

    cdef void unmap(self) noexcept:
        # In a forked child the writer's mapping is gone, and its addresses may be another's by now.
        if self.base != NULL and (self.fd < 0 or self.generation == fork_generation()):
            memory_unmap(self.base, self.mapped)
        self.base = NULL
        if self.fd >= 0:
            close(self.fd)
            self.fd = -1

    cdef void leave(self) noexcept:
        self.users -= 1
        if self.closing and self.users == 0:
            self.unmap()

    def close(self, why=None):
        """Ends the use of the store in this process; the memory lives on while others have it mapped. why: the error that
        further use raises, in place of ClosedError."""
        if not self.closing:
            self.why = why
        self.closing = True
        if self.users == 0:
            self.unmap()

    def __dealloc__(self):
        self.unmap()
        free(self.bindings)

    @property
    def closed(self) -> bool:
        return self.closing

    cdef int usable(self) except -1:
        if self.generation != fork_generation():
            raise ForkedError(
                f"the store of {self.name!r} was opened before fork(); open it anew in this process")
        if self.closing:
            if self.why is not None:
                raise type(self.why)(str(self.why))
            raise ClosedError(f"the store of {self.name!r} is closed")
        return 0

    cdef bint rescan(self) except -1:
        return False

    cdef Py_ssize_t find(self, key) except -2:
        """The slot of a key, or -1."""
        cdef PyObject *found
        cdef Py_ssize_t length
        if not PyUnicode_CheckExact(key):
            key_utf8(key, &length)
        found = PyDict_GetItemWithError(self.index, key)
        return -1 if found == NULL else PyLong_AsSsize_t(<object> found)

    cdef object fetch(self, uint32_t number, uint64_t binding, kvos_record *record, uint64_t *count, uint64_t limit,
                      bint bare):
        """Copies the record in force, or that of revision `limit`, whole and checked; returns the value's bytes if
        they are not in the record. bare: the value, and with it the checksum, is left alone.

        record.type is STALE afterwards if the slot no longer stands for the key of this binding, MOVED if it was
        written too often since `limit`.
        """
        cdef kvos_slot *slot = &self.slots[number]
        cdef uint64_t version, bound
        cdef size_t length
        cdef int attempts = 0, damaged = 0
        cdef uint32_t crc
        cdef char *target
        cdef object big
        while True:
            version = slot_enter(slot)
            if kvo_load64(&slot.binding) != binding:
                record.type = STALE
                return None
            memcpy(record, &slot.record[version & 1], sizeof(kvos_record))
            if slot_unchanged(slot, version):
                bound = in_force(self.header) if limit == NEWEST else limit
                if record.revision > bound:  # part of a transaction under way, or too new: the one before
                    if limit == NEWEST and not self.intact(record) and slot_unchanged(slot, version):
                        damaged += 1  # a stray write, not a transaction
                        if damaged > 3:
                            raise self.damage(number, version)
                        continue
                    version -= 1
                    memcpy(record, &slot.record[version & 1], sizeof(kvos_record))
            if slot_unchanged(slot, version):
                count[0] = version - kvo_load64(&slot.born)
                if record.type != KVO_UNSET and record.revision > bound:
                    if limit != NEWEST:
                        record.type = MOVED
                        return None
                    damaged += 1
                elif record.type == KVO_UNSET or bare:
                    return None
                else:
                    length = record.length
                    if record.block == 0:
                        if length <= KVOS_INLINE and record_crc(record, record.value) == record.crc:
                            return None
                        damaged += 1
                    elif (record.block < self.heap_offset or record.block > self.size
                            or length > self.size - record.block):
                        damaged += 1
                    else:
                        big = PyBytes_FromStringAndSize(NULL, length)
                        target = PyBytes_AS_STRING(big)
                        if length < LARGE:
                            crc = record_copy(record, target, self.base + record.block)
                        else:
                            self.users += 1
                            with nogil:
                                crc = record_copy(record, target, self.base + record.block)
                            self.leave()
                            self.usable()
                        if slot_unchanged(slot, version):
                            if crc == record.crc:
                                return big
                            damaged += 1
                if damaged > 3:
                    raise self.damage(number, version)
            attempts += 1
            if attempts < SPINS:
                kvo_relax()
            elif attempts < ATTEMPTS:
                self.users += 1
                with nogil:
                    usleep(20)
                self.leave()
                self.usable()
            else:
                raise ReadContentionError(
                    f"the owner of {self.name!r} (PID {self.owner_pid}) rewrote slot {number} "
                    f"during each of {attempts} attempts to read it")

    cdef object damage(self, uint32_t number, uint64_t version):
        return CorruptStoreError(
            f"slot {number} of {self.name!r} contradicts its checksum or its bounds at write {version}")

    cdef bint intact(self, const kvos_record *record) noexcept:
        """Whether a record and its value fit their checksum."""
        if record.block == 0:
            return record.length <= KVOS_INLINE and record_crc(record, record.value) == record.crc
        return (self.heap_offset <= record.block <= self.size and record.length <= self.size - record.block
                and record_crc(record, self.base + record.block) == record.crc)

    cdef object load(self, key, kvos_record *record, uint64_t *count, bint bare):
        """As fetch(), by key. record.type is KVO_UNSET if there is no such key."""
        cdef Py_ssize_t number
        cdef object big
        self.usable()
        while True:
            number = self.find(key)
            if number >= 0:
                big = self.fetch(number, self.bindings[number], record, count, NEWEST, bare)
                if record.type != STALE:
                    return big
            # Not known, or no longer where it was: look whether the directory has moved on.
            if not self.rescan():
                record.type = KVO_UNSET
                return None

    cdef object value(self, uint32_t type, const char *data, size_t length, object big):
        if big is not None:
            if type & KVO_TYPE == KVO_BYTES:
                return big  # made for this one reader
            data = PyBytes_AS_STRING(big)
        try:
            return decode(type & KVO_TYPE, data, length)
        except KvoshimError:
            raise
        except Exception as error:
            raise CorruptStoreError(f"a value of {self.name!r} is not decodable: {error}") from error

    cdef int reason(self, const kvos_record *record) noexcept:
        """Why the record holds no value any more; -1: it does."""
        if record.type & KVO_TYPE == KVO_REMOVED:
            return record.value[0] & 3
        if record.ttl_ms and now_ns(CLOCK_MONOTONIC) >= record.monotonic_ns + record.ttl_ms * <uint64_t> 1000000:
            return KVO_EXPIRED
        if record.type & KVO_EPHEMERAL and isinstance(self, Reader) and (<Reader> self).ended:
            return KVO_OWNER_DIED
        return -1

    cdef Found found(self, key, uint32_t number, kvos_record *record, object big, uint64_t count, bint values):
        """What a record says, for Python. An error in the value is part of it."""
        cdef Found found = Found.__new__(Found)
        cdef int reason
        found.key = key
        found.slot = number
        found.kept = True
        if record.type == KVO_UNSET:
            found.state = ABSENT
            return found
        found.revision = record.revision
        found.count = count
        found.changed = count - min(count, <uint64_t> (record.type >> KVO_SAME_SHIFT))
        found.wall_ns = record.wall_ns
        found.monotonic_ns = record.monotonic_ns
        found.together = record.type & KVO_TOGETHER != 0
        reason = self.reason(record)
        if reason >= 0:
            found.state = REMOVED
            found.reason = REASONS[reason]
        else:
            found.state = SET
            if values:
                found.value = self.value(record.type, <const char *> record.value, record.length, big)
        return found

    def get(self, key, default=RAISE):
        """The value of `key` now. UnknownKeyError if there is none and no default."""
        cdef kvos_record record
        cdef uint64_t count
        cdef object big = self.load(key, &record, &count, False)
        cdef Py_ssize_t length
        if record.type == KVO_UNSET or self.reason(&record) >= 0:
            key_utf8(key, &length)  # a key that can't be any key is an error, whatever the default
            if default is RAISE:
                raise UnknownKeyError(f"{self.name!r} has no key {key!r}")
            return default
        return self.value(record.type, <const char *> record.value, record.length, big)

    def read(self, key, bint values=True) -> Found:
        """A key as it is now; values: False leaves the value alone. What cannot be read is 'corrupt'."""
        cdef kvos_record record
        cdef uint64_t count = 0
        try:
            big = self.load(key, &record, &count, not values)
            return self.found(key, self.find(key), &record, big, count, values)
        except CorruptStoreError as error:
            return _corrupt(key, self.find(key), error)

    cdef object glance(self, uint32_t number, uint64_t binding, brief *told):
        """The value of a slot if it stands for the key of this binding and has one; told.count is 0 if not. As get(), with no
        object made but the value."""
        cdef kvos_record record
        cdef uint64_t count = 0
        told.count = 0
        self.usable()
        big = self.fetch(number, binding, &record, &count, NEWEST, False)
        if record.type == STALE or record.type == KVO_UNSET or self.reason(&record) >= 0:
            return None
        value = self.value(record.type, <const char *> record.value, record.length, big)
        told.revision, told.count = record.revision, count
        told.changed = count - min(count, <uint64_t> (record.type >> KVO_SAME_SHIFT))
        told.wall, told.monotonic = record.wall_ns, record.monotonic_ns
        return value

    def view(self, key) -> View:
        """A NumPy array or bytes where they lie, without a copy. UnknownKeyError, InvalidValueError for other values."""
        return view_of(self, key)

    def newer(self, uint64_t revision, keys=None, bint values=True) -> tuple:
        """(the store's revision, [Found, …]): the keys that were changed after `revision`, deletions included, all as
        of one moment; in the order of their changes. keys: looks at these only, a list, or a function that says which.

        What cannot be read of a key is in its Found, state 'corrupt'.
        """
        cdef kvos_record record
        cdef uint64_t limit, count = 0
        cdef uint32_t number
        cdef object big
        cdef int attempt
        cdef list first = []
        cdef set lost = set()
        self.usable()
        for attempt in range(ATTEMPTS):
            limit = in_force(self.header)
            self.rescan()  # not before: what is in force by then has a key that is bound by now
            if keys is None:
                names = list(self.index)
            elif callable(keys):
                names = [key for key in self.index if keys(key)]
            else:
                names = [key for key in keys if key in self.index]
            if first or lost:
                names = first + [key for key in names if key not in first and key not in lost]
            result = []
            for key in names:
                slot = self.index.get(key)
                if slot is None:
                    continue
                number = slot
                try:
                    self.fetch(number, self.bindings[number], &record, &count, limit, True)
                    if record.type != STALE and record.type != MOVED and (
                            record.type == KVO_UNSET or record.revision <= revision):
                        continue
                    big = None
                    if values and record.type != STALE and record.type != MOVED:
                        big = self.fetch(number, self.bindings[number], &record, &count, limit, False)
                    if record.type == MOVED and in_force(self.header) == limit:
                        # No change has come into force since the moment was chosen, and a slot has one at most that is not.
                        raise self.damage(number, count)
                    if record.type == STALE or record.type == MOVED:
                        # First next time: what is written often must be read soon after the moment is chosen. But for a slot
                        # that is being given to another key for so long: its owner has died over it, or lies.
                        if key in first:
                            first.remove(key)
                        if self.rescan() or record.type == MOVED or attempt < SPINS:
                            first.insert(0, key)
                        else:
                            lost.add(key)
                        break
                    result.append(self.found(key, number, &record, big, count, values))
                except (CorruptStoreError, ReadContentionError) as error:
                    result.append(_corrupt(key, number, error))
            else:
                result.sort(key=_order)
                return limit, result
        raise ReadContentionError(f"{self.name!r} was written to during each of {ATTEMPTS} attempts to read it as a whole")

    def raw(self, key):
        """(type, bytes, revision, monotonic_ns, wall_ns, ttl_ms) of a key as stored, for Writer.restore(); None if it
        has none, or if it ended with its owner."""
        cdef kvos_record record
        cdef uint64_t count
        cdef object big = self.load(key, &record, &count, False)
        if record.type == KVO_UNSET or record.type & KVO_EPHEMERAL or self.reason(&record) >= 0:
            return None
        if big is None:
            big = record.value[:record.length]
        return record.type & KVO_TYPE, big, record.revision, record.monotonic_ns, record.wall_ns, record.ttl_ms

    def revision(self, key=None) -> int:
        """The store's revision: rises with each change; or that of a key's last change, 0 if it is not known."""
        cdef kvos_record record
        cdef uint64_t count
        if key is None:
            self.usable()
            return in_force(self.header)
        self.load(key, &record, &count, True)
        return 0 if record.type == KVO_UNSET else record.revision

    def keys(self) -> list[str]:
        """The keys that have a value now, in the order of their slots."""
        found = [found for found in self.newer(0, None, False)[1] if found.state != REMOVED]
        return [found.key for found in sorted(found, key=_slot_of)]

    def directory(self) -> dict[str, int]:
        """The keys that are bound to a slot, with or without a value, and their slots."""
        self.usable()
        self.rescan()
        return dict(self.index)

    @property
    def finished(self) -> bool:
        """Whether the owner has closed the store itself: its values are the last ones."""
        self.usable()
        return kvo_acquire64(&self.header.closed) != 0

    @property
    def limits(self) -> dict:
        """What the store was made for: max_keys, capacity (bytes of heap), ring (entries)."""
        return {"max_keys": self.slot_count, "capacity": self.size - self.heap_offset,
                "ring": self.ring_count, "history": self.journal_size}

    @property
    def oldest(self) -> tuple[int, int]:
        """The journal has every change above the first revision, the slots every deletion above the second."""
        self.usable()
        return kvo_acquire64(&self.header.compacted), kvo_acquire64(&self.header.forgotten)


def _order(Found found):
    return found.revision, found.slot


def _slot_of(Found found):
    return found.slot


cdef Found _corrupt(key, uint32_t number, error):
    cdef Found found = Found.__new__(Found)
    found.key, found.slot, found.state, found.value, found.kept = key, number, CORRUPT, error, True
    return found


include "store_view.pxi"
include "store_reader.pxi"
include "store_owner.pxi"
include "store_writer.pxi"
