from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset
from posix.unistd cimport close, getpid

from kvoshim._memory cimport fork_generation, memory_create, memory_open, memory_unmap
from kvoshim._values cimport key_utf8
from kvoshim.store_protocol cimport (
    KVO_LAYOUT, KVO_PAGE, KVOS_KEY_MAX, KVOS_SLOTS_MAX, KVOT_ALL, KVOT_BITMAP, KVOT_MAGIC, KVOT_NEW,
    KVOT_SOME, fall_asleep, kvo_fence_acquire, kvo_fence, kvo_fence_release, kvo_acquire32, kvo_load64, kvo_load32,
    kvo_store32, kvo_release32, kvo_store64, kvot_entry, kvot_header, kvot_link, kvot_row, wake_up)

from kvoshim.errors import CorruptStoreError, LimitError

cdef uint32_t NO_STORE = 0xffffffff


cdef uint64_t page_end(uint64_t offset):
    return (offset + KVO_PAGE - 1) // KVO_PAGE * KVO_PAGE


cdef set names_of(uint32_t flags):
    names = (KVOT_SOME, "some"), (KVOT_ALL, "all"), (KVOT_NEW, "new")
    return {name for bit, name in names if flags & bit}


cdef uint32_t flags_of(bint some, bint all, bint new):
    return (KVOT_SOME if some else 0) | (KVOT_ALL if all else 0) | (KVOT_NEW if new else 0)


