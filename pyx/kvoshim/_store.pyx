from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_GetItemWithError
from cpython.long cimport PyLong_AsSsize_t
from cpython.object cimport PyObject
from cpython.pythread cimport (
    NOWAIT_LOCK, WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
    PyThread_release_lock)
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, timespec
from posix.unistd cimport close, getpid, usleep

from kvoshim._memory cimport fork_generation, memory_create, memory_open, memory_unmap
from kvoshim._table cimport Table
from kvoshim._values cimport decode, encode, key_utf8, kvo_payload
from kvoshim.store_protocol cimport (
    KVO_LAYOUT, KVO_PAGE, KVO_REMOVED, KVO_UNSET, KVOS_BLOCK_MIN, KVOS_HEAP_MAX, KVOS_HEAP_MIN, KVOS_INLINE,
    KVOS_KEY_MAX, KVOS_KEY_SIZE, KVOS_MAGIC, KVOS_RING_MAX, KVOS_SLOTS_MAX, KVOT_ALL, KVOT_BITMAP, KVOT_NEW,
    kvo_crc32c, kvo_crc32c_table, kvo_fence_acquire, kvo_fence, kvo_fence_release, kvo_load32,
    kvo_acquire64, kvo_load64, kvo_relax, kvo_store64, kvo_release64, kvos_header,
    kvos_record, kvos_slot, record_crc, ring_append, slot_enter, slot_open, slot_publish, slot_unchanged)

import os

from kvoshim.errors import (
    ClosedError, CorruptStoreError, ForkedError, LimitError, ReadContentionError, UnknownKeyError,
    ValueTooLargeError)

cdef extern from "Python.h":
    bint PyUnicode_CheckExact(object value)

cdef uint32_t STALE = 0xfffffffe    # a record type of our own: the slot stands for another key now
cdef size_t LARGE = 1 << 16         # bytes from which copying is worth letting go of the GIL
cdef int SPINS = 200                # attempts to read before sleeping between them
cdef int ATTEMPTS = 2000            # attempts to read altogether
cdef object RAISE = object()

SET, ABSENT, REMOVED = "set", "absent", "removed"


def crc32c(bytes data, bint table=False) -> int:
    """CRC32C of the data, by the processor's instruction if it has one, or by the portable table."""
    return (kvo_crc32c_table if table else kvo_crc32c)(0, <const char *> data, len(data))


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

    def close(self):
        """Ends the use of the store in this process; the memory lives on while others have it mapped."""
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

    cdef object fetch(self, uint32_t number, uint64_t binding, kvos_record *record):
        """Copies the record in force, whole and checked; returns the value's bytes if they are not in the
        record.

        record.type is STALE afterwards if the slot no longer stands for the key of this binding.
        """
        cdef kvos_slot *slot = &self.slots[number]
        cdef uint64_t version
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
                if record.type == KVO_UNSET:
                    return None
                length = record.length
                if record.version != version:
                    damaged += 1
                elif record.block == 0:
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
                        memcpy(target, self.base + record.block, length)
                        crc = record_crc(record, target)
                    else:
                        self.users += 1
                        with nogil:
                            memcpy(target, self.base + record.block, length)
                            crc = record_crc(record, target)
                        self.leave()
                        self.usable()
                    if slot_unchanged(slot, version):
                        if crc == record.crc:
                            return big
                        damaged += 1
                if damaged > 3:
                    raise CorruptStoreError(
                        f"slot {number} of {self.name!r} contradicts its checksum or its bounds "
                        f"at version {version}")
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

    cdef object load(self, key, kvos_record *record):
        """As fetch(), by key. record.type is KVO_UNSET if there is no such key."""
        cdef Py_ssize_t number
        cdef object big
        self.usable()
        while True:
            number = self.find(key)
            if number >= 0:
                big = self.fetch(number, self.bindings[number], record)
                if record.type != STALE:
                    return big
            # Not known, or no longer where it was: look whether the directory has moved on.
            if not self.rescan():
                record.type = KVO_UNSET
                return None

    cdef object value(self, kvos_record *record, object big):
        try:
            if big is None:
                return decode(record.type, <const char *> record.value, record.length)
            return decode(record.type, PyBytes_AS_STRING(big), record.length)
        except Exception as error:
            raise CorruptStoreError(f"a value of {self.name!r} is not decodable: {error}") from error

    def get(self, key, default=RAISE):
        """The value of `key` now. UnknownKeyError if there is none and no default."""
        cdef kvos_record record
        cdef object big = self.load(key, &record)
        cdef Py_ssize_t length
        if record.type == KVO_UNSET or record.type == KVO_REMOVED:
            key_utf8(key, &length)  # a key that can't be any key is an error, whatever the default
            if default is RAISE:
                raise UnknownKeyError(f"{self.name!r} has no key {key!r}")
            return default
        return self.value(&record, big)

    def snapshot(self, key) -> tuple:
        """(state, value, version, wall_ns, monotonic_ns) of a key; state: 'set', 'absent' or 'removed'."""
        cdef kvos_record record
        cdef object big = self.load(key, &record)
        if record.type == KVO_UNSET:
            return ABSENT, None, 0, 0, 0
        if record.type == KVO_REMOVED:
            return REMOVED, None, record.version, record.wall_ns, record.monotonic_ns
        return SET, self.value(&record, big), record.version, record.wall_ns, record.monotonic_ns

    def raw(self, key):
        """(type, bytes, version, monotonic_ns, wall_ns) of a key as stored, for Writer.restore(); None if it
        has none."""
        cdef kvos_record record
        cdef object big = self.load(key, &record)
        if record.type == KVO_UNSET or record.type == KVO_REMOVED:
            return None
        if big is None:
            big = record.value[:record.length]
        return record.type, big, record.version, record.monotonic_ns, record.wall_ns

    def version(self, key) -> int:
        """How often the key was written, removals included; 0 if it is not known. Rises with each write."""
        self.usable()
        self.rescan()
        cdef Py_ssize_t number = self.find(key)
        return 0 if number < 0 else slot_enter(&self.slots[number])

    def highest(self) -> int:
        """The highest version of all keys."""
        self.usable()
        self.rescan()
        return max([slot_enter(&self.slots[<uint32_t> number]) for number in self.index.values()], default=0)

    def keys(self) -> list[str]:
        """The keys that have a value now, in the order of their slots."""
        cdef kvos_record record
        cdef uint64_t version
        cdef kvos_slot *slot
        self.usable()
        self.rescan()
        found = []
        for key, number in sorted(self.index.items(), key=lambda item: item[1]):
            slot = &self.slots[<uint32_t> number]
            for _ in range(ATTEMPTS):
                version = slot_enter(slot)
                record.type = slot.record[version & 1].type
                if slot_unchanged(slot, version):
                    break
                kvo_relax()
            if record.type != KVO_UNSET and record.type != KVO_REMOVED:
                found.append(key)
        return found

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
                "ring": self.ring_count}


