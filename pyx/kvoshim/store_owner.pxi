# The owner's side of the value store, first part: memory; part of _store.pyx.

cdef class Owner(Segment):
    """A value store's memory as its owner keeps it: slots, blocks, journal; what Writer's methods are made of."""

    def __init__(self, str name, uint32_t max_keys=4096, uint64_t capacity=1 << 28, uint32_t ring=4096,
                 uint64_t start=0, uint64_t history=1 << 20):
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
        if history and (not KVOS_JOURNAL_MIN <= history <= KVOS_JOURNAL_MAX or history & (history - 1)):
            raise LimitError(f"history is a power of two from {KVOS_JOURNAL_MIN} to {KVOS_JOURNAL_MAX} bytes, or 0, "
                             f"not {history}")
        self.name = name
        self.slot_count = max_keys
        self.ring_count = ring
        self.lock = PyThread_allocate_lock()
        self.own = <own_slot *> calloc(max_keys, sizeof(own_slot))
        if self.lock == NULL or self.own == NULL:
            raise MemoryError()
        cdef uint64_t slots = KVO_PAGE + KVOS_KEY_SIZE * <uint64_t> max_keys
        cdef uint64_t ring_at = slots + sizeof(kvos_slot) * <uint64_t> max_keys
        self.journal_offset = (ring_at + 4 * <uint64_t> ring + KVO_PAGE - 1) // KVO_PAGE * KVO_PAGE
        self.journal_size = history
        self.heap_offset = self.journal_offset + history
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
        self.header.journal_offset = self.journal_offset
        self.header.journal_size = history
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
        self.bells = {}
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
        free(self.links)

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
        cdef uint64_t binding, version, fresh
        cdef kvos_slot *slot
        cdef kvos_record *last
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
        version = kvo_load64(&slot.sequence)
        fresh = version + (2 if binding else 0)
        last = &slot.record[version & 1]
        if binding and last.type != KVO_UNSET and last.revision > kvo_load64(&self.header.forgotten):
            kvo_release64(&self.header.forgotten, last.revision)  # nothing tells of that deletion any more
        kvo_fence_release()
        kvo_store64(&slot.begin, fresh)  # both records are being changed
        # SYNC POINT: whoever sees a byte cleared below sees the binding or `begin` changed; pairs with
        # slot_unchanged().
        kvo_fence_release()
        if binding:
            memset(slot.record, 0, sizeof(slot.record))
        memset(place, 0, KVOS_KEY_SIZE)
        memcpy(place + 1, utf8, length)
        place[0] = <char> length
        kvo_store64(&slot.born, fresh)
        # SYNC POINT: the empty records and the changed binding; pairs with slot_enter().
        kvo_release64(&slot.sequence, fresh)
        # SYNC POINT: key and records; pairs with Reader.learn().
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

    cdef kvos_record *prepare(self, uint32_t number, size_t length) except? NULL:
        """Opens a slot for a value of `length` bytes and gets a block for it if it needs one; NULL if there is none.
        Whatever is in force stays so."""
        cdef own_slot *own = &self.own[number]
        cdef kvos_record *record = slot_open(&self.slots[number])
        cdef int which = record == &self.slots[number].record[1]
        if length > KVOS_INLINE or own.block[which]:
            if own.capacity[which] < length or own.capacity[which] > 8 * <uint64_t> max(length, 512):
                self.release(own, which)
                if length > KVOS_INLINE:
                    own.block[which] = self.allocate(length, &own.capacity[which])
                    if own.block[which] == 0:
                        return NULL
        return record

    cdef uint32_t same(self, kvos_slot *slot, const kvo_payload *payload) noexcept:
        """How many writes up to this one, which is about to be done, change nothing."""
        cdef kvos_record *last = &slot.record[slot.sequence & 1]
        cdef uint32_t run
        if last.type & KVO_TYPE != payload.type or last.length != payload.length:
            return 0
        if memcmp(payload.data, <char *> last.value if last.block == 0 else self.base + last.block, last.length):
            return 0
        run = last.type >> KVO_SAME_SHIFT
        return run + (run < 0xffff)

    cdef int fill(self, uint32_t number, kvos_record *record, const kvo_payload *payload, uint32_t flags,
                  uint32_t ttl_ms, uint64_t revision, uint64_t monotonic, uint64_t wall) except -1:
        """Writes a value into the record that prepare() gave and publishes it; commit() puts it in force."""
        cdef kvos_slot *slot = &self.slots[number]
        cdef own_slot *own = &self.own[number]
        cdef int which = record == &slot.record[1]
        cdef uint32_t length = <uint32_t> payload.length
        cdef uint32_t old = record.length if record.block == 0 else 0
        cdef char *target
        record.revision = revision
        record.monotonic_ns = monotonic
        record.wall_ns = wall
        record.length = length
        record.type = payload.type | flags | self.same(slot, payload) << KVO_SAME_SHIFT
        record.ttl_ms = ttl_ms
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
                record.crc = record_copy(record, target, payload.data)
            else:
                with nogil:
                    record.crc = record_copy(record, target, payload.data)
        slot_publish(slot)
        return 0

    cdef int wipe(self, uint32_t number) except -1:
        """Wipes the value before a deletion that is in force: opens its record as if to write."""
        cdef kvos_record *spent = slot_open(&self.slots[number])
        memset(spent, 0, sizeof(kvos_record))
        self.release(&self.own[number], 0)
        self.release(&self.own[number], 1)
        self.removed.add(number)
        return 0

    cdef bint tell(self, uint32_t number, bint created) noexcept nogil:
        """Marks a slot dirty if somebody observes it, and rings the observers that sleep; True if the controller must be
        woken."""
        cdef uint32_t flags, i
        cdef bint told
        if self.entry == NULL:
            return False
        # SYNC POINT: either the controller, which raises the flag and then reads the version, sees the new
        # version, or the flag is seen here; pairs with the fences in TableWriter.set_flags() and
        # set_bit().
        kvo_fence()
        flags = kvo_load32(&self.entry.flags)
        if not concerns(flags, self.bitmap, number, created):
            return False
        # A key that has come to a slot, or back to it, may have to be bound in the table: the controller looks at each.
        told = concerns(kvo_load32(&self.entry.told), self.told, number, created) or created and (
            flags & KVOT_NEW or kvo_load64(&self.bitmap[number // 64]) >> (number & 63) & 1)
        ring_append(self.header, self.ring, self.ring_count, number | KVOS_TOLD if told else number)
        # SYNC POINT: either a sleeper's second look sees the entry, or its odd epoch is seen here; pairs with the fence in
        # fall_asleep(). Likewise a link that begins: either its bits are seen here, or the entry by whoever raised them.
        kvo_fence()
        for i in range(self.link_count):
            if concerns(kvo_load32(&self.links[i].entry.flags), self.links[i].bitmap, number, created):
                bell_ring(self.links[i].page, self.links[i].rung, self.links[i].fd)
        return told and sleeps(&self.table.header.epoch, &self.rung)

    cdef int slot_for(self, key, const char *utf8, Py_ssize_t length, bint *created) except -2:
        """The slot of a key that is about to be set, bound if need be; -1: there is none."""
        cdef Py_ssize_t number = self.find(key)
        created[0] = False
        if number < 0:
            created[0] = True
            return self.bind(key, utf8, length)
        if self.removed and number in self.removed:
            self.removed.remove(number)
            created[0] = True
        return <int> number

    cdef object no_room(self, key, Py_ssize_t number, size_t length):
        if number < 0:
            return LimitError(
                f"no room for the key {key!r}: the store of {self.name!r} has max_keys={self.slot_count}")
        return LimitError(f"no room for {length} bytes of {key!r}: the store of {self.name!r} has "
                          f"capacity={self.size - self.heap_offset} bytes")

    cdef int check_length(self, key, size_t length) except -1:
        if length > self.value_max:
            raise ValueTooLargeError(
                f"the value of {key!r} takes {length} bytes; the store of {self.name!r} "
                f"admits {self.value_max} (a quarter of its capacity)")
        return 0

    cdef void forget_oldest(self, uint64_t needed) noexcept:
        """Gives up the journal's oldest entries until `needed` bytes are free, and zeroes them."""
        cdef uint64_t tail = kvo_load64(&self.header.journal_tail), start = tail
        cdef uint64_t head = kvo_load64(&self.header.journal_head)
        cdef uint64_t compacted = kvo_load64(&self.header.compacted), left, begin, end
        cdef kvos_entry *entry
        while head + needed - tail > self.journal_size:
            left = self.journal_size - tail % self.journal_size
            if left < sizeof(kvos_entry):
                tail += left
                continue
            entry = <kvos_entry *> (self.base + self.journal_offset + tail % self.journal_size)
            if entry.key_length:
                compacted = entry.revision
            tail += entry.size
        if tail == start:
            return
        kvo_release64(&self.header.compacted, compacted)
        kvo_release64(&self.header.journal_tail, tail)
        # SYNC POINT: whoever sees a byte changed below also sees the tail; pairs with Reader.history().
        kvo_fence_release()
        begin, end = start % self.journal_size, tail % self.journal_size
        if begin < end:
            memset(self.base + self.journal_offset + begin, 0, end - begin)
        else:
            memset(self.base + self.journal_offset + begin, 0, self.journal_size - begin)
            memset(self.base + self.journal_offset, 0, end)

    cdef int journal(self, uint32_t number) noexcept:
        """Appends what was just published in a slot; it counts once commit() has its revision."""
        cdef kvos_slot *slot = &self.slots[number]
        cdef kvos_record *record = &slot.record[slot.sequence & 1]
        cdef const uint8_t *key = <const uint8_t *> self.keys_base + <size_t> KVOS_KEY_SIZE * number
        cdef const char *value = <const char *> record.value if record.block == 0 else self.base + record.block
        cdef uint64_t head, left, position
        cdef uint32_t length = record.length, size
        cdef kvos_entry *entry
        cdef char *body
        if not self.journal_size:
            kvo_release64(&self.header.compacted, record.revision)
            return 0
        cdef bint kept = length <= self.journal_size // 8
        if not kept:
            length = 0
        size = (sizeof(kvos_entry) + key[0] + length + 7) // 8 * 8
        head = kvo_load64(&self.header.journal_head)
        left = self.journal_size - head % self.journal_size
        position = head + left if left < size else head
        self.forget_oldest(position + size - head)
        if position != head and left >= sizeof(kvos_entry):
            entry = <kvos_entry *> (self.base + self.journal_offset + head % self.journal_size)
            entry.position = head
            entry.revision = 0
            entry.size = <uint32_t> left
            entry.key_length = 0
        entry = <kvos_entry *> (self.base + self.journal_offset + position % self.journal_size)
        entry.position = position
        entry.revision = record.revision
        entry.monotonic_ns = record.monotonic_ns
        entry.wall_ns = record.wall_ns
        entry.count = slot.sequence - slot.born
        entry.size = size
        entry.crc = 0
        entry.slot = number
        entry.type = record.type | (0 if kept else KVO_NOT_KEPT)
        entry.length = record.length
        entry.ttl_ms = record.ttl_ms
        entry.key_length = key[0]
        body = <char *> entry + sizeof(kvos_entry)
        memcpy(body, key + 1, key[0])
        entry.crc = kvo_copy_crc32c(kvo_crc32c(kvo_crc32c(0, entry, sizeof(kvos_entry)), key + 1, key[0]), body + key[0], value,
                                    length)
        # SYNC POINT: the entry; pairs with Reader.history().
        kvo_release64(&self.header.journal_head, position + size)
        return 0