cdef class Table:
    """A registration table, mapped read-only from a descriptor that the controller sent. The caller keeps
    `fd`.

    Raises CorruptStoreError if it is none of this version.
    """

    def __cinit__(self, *args, **kwargs):
        self.fd = -1
        self.generation = fork_generation()

    def __init__(self, int fd):
        self.base = memory_open(fd, KVO_PAGE, <size_t> -1, &self.size)
        self.header = <kvot_header *> self.base
        self.store_count = self.header.store_count
        self.row_count = self.header.row_count
        self.link_count = self.header.link_count
        cdef uint64_t entries = self.header.entries_offset
        cdef uint64_t bitmaps = self.header.bitmaps_offset
        cdef uint64_t told = self.header.told_offset
        cdef uint64_t rows = self.header.rows_offset
        cdef uint64_t links = self.header.links_offset
        cdef uint64_t link_bitmaps = self.header.link_bitmaps_offset
        # Load once, check, then use: the offsets must be those that follow from the counts.
        if self.header.magic != KVOT_MAGIC or self.header.layout != KVO_LAYOUT:
            raise CorruptStoreError(
                f"no registration table of layout {KVO_LAYOUT} (magic {self.header.magic:#x}, "
                f"layout {self.header.layout})")
        if (self.store_count > 1 << 20 or self.row_count > 1 << 24 or self.link_count > 1 << 20 or entries != KVO_PAGE
                or bitmaps != entries + sizeof(kvot_entry) * <uint64_t> self.store_count
                or told != bitmaps + <uint64_t> KVOT_BITMAP * self.store_count
                or rows != told + <uint64_t> KVOT_BITMAP * self.store_count
                or links != rows + sizeof(kvot_row) * <uint64_t> self.row_count
                or link_bitmaps != page_end(links + sizeof(kvot_link) * <uint64_t> self.link_count)
                or link_bitmaps + <uint64_t> KVOT_BITMAP * self.link_count > self.size):
            raise CorruptStoreError("the registration table's offsets do not fit its size")
        self.place()

    cdef int place(self) except -1:
        cdef size_t bitmaps = <size_t> KVOT_BITMAP * self.store_count
        self.entries = <kvot_entry *> (self.base + KVO_PAGE)
        self.bitmaps = <uint64_t *> (<char *> self.entries + sizeof(kvot_entry) * <size_t> self.store_count)
        self.told = <uint64_t *> (<char *> self.bitmaps + bitmaps)
        self.row_array = <kvot_row *> (<char *> self.told + bitmaps)
        self.links = <kvot_link *> (<char *> self.row_array + sizeof(kvot_row) * <size_t> self.row_count)
        cdef size_t links_end = <char *> self.links - self.base + sizeof(kvot_link) * <size_t> self.link_count
        self.link_bitmaps = <uint64_t *> (self.base + page_end(links_end))
        self.instance = self.header.instance[:16]
        return 0

    def __dealloc__(self):
        if self.base != NULL and (self.fd < 0 or self.generation == fork_generation()):
            memory_unmap(self.base, self.size)
        if self.fd >= 0:
            close(self.fd)

    @property
    def epoch(self) -> int:
        """Odd: the controller sleeps, or is about to. Even: it is awake."""
        return kvo_load64(&self.header.epoch)

    @property
    def controller(self) -> tuple[int, int]:
        """The controller's PID and start time (clock ticks since boot)."""
        return self.header.controller_pid, self.header.controller_start

    @property
    def beat(self) -> tuple[int, int]:
        """When the controller was last awake (CLOCK_MONOTONIC, ns), and after how many ms it counts as hung (0: never)."""
        return kvo_load64(&self.header.beat), kvo_load64(&self.header.hung_after_ms)

    def flags(self, uint32_t store) -> set[str]:
        """What is asked of a store: 'some' keys are observed, 'all' are, 'new' ones are awaited."""
        if store >= self.store_count:
            raise IndexError(store)
        return names_of(kvo_load32(&self.entries[store].flags))

    def told_flags(self, uint32_t store) -> set[str]:
        """As flags(), of what the controller has to tell somebody of."""
        if store >= self.store_count:
            raise IndexError(store)
        return names_of(kvo_load32(&self.entries[store].told))

    def link(self, uint32_t number) -> dict | None:
        """A link: observer_pid, store, flags; None if the owner of no store uses it."""
        if number >= self.link_count:
            raise IndexError(number)
        cdef kvot_link *link = &self.links[number]
        if link.observer_pid == 0:
            return None
        return {"observer_pid": link.observer_pid, "store": link.store, "flags": names_of(kvo_load32(&link.flags))}

    def observed(self, uint32_t store, uint32_t slot) -> bool:
        """Whether somebody observes the key in this slot by its name."""
        if store >= self.store_count or slot >= KVOS_SLOTS_MAX:
            raise IndexError((store, slot))
        return bool(kvo_load64(&self.bitmaps[store * (KVOT_BITMAP // 8) + slot // 64]) >> (slot & 63) & 1)

    def rows(self) -> list[dict]:
        """The registrations: observer_pid, observable_pid (0: not there yet), name, key (None: all),
        registered (s)."""
        cdef kvot_row copy
        cdef uint32_t i
        found = []
        for i in range(self.row_count):
            # SYNC POINT: the row's fields; pairs with TableWriter.add_row().
            if kvo_acquire32(&self.row_array[i].live) != 1:
                continue
            memcpy(&copy, &self.row_array[i], sizeof(copy))
            kvo_fence_acquire()
            if kvo_load32(&self.row_array[i].live) != 1:
                continue  # removed while it was copied
            if copy.key_length > KVOS_KEY_MAX or copy.name_length > KVOS_KEY_MAX:
                continue
            found.append({
                "observer_pid": copy.observer_pid, "observable_pid": copy.observable_pid,
                "name": copy.name[:copy.name_length].decode("utf-8", "replace"),
                "key": copy.key[:copy.key_length].decode("utf-8", "replace") if copy.key_length else None,
                "registered": copy.registered_ns / 1e9})
        return found


cdef class TableWriter(Table):
    """The controller's side: makes the table, sealed so that every other process can only read it.

    store_count: stores at the same time (each may have 65536 keys); row_count: registrations at the same
    time; link_count: pairs of a store and a process that its owner rings. Only what is used takes memory.
    """

    def __init__(self, bytes instance, uint32_t store_count=1024, uint32_t row_count=16384, uint64_t start=0,
                 uint32_t link_count=4096):
        assert len(instance) == 16
        cdef uint64_t bitmaps = KVO_PAGE + sizeof(kvot_entry) * <uint64_t> store_count
        cdef uint64_t told = bitmaps + <uint64_t> KVOT_BITMAP * store_count
        cdef uint64_t rows = told + <uint64_t> KVOT_BITMAP * store_count
        cdef uint64_t links = rows + sizeof(kvot_row) * <uint64_t> row_count
        cdef uint64_t link_bitmaps = page_end(links + sizeof(kvot_link) * <uint64_t> link_count)
        self.size = link_bitmaps + page_end(<uint64_t> KVOT_BITMAP * link_count)
        self.fd = memory_create("kvoshim-table", self.size, &self.base)
        self.header = <kvot_header *> self.base
        self.header.magic = KVOT_MAGIC
        self.header.layout = KVO_LAYOUT
        self.header.header_size = sizeof(kvot_header)
        self.header.size = self.size
        self.header.store_count = self.store_count = store_count
        self.header.row_count = self.row_count = row_count
        self.header.entry_size = sizeof(kvot_entry)
        self.header.row_size = sizeof(kvot_row)
        self.header.entries_offset = KVO_PAGE
        self.header.bitmaps_offset = bitmaps
        self.header.told_offset = told
        self.header.rows_offset = rows
        self.header.link_count = self.link_count = link_count
        self.header.link_size = sizeof(kvot_link)
        self.header.links_offset = links
        self.header.link_bitmaps_offset = link_bitmaps
        self.header.controller_pid = getpid()
        self.header.controller_start = start
        memcpy(self.header.instance, <const char *> instance, 16)
        self.place()
        self.free_rows = []

    def arm(self):
        """Says that the controller is about to sleep. Whatever was set before the caller's next look, it will
        see."""
        fall_asleep(&self.header.epoch)

    def disarm(self):
        """Says that the controller is awake and will look at the dirty rings by itself before it sleeps
        again."""
        wake_up(&self.header.epoch)

    def show(self, uint64_t now_ns, uint64_t hung_after_ms):
        """Gives a sign of life."""
        kvo_store64(&self.header.beat, now_ns)
        kvo_store64(&self.header.hung_after_ms, hung_after_ms)

    def set_flags(self, uint32_t store, bint some, bint all, bint new):
        """What anybody observes of a store."""
        if store >= self.store_count:
            raise IndexError(store)
        kvo_store32(&self.entries[store].flags, flags_of(some, all, new))
        # What was set before and told nobody is visible after this; pairs with the full fence in
        # Owner.tell().
        kvo_fence()

    def set_told_flags(self, uint32_t store, bint some, bint all, bint new):
        """What the controller has to tell somebody of."""
        if store >= self.store_count:
            raise IndexError(store)
        kvo_store32(&self.entries[store].told, flags_of(some, all, new))
        kvo_fence()  # as in set_flags()

    cdef int set_bit(self, uint64_t *bitmaps, uint32_t number, uint32_t count, uint32_t slot, bint on) except -1:
        if number >= count or slot >= KVOS_SLOTS_MAX:
            raise IndexError((number, slot))
        cdef uint64_t *word = &bitmaps[<size_t> number * (KVOT_BITMAP // 8) + slot // 64]
        cdef uint64_t bit = <uint64_t> 1 << (slot & 63)
        cdef uint64_t value = kvo_load64(word)
        kvo_store64(word, value | bit if on else value & ~bit)
        kvo_fence()  # as in set_flags()
        return 0

    cdef void wipe_bits(self, uint64_t *bitmaps, uint32_t number) noexcept:
        cdef uint64_t *bitmap = &bitmaps[<size_t> number * (KVOT_BITMAP // 8)]
        cdef uint32_t i
        for i in range(KVOT_BITMAP // 8):
            if bitmap[i]:
                kvo_store64(&bitmap[i], 0)

    def set_observed(self, uint32_t store, uint32_t slot, bint on):
        """Whether anybody observes the key in this slot by its name."""
        self.set_bit(self.bitmaps, store, self.store_count, slot, on)

    def set_told(self, uint32_t store, uint32_t slot, bint on):
        """Whether the controller has to tell somebody of it."""
        self.set_bit(self.told, store, self.store_count, slot, on)

    def clear(self, uint32_t store):
        """Empties a store's entry before another store takes its place."""
        self.set_flags(store, False, False, False)
        self.set_told_flags(store, False, False, False)
        self.wipe_bits(self.bitmaps, store)
        self.wipe_bits(self.told, store)

    # --- links ---------------------------------------------

    @property
    def links_max(self) -> int:
        return self.link_count

    def open_link(self, uint32_t number, uint32_t store, int observer_pid, uint64_t observer_start):
        """Gives a link to a store and a process; nothing is observed yet."""
        if number >= self.link_count or store >= self.store_count:
            raise IndexError((number, store))
        cdef kvot_link *link = &self.links[number]
        link.store = store
        link.observer_start = observer_start
        link.observer_pid = observer_pid

    def set_link_flags(self, uint32_t number, bint some, bint all, bint new):
        """What this process observes of this store."""
        if number >= self.link_count:
            raise IndexError(number)
        kvo_store32(&self.links[number].flags, flags_of(some, all, new))
        kvo_fence()  # as in set_flags()

    def set_linked(self, uint32_t number, uint32_t slot, bint on):
        """Whether it observes the key in this slot by its name."""
        self.set_bit(self.link_bitmaps, number, self.link_count, slot, on)

    def close_link(self, uint32_t number):
        """Empties a link before another pair has it. An owner that has yet to hear of that rings once too often at worst."""
        self.set_link_flags(number, False, False, False)
        self.wipe_bits(self.link_bitmaps, number)
        self.links[number].observer_pid = 0

    # --- rows ---------------------------------------------

    def row_ns(self, uint32_t number) -> int:
        """When a registration was made, by the wall clock."""
        return self.row_array[number].registered_ns if number < self.row_count else 0

    def add_row(self, int observer_pid, uint64_t observer_start, str name, key,
                uint64_t registered_ns) -> int:
        """Notes a registration; returns the row's number. LimitError if the table is full."""
        cdef Py_ssize_t length
        cdef const char *utf8
        cdef uint32_t number
        if self.free_rows:
            number = self.free_rows.pop()
        elif self.rows_used < self.row_count:
            number = self.rows_used
            self.rows_used += 1
        else:
            raise LimitError(f"the registration table is full ({self.row_count} registrations)")
        cdef kvot_row *row = &self.row_array[number]
        row.observer_pid = observer_pid
        row.observer_start = observer_start
        row.observable_pid = 0
        row.store = NO_STORE
        row.registered_ns = registered_ns
        if key is not None:
            utf8 = key_utf8(key, &length)
            memcpy(row.key, utf8, length)
            row.key_length = length
        utf8 = key_utf8(name, &length)
        memcpy(row.name, utf8, length)
        row.name_length = length
        # SYNC POINT: the fields above; pairs with Table.rows().
        kvo_release32(&row.live, 1)
        return number

    def bind_row(self, uint32_t number, int observable_pid, store):
        """Notes which store a registration has found (None: none)."""
        self.row_array[number].observable_pid = observable_pid
        self.row_array[number].store = NO_STORE if store is None else store

    def remove_row(self, uint32_t number):
        kvo_store32(&self.row_array[number].live, 0)
        kvo_fence_release()
        memset(<char *> &self.row_array[number] + 4, 0, sizeof(kvot_row) - 4)
        self.free_rows.append(number)