cdef class Reader(Segment):
    """A store of another process, mapped read-only from a descriptor. The caller keeps the descriptor.

    Raises CorruptStoreError if the descriptor is no sealed store of this version.
    """

    def __init__(self, int fd):
        cdef size_t mapped
        self.base = memory_open(fd, KVO_PAGE, &mapped)
        self.mapped = mapped
        self.bound = {}
        self.header = <kvos_header *> self.base
        cdef kvos_header header
        # Load once, check, then use.
        memcpy(&header, self.header, sizeof(header))
        if header.magic != KVOS_MAGIC or header.layout != KVO_LAYOUT:
            raise CorruptStoreError(f"no value store of layout {KVO_LAYOUT} (magic {header.magic:#x}, "
                                    f"layout {header.layout})")
        if (not 1 <= header.slot_count <= KVOS_SLOTS_MAX or not 2 <= header.ring_count <= KVOS_RING_MAX
                or header.ring_count & (header.ring_count - 1) or header.slot_size != sizeof(kvos_slot)
                or header.key_size != KVOS_KEY_SIZE or header.heap_size > KVOS_HEAP_MAX
                or header.keys_offset != KVO_PAGE
                or header.slots_offset != header.keys_offset + KVOS_KEY_SIZE * <uint64_t> header.slot_count
                or header.ring_offset != (header.slots_offset
                                          + sizeof(kvos_slot) * <uint64_t> header.slot_count)
                or header.heap_offset < header.ring_offset + 4 * <uint64_t> header.ring_count
                or header.heap_offset > header.size or header.heap_offset + header.heap_size != header.size
                or header.size > mapped or not 1 <= header.name_length <= KVOS_KEY_MAX):
            raise CorruptStoreError("the value store's sizes and offsets contradict each other")
        self.slot_count = header.slot_count
        self.ring_count = header.ring_count
        self.size = header.size
        self.heap_offset = header.heap_offset
        try:
            self.name = header.name[:header.name_length].decode()
        except UnicodeDecodeError:
            raise CorruptStoreError("the value store's name is not UTF-8") from None
        self.place()

    cdef bint rescan(self) except -1:
        """Takes in the keys that were bound since the last time; False if there are none."""
        # SYNC POINT: bindings and keys; pairs with the end of Writer.bind().
        cdef uint64_t directory = kvo_acquire64(&self.header.directory)
        if directory == self.seen:
            return False
        cdef uint64_t used = min(kvo_acquire64(&self.header.slots_used), <uint64_t> self.slot_count)
        cdef uint64_t binding
        cdef uint32_t number
        cdef uint8_t copy[256]
        for number in range(<uint32_t> used):
            # SYNC POINT: the key of this binding; pairs with Writer.bind().
            binding = kvo_acquire64(&self.slots[number].binding)
            if binding == self.bindings[number]:
                continue
            memcpy(copy, self.keys_base + <size_t> KVOS_KEY_SIZE * number, KVOS_KEY_SIZE)
            kvo_fence_acquire()
            if binding & 1 or kvo_load64(&self.slots[number].binding) != binding:
                binding = 0  # just being changed: the directory will move on when it is done
            old = self.bound.pop(number, None)
            if old is not None and self.index.get(old) == number:
                del self.index[old]
            self.bindings[number] = binding
            if binding:
                key = copy[1:1 + copy[0]].decode("utf-8", "replace")
                self.bound[number] = key
                self.index[key] = number
        self.seen = directory
        return True

    def key_of(self, uint32_t number):
        """The key that a slot stands for now, or None."""
        self.usable()
        if number < self.slot_count and (number not in self.bound
                                         or kvo_load64(&self.slots[number].binding) != self.bindings[number]):
            self.rescan()
        return self.bound.get(number)


include "store_writer.pxi"
