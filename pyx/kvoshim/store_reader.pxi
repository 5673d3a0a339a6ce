# The readers' side of the value store; part of _store.pyx.

cdef class Reader(Segment):
    """A store of another process, mapped read-only from a descriptor. The caller keeps the descriptor.

    Raises CorruptStoreError if the descriptor is no sealed store of this version.
    """

    def __init__(self, int fd):
        cdef size_t mapped
        self.base = memory_open(fd, KVO_PAGE, <size_t> -1, &mapped)
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
                or header.journal_offset < header.ring_offset + 4 * <uint64_t> header.ring_count
                or header.journal_offset > header.size or header.journal_size > KVOS_JOURNAL_MAX
                or header.journal_size & (header.journal_size - 1) or 0 < header.journal_size < KVOS_JOURNAL_MIN
                or header.heap_offset < header.journal_offset + header.journal_size
                or header.heap_offset > header.size or header.heap_offset + header.heap_size != header.size
                or header.size > mapped or not 1 <= header.name_length <= KVOS_KEY_MAX):
            raise CorruptStoreError("the value store's sizes and offsets contradict each other")
        self.slot_count = header.slot_count
        self.ring_count = header.ring_count
        self.size = header.size
        self.heap_offset = header.heap_offset
        self.journal_offset = header.journal_offset
        self.journal_size = header.journal_size
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
        cdef uint32_t number
        for number in range(<uint32_t> used):
            self.learn(number)
        self.seen = directory
        return True

    cdef bint learn(self, uint32_t number) except -1:
        """Takes in which key a slot stands for; False if it is the one that is known."""
        cdef uint64_t binding
        cdef uint8_t copy[256]
        # SYNC POINT: the key of this binding; pairs with Writer.bind().
        binding = kvo_acquire64(&self.slots[number].binding)
        if binding == self.bindings[number]:
            return False
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
        return True

    cpdef key_of(self, uint32_t number):
        """The key that a slot stands for now, or None. No other slot is looked at, whatever has become of them."""
        self.usable()
        if number < self.slot_count:
            self.learn(number)
        return self.bound.get(number)

    # --- the journal ---------------------------------------------

    def history(self, uint64_t position, uint64_t revision=NEWEST, bint skim=False, uint32_t most=0) -> tuple:
        """([Found, …], where to go on, gap): the changes from `position` on, up to the store's revision (or an earlier
        one). gap: entries from `position` on are no longer there; what is returned begins at the oldest that is. skim: goes
        over the entries without returning them. most: returns no more than these, and what has the last one's revision; 0: all.

        CorruptStoreError if what lies there is no journal. A value that was too long to be kept: not `kept`.
        """
        cdef kvos_entry entry
        cdef uint64_t head, tail, limit
        cdef uint32_t key_length, length, crc, expected, count = 0
        cdef uint64_t last = 0
        cdef char *at
        cdef char name[256]
        cdef bytes big
        cdef bint gap = False
        cdef int laps = 0
        self.usable()
        changes = []
        if not self.journal_size:
            return changes, position, False
        limit = min(in_force(self.header), revision)
        head = kvo_acquire64(&self.header.journal_head)
        tail = kvo_acquire64(&self.header.journal_tail)
        if position < tail or position > head:
            position, gap = tail, True
        while position < head:
            if self.journal_size - position % self.journal_size < sizeof(kvos_entry):
                position += self.journal_size - position % self.journal_size
                continue
            at = self.base + self.journal_offset + position % self.journal_size
            memcpy(&entry, at, sizeof(entry))
            # SYNC POINT: if a byte read was written later, the tail that was moved on before is seen; pairs with
            # Writer.journal().
            kvo_fence_acquire()
            if kvo_acquire64(&self.header.journal_tail) > position:
                changes.clear()  # with what is missing after them, they are no sequence
                count = 0
                position, gap = kvo_acquire64(&self.header.journal_tail), True
                laps += 1
                if position > kvo_acquire64(&self.header.journal_head) or laps > ATTEMPTS:
                    raise CorruptStoreError(f"the journal of {self.name!r} ends before it begins")
                continue
            key_length = entry.key_length
            if (entry.position != position or entry.size < sizeof(entry) or entry.size % 8
                    or entry.size > self.journal_size - position % self.journal_size or key_length > KVOS_KEY_MAX
                    or entry.size > head - position or entry.slot >= self.slot_count
                    or key_length and <uint64_t> entry.size < sizeof(entry) + key_length
                    + (0 if entry.type & KVO_NOT_KEPT else <uint64_t> entry.length)):
                raise CorruptStoreError(f"what lies at {position} in the journal of {self.name!r} is no entry")
            if entry.revision > limit:
                break
            if most and count >= most and entry.revision != last:
                break
            if key_length and not skim:
                memcpy(name, at + sizeof(entry), key_length)
                length = 0 if entry.type & KVO_NOT_KEPT else entry.length
                big = PyBytes_FromStringAndSize(NULL, length)
                expected, entry.crc = entry.crc, 0
                crc = kvo_copy_crc32c(kvo_crc32c(kvo_crc32c(0, &entry, sizeof(entry)), name, key_length), PyBytes_AS_STRING(big),
                                      at + sizeof(entry) + key_length, length)
                kvo_fence_acquire()
                if kvo_acquire64(&self.header.journal_tail) > position:
                    continue
                changes.append(self.change(&entry, self.name_of(name, key_length), big, crc == expected))
                count, last = count + 1, entry.revision
            position += entry.size
        return changes, position, gap

    cdef str name_of(self, const char *utf8, uint32_t length):
        """The key of these bytes; the same object if it is the same again."""
        cdef Py_ssize_t known = -1
        cdef const char *recent = NULL if self.recent is None else PyUnicode_AsUTF8AndSize(self.recent, &known)
        if known != <Py_ssize_t> length or memcmp(recent, utf8, length):
            self.recent = utf8[:length].decode("utf-8", "replace")
        return self.recent

    cdef Found change(self, kvos_entry *entry, str key, bytes big, bint whole):
        cdef Found found = Found.__new__(Found)
        found.key = key
        found.slot = entry.slot
        found.kept = entry.type & KVO_NOT_KEPT == 0
        found.revision = entry.revision
        found.count = entry.count
        found.changed = entry.count - min(entry.count, <uint64_t> (entry.type >> KVO_SAME_SHIFT))
        found.wall_ns = entry.wall_ns
        found.monotonic_ns = entry.monotonic_ns
        found.together = entry.type & KVO_TOGETHER != 0
        if not whole:
            found.state = CORRUPT
            found.value = CorruptStoreError(f"an entry for {found.key!r} in the journal of {self.name!r} contradicts its checksum")
        elif entry.type & KVO_TYPE == KVO_REMOVED:
            found.state = REMOVED
            found.reason = REASONS[big[0] & 3 if big else 0]
        else:
            found.state = SET
            if found.kept:
                try:
                    found.value = self.value(entry.type, NULL, entry.length, big)
                except CorruptStoreError as error:
                    found.state, found.value = CORRUPT, error
        return found

    @property
    def keeps_history(self) -> bool:
        """Whether there is a journal."""
        return self.journal_size != 0

    def history_bounds(self) -> tuple[int, int]:
        """Where the oldest entry begins, and where the next one will."""
        self.usable()
        return kvo_acquire64(&self.header.journal_tail), kvo_acquire64(&self.header.journal_head)
