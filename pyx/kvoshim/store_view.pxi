# A value where it lies, without a copy; part of _store.pyx.

cdef class View:
    """The bytes of a value in shared memory, read-only; `with view as array:` gives them as what they are.

    The owner writes a key's two blocks in turn: after two more writes of the key, or once it is removed, other bytes
    lie here. check() tells, and so does the end of the `with` block: what was computed counts if it raises nothing.
    """

    def check(self):
        """ExpiredViewError if the bytes may be another value's by now."""
        if self.copy is None and not self.valid:
            raise ExpiredViewError(f"the value of revision {self.revision} in {self.segment.name!r} was overwritten")

    @property
    def valid(self) -> bool:
        """Whether everything that was read so far was of the one value."""
        if self.copy is not None:
            return True
        return slot_unchanged(self.slot, self.count) and kvo_load64(&self.slot.binding) == self.binding

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void *> self.data, self.length, 1, flags)

    def __len__(self):
        return self.length

    @property
    def content(self):
        """The NumPy array, or a memoryview of bytes; read-only."""
        if self.type != KVO_ARRAY:
            return memoryview(self)
        try:
            return array_of(self)
        except Exception as error:
            self.check()  # else it was a value, and is being overwritten
            raise CorruptStoreError(f"the value of revision {self.revision} is not decodable: {error}") from error

    def __enter__(self):
        return self.content

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.check()

    def __dealloc__(self):
        if self.segment is not None:
            self.segment.leave()  # unmaps what was closed meanwhile


cdef View view_of(Segment segment, key):
    """A view of a key's value. UnknownKeyError, InvalidValueError if it is neither an array nor bytes."""
    cdef kvos_record record
    cdef uint64_t count = 0
    cdef Py_ssize_t number
    cdef int attempt
    cdef View view = View.__new__(View)
    cdef object big
    for attempt in range(ATTEMPTS):
        big = segment.load(key, &record, &count, False)  # whole and checked, once
        if record.type == KVO_UNSET or segment.reason(&record) >= 0:
            raise UnknownKeyError(f"{segment.name!r} has no key {key!r}")
        if record.type & KVO_TYPE not in (KVO_ARRAY, KVO_BYTES):
            raise InvalidValueError(f"{key!r} of {segment.name!r} is neither an array nor bytes: there is no view of it")
        view.type = record.type & KVO_TYPE
        view.length = record.length
        view.revision = record.revision
        if big is None:
            view.copy = record.value[:record.length]
            view.data = view.copy
            return view
        number = segment.find(key)
        if number < 0:  # removed meanwhile, and another thread has noticed
            continue
        view.slot = &segment.slots[<uint32_t> number]
        view.binding = segment.bindings[<uint32_t> number]
        view.count = count + kvo_load64(&view.slot.born)  # of the slot's writes, the one that is looked at
        if memcmp(&view.slot.record[view.count & 1], &record, sizeof(record)):
            continue  # overwritten already
        view.data = segment.base + record.block
        segment.users += 1
        view.segment = segment
        return view
    raise ReadContentionError(f"{key!r} of {segment.name!r} was overwritten during each of {ATTEMPTS} attempts to view it")
