# The owner's side of the value store; part of _store.pyx.

cdef uint64_t now_ns(int clock) noexcept nogil:
    cdef timespec moment
    clock_gettime(clock, &moment)
    return <uint64_t> moment.tv_sec * 1000000000 + <uint64_t> moment.tv_nsec


cdef class Writer(Segment):
    """Makes a value store that this process alone can write.

    max_keys: keys at the same time, 1 to 65536. capacity: bytes for values longer than 80 bytes, a power of
    two from 64 KiB to 1 TiB; reserved as address space, backed by memory only where used. One value may take
    a quarter of it (it needs two blocks). ring: entries of the dirty ring, a power of two. start: this
    process's start time in clock ticks since boot. Setting is safe from several threads.
    """

    def __init__(self, str name, uint32_t max_keys=4096, uint64_t capacity=1 << 28, uint32_t ring=4096,
                 uint64_t start=0):
        cdef Py_ssize_t length
        cdef const char *utf8 = key_utf8(name, &length)
        cdef bytes instance = os.urandom(16)
        if not 1 <= max_keys <= KVOS_SLOTS_MAX:
            raise LimitError(f"max_keys is 1 to {KVOS_SLOTS_MAX}, not {max_keys}")
        if not KVOS_HEAP_MIN <= capacity <= KVOS_HEAP_MAX or capacity & (capacity - 1):
            raise LimitError(
                f"capacity is a power of two from {KVOS_HEAP_MIN} to {KVOS_HEAP_MAX} bytes, not {capacity}")
        if not 2 <= ring <= KVOS_RING_MAX or ring & (ring - 1):
            raise LimitError(f"ring is a power of two from 2 to {KVOS_RING_MAX} entries, not {ring}")
        self.name = name
        self.slot_count = max_keys
        self.ring_count = ring
        self.lock = PyThread_allocate_lock()
        self.own = <own_slot *> calloc(max_keys, sizeof(own_slot))
        if self.lock == NULL or self.own == NULL:
            raise MemoryError()
        cdef uint64_t slots = KVO_PAGE + KVOS_KEY_SIZE * <uint64_t> max_keys
        cdef uint64_t ring_at = slots + sizeof(kvos_slot) * <uint64_t> max_keys
        self.heap_offset = (ring_at + 4 * <uint64_t> ring + KVO_PAGE - 1) // KVO_PAGE * KVO_PAGE
        self.size = self.mapped = self.heap_offset + capacity
        self.fd = memory_create("kvoshim-store", self.size, &self.base)
        self.header = <kvos_header *> self.base
        self.header.layout = KVO_LAYOUT
        self.header.header_size = sizeof(kvos_header)
        self.header.size = self.size
        self.header.slot_count = max_keys
        self.header.slot_size = sizeof(kvos_slot)
        self.header.key_size = KVOS_KEY_SIZE
        self.header.ring_count = ring
        self.header.keys_offset = KVO_PAGE
        self.header.slots_offset = slots
        self.header.ring_offset = ring_at
        self.header.heap_offset = self.heap_offset
        self.header.heap_size = capacity
        self.header.owner_pid = getpid()
        self.header.owner_start = start
        memcpy(self.header.instance, <const char *> instance, 16)
        memcpy(self.header.name, utf8, length)
        self.header.name_length = length
        self.header.magic = KVOS_MAGIC
        self.place()
        self.removed = set()
        self.slot_keys = [None] * max_keys
        # A buddy allocator: free_blocks[i] holds offsets of free blocks of KVOS_BLOCK_MIN << i bytes.
        self.orders = (capacity // KVOS_BLOCK_MIN).bit_length()
        self.free_blocks = [set() for _ in range(self.orders)]
        self.free_blocks[self.orders - 1].add(0)
        self.value_max = min(capacity // 4, <uint64_t> 0xffffffff)

    def __dealloc__(self):
        if self.lock != NULL:
            PyThread_free_lock(self.lock)
        free(self.own)

    # Between enter() and exit() nothing is called that could run foreign Python code (a finalizer, a signal
    # handler): it might set a value of this very store. Errors are noted there and raised after exit().

    cdef void enter(self) noexcept:
        self.users += 1
        # Whoever holds the lock may be copying without the GIL and want it back: never wait for the lock with
        # it.
        if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            with nogil:
                PyThread_acquire_lock(self.lock, WAIT_LOCK)

    cdef void exit(self) noexcept:
        PyThread_release_lock(self.lock)
        self.leave()

    cdef int bind(self, key, const char *utf8, Py_ssize_t length) except -2:
        """Gives a new key a slot; returns its number, or -1 if there is none."""
        cdef uint32_t number
        cdef uint64_t binding, version
        cdef kvos_slot *slot
        cdef char *place
        cdef uint64_t used = kvo_load64(&self.header.slots_used)
        if used < self.slot_count:
            number = <uint32_t> used
        elif self.removed:
            number = self.removed.pop()
            del self.index[self.slot_keys[number]]
        else:
            return -1
        slot = &self.slots[number]
        place = self.keys_base + <size_t> KVOS_KEY_SIZE * number
        binding = kvo_load64(&slot.binding)
        kvo_store64(&slot.binding, binding + 1)  # odd: stands for no key
        # No version of any key that this slot ever had may come again.
        self.floor = max(self.floor, kvo_load64(&slot.sequence))
        version = self.floor
        kvo_fence_release()
        kvo_store64(&slot.begin, version + 2)  # both records are being changed
        # SYNC POINT: whoever sees a byte cleared below sees the binding or `begin` changed; pairs with
        # slot_unchanged().
        kvo_fence_release()
        if binding:
            memset(slot.record, 0, sizeof(slot.record))
        memset(place, 0, KVOS_KEY_SIZE)
        memcpy(place + 1, utf8, length)
        place[0] = <char> length
        # SYNC POINT: the empty records and the changed binding; pairs with slot_enter().
        kvo_release64(&slot.sequence, version)
        kvo_release64(&slot.begin, version)
        # SYNC POINT: key and records; pairs with Reader.rescan().
        kvo_release64(&slot.binding, binding + 2)
        if number == used:
            kvo_release64(&self.header.slots_used, used + 1)
        kvo_release64(&self.header.directory, kvo_load64(&self.header.directory) + 1)
        self.bindings[number] = binding + 2
        self.slot_keys[number] = key
        self.index[key] = number
        return number

    cdef uint64_t allocate(self, uint64_t length, uint64_t *capacity) except? 0:
        """Offset of a block for `length` bytes, or 0 if there is none; sets its capacity."""
        cdef int order = 0, larger
        cdef uint64_t offset
        while (<uint64_t> KVOS_BLOCK_MIN << order) < length:
            order += 1
        larger = order
        while larger < self.orders and not self.free_blocks[larger]:
            larger += 1
        if larger >= self.orders:
            return 0
        offset = self.free_blocks[larger].pop()
        while larger > order:
            larger -= 1
            self.free_blocks[larger].add(offset + (<uint64_t> KVOS_BLOCK_MIN << larger))
        capacity[0] = <uint64_t> KVOS_BLOCK_MIN << order
        return self.heap_offset + offset

    cdef int release(self, own_slot *own, int which) except -1:
        """Zeroes and frees the block of a record that is not in force."""
        cdef int order = 0
        cdef uint64_t offset, buddy
        if own.block[which] == 0:
            return 0
        memset(self.base + own.block[which], 0, own.touched[which])
        offset = own.block[which] - self.heap_offset
        while (<uint64_t> KVOS_BLOCK_MIN << order) < own.capacity[which]:
            order += 1
        while order < self.orders - 1:
            buddy = offset ^ (<uint64_t> KVOS_BLOCK_MIN << order)
            if buddy not in self.free_blocks[order]:
                break
            self.free_blocks[order].remove(buddy)
            offset = min(offset, buddy)
            order += 1
        self.free_blocks[order].add(offset)
        own.block[which] = own.capacity[which] = own.touched[which] = 0
        return 0

    cdef uint64_t put(self, uint32_t number, const kvo_payload *payload, uint64_t version, uint64_t monotonic,
                      uint64_t wall) except? 0:
        """Writes a value under `version` (0: the next); returns the version, or 0 if no block is left for
        it."""
        cdef kvos_slot *slot = &self.slots[number]
        cdef own_slot *own = &self.own[number]
        cdef kvos_record *record = slot_open(slot)
        cdef int which = record == &slot.record[1]
        cdef uint32_t length = <uint32_t> payload.length
        cdef uint32_t old = record.length if record.block == 0 else 0
        cdef char *target
        if length > KVOS_INLINE or own.block[which]:
            if own.capacity[which] < length or own.capacity[which] > 8 * <uint64_t> max(length, 512):
                self.release(own, which)
                if length > KVOS_INLINE:
                    own.block[which] = self.allocate(length, &own.capacity[which])
                    if own.block[which] == 0:
                        return 0
        record.version = version if version else slot.sequence + 1
        record.monotonic_ns = monotonic if monotonic else now_ns(CLOCK_MONOTONIC)
        record.wall_ns = wall if wall else now_ns(CLOCK_REALTIME)
        record.length = length
        record.type = payload.type
        if length <= KVOS_INLINE:
            record.block = 0
            memcpy(record.value, payload.data, length)
            if old > length:
                memset(record.value + length, 0, old - length)
            if own.touched[which]:
                memset(self.base + own.block[which], 0, own.touched[which])
                own.touched[which] = 0
            record.crc = record_crc(record, record.value)
        else:
            record.block = own.block[which]
            target = self.base + record.block
            if old:
                memset(record.value, 0, old)
            if own.touched[which] > length:
                memset(target + length, 0, own.touched[which] - length)
            own.touched[which] = length
            if length < LARGE:
                memcpy(target, payload.data, length)
                record.crc = record_crc(record, target)
            else:
                with nogil:
                    memcpy(target, payload.data, length)
                    record.crc = record_crc(record, target)
        slot_publish(slot, record.version)
        return record.version

    cdef bint tell(self, uint32_t number, bint created) noexcept nogil:
        """Marks a slot dirty if somebody observes it; True if the controller must be woken."""
        cdef uint32_t flags
        cdef uint64_t epoch
        if self.entry == NULL:
            return False
        # SYNC POINT: either the controller, which raises the flag and then reads the version, sees the new
        # version, or the flag is seen here; pairs with the fences in TableWriter.set_flags() and
        # set_observed().
        kvo_fence()
        flags = kvo_load32(&self.entry.flags)
        if flags == 0:
            return False
        if not (flags & KVOT_ALL or created and flags & KVOT_NEW
                or kvo_load64(&self.bitmap[number // 64]) >> (number & 63) & 1):
            return False
        ring_append(self.header, self.ring, self.ring_count, number)
        # SYNC POINT: either the controller's second look sees the entry, or its odd epoch is seen here; pairs
        # with the fence in TableWriter.arm().
        kvo_fence()
        epoch = kvo_load64(&self.table.header.epoch)
        if epoch & 1 and epoch != self.rung:
            self.rung = epoch
            return True
        return False

    cdef object write(self, key, const kvo_payload *payload):
        cdef Py_ssize_t number, length
        cdef const char *utf8
        cdef bint created = False, ring = False
        cdef uint64_t version = 0
        if payload.length > self.value_max:
            raise ValueTooLargeError(
                f"the value of {key!r} takes {payload.length} bytes; the store of {self.name!r} "
                f"admits {self.value_max} (a quarter of its capacity)")
        utf8 = key_utf8(key, &length)
        if not PyUnicode_CheckExact(key):
            key = str.__str__(key)
        self.usable()
        self.enter()
        try:
            number = self.find(key)
            if number < 0:
                number = self.bind(key, utf8, length)
                created = True
            elif self.removed and number in self.removed:
                self.removed.remove(number)
                created = True
            if number >= 0:
                version = self.put(<uint32_t> number, payload, 0, 0, 0)
                if version:
                    ring = self.tell(<uint32_t> number, created)
        finally:
            self.exit()
        if ring and self.bell is not None:
            self.bell()
        if version:
            return version
        if number < 0:
            raise LimitError(
                f"no room for the key {key!r}: the store of {self.name!r} has max_keys={self.slot_count}")
        raise LimitError(f"no room for {payload.length} bytes of {key!r}: the store of {self.name!r} has "
                         f"capacity={self.size - self.heap_offset} bytes")

    def set(self, key, value) -> int:
        """Publishes a value; returns its version. Never waits for a reader.

        InvalidKeyError, InvalidValueError, ValueTooLargeError, LimitError (keys or memory), ClosedError,
        ForkedError.
        """
        cdef kvo_payload payload
        keep = encode(value, &payload)
        return self.write(key, &payload)

    def remove(self, key) -> int:
        """Ends a key: its value is scrubbed, its versions go on if it is set again. UnknownKeyError if it has
        none."""
        cdef kvo_payload payload
        cdef Py_ssize_t number
        cdef kvos_slot *slot
        cdef kvos_record *spent
        cdef uint64_t version = 0
        cdef bint ring = False
        self.usable()
        self.enter()
        try:
            number = self.find(key)
            if number >= 0:
                slot = &self.slots[number]
                if slot.record[slot.sequence & 1].type not in (KVO_UNSET, KVO_REMOVED):
                    payload.type = KVO_REMOVED
                    payload.length = 0
                    payload.data = payload.scratch
                    version = self.put(<uint32_t> number, &payload, 0, 0, 0)
                    # The value still lies in the record before: open it as if to write, and wipe it.
                    spent = slot_open(slot)
                    memset(spent, 0, sizeof(kvos_record))
                    self.release(&self.own[number], 0)
                    self.release(&self.own[number], 1)
                    self.removed.add(number)
                    ring = self.tell(<uint32_t> number, False)
        finally:
            self.exit()
        if not version:
            raise UnknownKeyError(f"{self.name!r} has no key {key!r}")
        if ring and self.bell is not None:
            self.bell()
        return version

    def restore(self, key, uint32_t type, bytes data, uint64_t version, uint64_t monotonic_ns,
                uint64_t wall_ns):
        """Takes over a value that another store's raw() gave, with its version. Only for keys not yet set
        here."""
        cdef kvo_payload payload
        cdef Py_ssize_t number, length
        cdef const char *utf8 = key_utf8(key, &length)
        cdef kvos_slot *slot
        cdef uint64_t done = 0
        payload.type = type
        payload.data = data
        payload.length = len(data)
        self.usable()
        self.enter()
        try:
            number = self.find(key)
            if number < 0 and payload.length <= self.value_max:
                number = self.bind(key, utf8, length)
                if number >= 0:
                    slot = &self.slots[number]
                    # Both records are empty: the count may start anywhere.
                    kvo_store64(&slot.begin, version - 1)
                    kvo_release64(&slot.sequence, version - 1)
                    done = self.put(<uint32_t> number, &payload, version, monotonic_ns, wall_ns)
        finally:
            self.exit()
        if not done:
            raise LimitError(
                f"{key!r} cannot be taken over: no room in the store of {self.name!r}, or it is set already")

    def raise_floor(self, uint64_t floor):
        """Lets every version be above `floor`: keys at or below it are published again, new ones begin above
        it."""
        cdef kvo_payload payload
        cdef kvos_slot *slot
        cdef kvos_record *record
        cdef uint64_t version, next_version
        cdef bint ring = False
        cdef Py_ssize_t number
        cdef bytes copy
        cdef char *source
        self.usable()
        for key in list(self.index):
            self.enter()
            try:
                self.floor = max(self.floor, floor)
                number = self.find(key)
                if number < 0:
                    continue
                slot = &self.slots[number]
                version = kvo_load64(&slot.sequence)
                record = &slot.record[version & 1]
                if version <= floor:
                    # The next version above the floor whose record is the one not in force.
                    next_version = floor + 1 + ((floor + 1 - version - 1) & 1)
                    payload.type = record.type
                    payload.length = record.length
                    source = <char *> record.value if record.block == 0 else self.base + record.block
                    copy = source[:record.length]
                    payload.data = copy
                    if record.type == KVO_UNSET:
                        kvo_release64(&slot.sequence, next_version)
                        kvo_release64(&slot.begin, next_version)
                    elif self.put(<uint32_t> number, &payload, next_version, record.monotonic_ns,
                                  record.wall_ns):
                        ring |= self.tell(<uint32_t> number, False)
            finally:
                self.exit()
        self.floor = max(self.floor, floor)
        if ring and self.bell is not None:
            self.bell()

    def begin_above(self, uint64_t floor):
        """Lets the versions of keys that are not set yet begin above `floor`."""
        self.floor = max(self.floor, floor)

    def finish(self):
        """Marks the store as closed by its owner, for readers that have no controller to tell them."""
        self.usable()
        kvo_release64(&self.header.closed, 1)

    def attach(self, Table table, uint32_t store, bell):
        """Connects the store with its entry in the registration table; `bell()` wakes the controller.

        Everything counts as dirty from here: what was set while no controller was looking is found.
        """
        if store >= table.store_count:
            raise CorruptStoreError(f"the controller's table has no entry {store}")
        self.enter()
        self.table = table
        self.bell = bell
        self.entry = &table.entries[store]
        self.bitmap = table.bitmaps + <size_t> (KVOT_BITMAP // 8) * store
        self.rung = 0
        kvo_release64(&self.header.ring_head, kvo_load64(&self.header.ring_head) + self.ring_count + 1)
        self.exit()

    def detach(self):
        """Ends what attach() began: values are stored, nobody is told."""
        # Held until after exit(): letting go of the table may run its finalizer.
        table, bell = self.table, self.bell
        self.enter()
        self.entry = NULL
        self.table = None
        self.bell = None
        self.exit()
