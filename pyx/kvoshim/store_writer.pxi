# The owner's side of the value store, second part: what it is asked to do; part of _store.pyx.

cdef uint64_t REVISION_MAX = <uint64_t> 1 << 63  # what nobody can ever come to


cdef uint32_t ttl_of(double seconds) except? 0:
    """A time to live in milliseconds, rounded up."""
    if not 0 < seconds <= 4e6:
        raise LimitError(f"a time to live is more than 0 and at most 4,000,000 seconds, not {seconds!r}")
    return <uint32_t> ceil(seconds * 1000)


cdef class Writer(Owner):
    """Makes a value store that this process alone can write.

    max_keys: keys at the same time, 1 to 65536. capacity: bytes for values longer than 80 bytes, a power of
    two from 64 KiB to 1 TiB; reserved as address space, backed by memory only where used. One value may take
    a quarter of it (it needs two blocks). ring: entries of the dirty ring, a power of two. start: this
    process's start time in clock ticks since boot. history: bytes of the journal, a power of two from 4 KiB to
    4 GiB, or 0; a change takes 72 and its key and value. Setting is safe from several threads.
    """

    cdef object write(self, key, const kvo_payload *payload):
        cdef Py_ssize_t length
        cdef int number
        cdef const char *utf8
        cdef bint created = False, ring = False
        cdef uint64_t revision = 0
        cdef kvos_record *record
        self.check_length(key, payload.length)
        utf8 = key_utf8(key, &length)
        if not PyUnicode_CheckExact(key):
            key = str.__str__(key)
        self.usable()
        self.enter()
        try:
            number = self.slot_for(key, utf8, length, &created)
            if number >= 0:
                record = self.prepare(number, payload.length)
                if record != NULL:
                    revision = self.revision + 1
                    self.fill(number, record, payload, 0, 0, revision, now_ns(CLOCK_MONOTONIC), now_ns(CLOCK_REALTIME))
                    self.journal(number)
                    self.revision = revision
                    commit(self.header, revision)
                    ring = self.tell(number, created)
                elif created:
                    self.removed.add(number)
        finally:
            self.exit()
        if ring and self.bell is not None:
            self.bell()
        if revision:
            return revision
        raise self.no_room(key, number, payload.length)

    def set(self, key, value) -> int:
        """Publishes a value; returns its revision. Never waits for a reader.

        InvalidKeyError, InvalidValueError, ValueTooLargeError, LimitError (keys or memory), ClosedError,
        ForkedError.
        """
        cdef kvo_payload payload
        keep = encode(value, &payload)
        return self.write(key, &payload)

    def remove(self, key, str reason="deleted", revision=None) -> int:
        """Ends a key; its value is scrubbed. reason 'purged': what the journal has of it as well. revision: only if
        the key's is still this one. Returns the revision of the removal. UnknownKeyError, ConflictError."""
        return self.transact({}, {key: reason}, None if revision is None else {key: revision})

    def restore(self, key, uint32_t type, bytes data, uint64_t revision, uint64_t monotonic_ns,
                uint64_t wall_ns, uint32_t ttl_ms=0):
        """Takes over a value that another store's raw() gave, with its revision. Only for keys not yet set
        here."""
        cdef kvo_payload payload
        cdef Py_ssize_t length
        cdef int number = -1
        cdef const char *utf8 = key_utf8(key, &length)
        cdef bint done = False
        cdef kvos_record *record
        payload.type = type
        payload.data = data
        payload.length = len(data)
        self.usable()
        self.enter()
        try:
            if self.find(key) < 0 and payload.length <= self.value_max:
                number = self.bind(key, utf8, length)
                record = self.prepare(number, payload.length) if number >= 0 else NULL
                if record != NULL:
                    self.fill(number, record, &payload, 0, ttl_ms, revision, monotonic_ns, wall_ns)
                    self.revision = max(self.revision, revision)
                    commit(self.header, self.revision)
                    done = True
                elif number >= 0:
                    self.removed.add(number)
        finally:
            self.exit()
        if not done:
            raise LimitError(
                f"{key!r} cannot be taken over: no room in the store of {self.name!r}, or it is set already")

    def begin_above(self, uint64_t revision, uint64_t forgotten=0):
        """Lets the revisions of what is to come be above `revision`; the journal knows nothing up to it. forgotten: of
        deletions up to this revision no slot tells."""
        if revision >= REVISION_MAX:
            raise LimitError(f"no store has come to revision {revision}")
        self.usable()
        self.enter()
        self.revision = max(self.revision, revision)
        kvo_release64(&self.header.compacted, max(kvo_load64(&self.header.compacted), revision))
        kvo_release64(&self.header.forgotten, max(kvo_load64(&self.header.forgotten), forgotten))
        commit(self.header, self.revision)
        self.exit()

    def finish(self):
        """Marks the store as closed by its owner, for readers that have no controller to tell them."""
        self.usable()
        kvo_release64(&self.header.closed, 1)

    def attach(self, Table table, uint32_t store, bell):
        """Connects the store with its entry in the registration table; `bell()` wakes the controller.

        Everything counts as dirty from here: what was set while no controller was looking is found. Links that were are no
        more. ClosedError.
        """
        if store >= table.store_count:
            raise CorruptStoreError(f"the controller's table has no entry {store}")
        before = self.table, self.bells  # until after exit(): letting go of them may run a finalizer
        self.usable()
        self.enter()
        self.table = table
        self.bell = bell
        self.entry = &table.entries[store]
        self.bitmap = table.bitmaps + <size_t> (KVOT_BITMAP // 8) * store
        self.told = table.told + <size_t> (KVOT_BITMAP // 8) * store
        self.bells = {}
        self.link_count = 0
        self.rung = 0
        kvo_release64(&self.header.ring_head, kvo_load64(&self.header.ring_head) + self.ring_count + 1)
        self.exit()

    def detach(self):
        """Ends what attach() began: values are stored, nobody is told."""
        before = self.table, self.bell, self.bells
        self.enter()
        self.entry = NULL
        self.table = None
        self.bell = None
        self.bells = {}
        self.link_count = 0
        self.exit()

    def link(self, uint64_t number, uint32_t row, Bell bell not None):
        """Rings an observing process from here on. number: the controller's for the link; row: its place in the table.

        CorruptStoreError if the table has no such place, or there is such a link already.
        """
        cdef own_link *links
        cdef bint known = False
        before = self.bells
        if number in before:  # its bell is in use as long as the link is there
            raise CorruptStoreError(f"the controller gave link {number} of {self.name!r} twice")
        bells = {**before, number: bell}
        self.usable()
        self.enter()
        links = <own_link *> calloc(self.link_count + 1, sizeof(own_link))
        if links != NULL and self.entry != NULL and row < self.table.link_count:
            if self.links != NULL:
                memcpy(links, self.links, self.link_count * sizeof(own_link))
            links[self.link_count] = own_link(
                number, &self.table.links[row], self.table.link_bitmaps + <size_t> (KVOT_BITMAP // 8) * row, bell.page,
                &bell.rung, bell.fd)
            self.links, links = links, self.links
            self.link_count += 1
            self.bells = bells
            known = True
        self.exit()
        free(links)
        if not known:
            raise CorruptStoreError(f"the controller's table has no link {row}")

    def unlink(self, uint64_t number):
        """Ends what link() began; an unknown number is no error."""
        cdef uint32_t i, kept = 0
        before = self.bells
        bells = {other: bell for other, bell in before.items() if other != number}
        self.enter()
        for i in range(self.link_count):
            if self.links[i].number != number:
                self.links[kept] = self.links[i]
                kept += 1
        self.link_count = kept
        self.bells = bells
        self.exit()

    @property
    def linked(self) -> int:
        """How many processes this store rings by itself."""
        return self.link_count

    def purge_history(self, key):
        """Wipes what the journal has of a key: its entries stay, as values that were not kept."""
        cdef uint64_t position, head
        cdef kvos_entry *entry
        cdef char *body
        cdef bytes name = key.encode()
        cdef const char *text = name
        self.usable()
        self.enter()
        position, head = kvo_load64(&self.header.journal_tail), kvo_load64(&self.header.journal_head)
        while position < head:
            if self.journal_size - position % self.journal_size < sizeof(kvos_entry):
                position += self.journal_size - position % self.journal_size
                continue
            entry = <kvos_entry *> (self.base + self.journal_offset + position % self.journal_size)
            body = <char *> entry + sizeof(kvos_entry)
            if (entry.key_length == <size_t> len(name) and memcmp(body, text, entry.key_length) == 0
                    and entry.type & KVO_TYPE != KVO_REMOVED and not entry.type & KVO_NOT_KEPT):
                # A reader that is just copying this finds a checksum that does not fit, and looks again.
                memset(body + entry.key_length, 0, entry.size - sizeof(kvos_entry) - entry.key_length)
                entry.type |= KVO_NOT_KEPT
                entry.crc = 0
                entry.crc = kvo_crc32c(kvo_crc32c(0, entry, sizeof(kvos_entry)), body, entry.key_length)
            position += entry.size
        self.exit()

    def transact(self, dict sets, dict removals=None, dict expect=None) -> int:
        """Sets and removes several keys under one revision, which it returns: whoever reads sees all of it or nothing, also
        if this process dies meanwhile.

        sets: key -> (value, ttl, ephemeral). removals: key -> reason. expect: key -> the revision that it must still have
        (0: no value). ConflictError, UnknownKeyError (nothing to remove), and as set(); nothing has changed then.
        """
        cdef kvo_payload *payloads
        cdef uint32_t *numbers
        cdef kvos_record **records
        cdef bint *created
        cdef Py_ssize_t i, length, total, done = 0, ready = 0
        cdef int number = 0
        cdef const char *utf8
        cdef uint32_t flags
        cdef uint64_t revision, monotonic, wall
        cdef bint ring = False
        cdef object error = None
        removals = removals or {}
        names = [*sets, *removals]
        total = len(names)
        for key in [*names, *(expect or ())]:
            key_utf8(key, &length)
        options = [ttl_of(sets[key][1]) if key in sets and sets[key][1] else 0 for key in names]
        self.usable()
        payloads = <kvo_payload *> calloc(max(total, 1), sizeof(kvo_payload))
        numbers = <uint32_t *> calloc(max(total, 1), sizeof(uint32_t))
        records = <kvos_record **> calloc(max(total, 1), sizeof(void *))
        created = <bint *> calloc(max(total, 1), sizeof(bint))
        try:
            if payloads == NULL or numbers == NULL or records == NULL or created == NULL:
                raise MemoryError()
            kept = []
            for i in range(total):
                if names[i] in sets:
                    kept.append(encode(sets[names[i]][0], &payloads[i]))
                    self.check_length(names[i], payloads[i].length)
                else:
                    payloads[i].type = KVO_REMOVED
                    payloads[i].scratch[0] = REASONS.index(removals[names[i]])
                    payloads[i].data = payloads[i].scratch
                    payloads[i].length = 1
            self.enter()
            try:
                error = self.objection(removals, expect)
                for i in range(total if error is None else 0):
                    utf8 = key_utf8(names[i], &length)
                    number = self.slot_for(names[i], utf8, length, &created[i])
                    if number >= 0:
                        numbers[i] = number
                        ready += created[i]
                        records[i] = self.prepare(number, payloads[i].length)
                    if number < 0 or records[i] == NULL:
                        error = self.no_room(names[i], number, payloads[i].length)
                        if number >= 0 and created[i]:
                            self.removed.add(number)
                        break
                    done += 1
                if error is not None:
                    for i in range(done):  # opened, but nothing was published
                        if created[i]:
                            self.removed.add(<object> numbers[i])
                    total = 0
                if total:
                    revision = self.revision + 1
                    monotonic, wall = now_ns(CLOCK_MONOTONIC), now_ns(CLOCK_REALTIME)
                    for i in range(total):
                        flags = KVO_TOGETHER if total > 1 else 0
                        if names[i] in sets and sets[names[i]][2]:
                            flags |= KVO_EPHEMERAL
                        self.fill(numbers[i], records[i], &payloads[i], flags, options[i], revision, monotonic, wall)
                        self.journal(numbers[i])
                    self.revision = revision
                    commit(self.header, revision)
                    for i in range(total):
                        if names[i] in removals:
                            self.wipe(numbers[i])
                        ring |= self.tell(numbers[i], created[i])
            finally:
                self.exit()
        finally:
            free(payloads)
            free(numbers)
            free(records)
            free(created)
        if ring and self.bell is not None:
            self.bell()
        if error is not None:
            raise error
        for key, reason in removals.items():
            if reason == "purged":
                self.purge_history(key)
        return revision if total else self.revision

    cdef object objection(self, dict removals, dict expect):
        """Why a transaction cannot be: the error, or None."""
        cdef kvos_record *record
        cdef Py_ssize_t number
        cdef uint64_t now
        for key in [*removals, *(expect or ())]:
            number = self.find(key)
            now = 0
            if number >= 0:
                record = &self.slots[number].record[self.slots[number].sequence & 1]
                if record.type & KVO_TYPE not in (KVO_UNSET, KVO_REMOVED):
                    now = record.revision
            if expect and key in expect and expect[key] != now:
                return ConflictError(f"{key!r} of {self.name!r} has revision {now}, not {expect[key]}")
            if key in removals and not now:
                return UnknownKeyError(f"{self.name!r} has no key {key!r}")
        return None

    def expire(self, key, uint64_t revision) -> bool:
        """Removes a key whose value of this revision has expired; False if it has another one by now."""
        try:
            self.transact({}, {key: "expired"}, {key: revision})
        except (ConflictError, UnknownKeyError):
            return False
        return True

    def raise_floor(self, uint64_t floor):
        """Lets every revision be above `floor`: keys at or below it are published again, in the order of their
        revisions."""
        cdef kvo_payload payload
        cdef kvos_record *record
        cdef kvos_record *target
        cdef kvos_slot *slot
        cdef bint ring = False
        cdef Py_ssize_t number
        cdef bytes copy
        cdef char *source
        if floor >= REVISION_MAX:
            raise LimitError(f"no store has come to revision {floor}")
        self.usable()
        self.enter()
        self.revision = max(self.revision, floor)
        self.exit()
        for found in self.newer(0, None, False)[1]:
            if found.revision > floor:
                continue
            self.usable()
            self.enter()
            try:
                number = self.find(found.key)
                if number < 0:
                    continue
                slot = &self.slots[number]
                record = &slot.record[slot.sequence & 1]
                if record.type == KVO_UNSET or record.revision > floor:
                    continue
                payload.type = record.type & KVO_TYPE
                payload.length = record.length
                source = <char *> record.value if record.block == 0 else self.base + record.block
                copy = source[:record.length]
                payload.data = copy
                target = self.prepare(<uint32_t> number, payload.length)
                if target != NULL:
                    self.revision += 1
                    self.fill(<uint32_t> number, target, &payload, record.type & KVO_EPHEMERAL, record.ttl_ms, self.revision,
                              record.monotonic_ns, record.wall_ns)
                    self.journal(<uint32_t> number)
                    commit(self.header, self.revision)
                    ring |= self.tell(<uint32_t> number, False)
            finally:
                self.exit()
        # What was known up to `floor` was another store's: neither journal nor slots tell of it.
        self.begin_above(0 if self.revision < floor else floor, floor)
        if ring and self.bell is not None:
            self.bell()
