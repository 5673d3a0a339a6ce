from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from kvoshim._store cimport Reader
from kvoshim.store_protocol cimport KVOS_TOLD, in_force, kvo_acquire64, kvo_load32, kvo_load64, kvos_slot, ring_head, slot_enter


cdef enum:
    AT_ONCE = 4096  # slots that one call compares
    FEW = 1024      # entries of the dirty ring that are looked at one by one


cdef class Monitor(Reader):
    """A store with its dirty ring: which slots were written since the last look. Each process that looks has its own place
    in the ring. What one call does is bounded, whatever the store's owner does meanwhile."""

    def __init__(self, int fd):
        Reader.__init__(self, fd)
        self.met = <unsigned char *> calloc(self.slot_count, 1)
        self.named = <unsigned char *> calloc(self.slot_count, 1)
        self.told = <uint64_t *> calloc(self.slot_count, sizeof(uint64_t))  # costs nothing until it is touched
        self.stray = <unsigned char *> calloc(self.slot_count, 1)
        if self.met == NULL or self.named == NULL or self.told == NULL or self.stray == NULL:
            raise MemoryError()
        self.tail = self.examined = ring_head(self.header)

    def __dealloc__(self):
        free(self.met)
        free(self.named)
        free(self.told)
        free(self.stray)

    # --- what is observed ---------------------------------------------

    def name_slot(self, uint32_t number, bint observed) -> int:
        """Whether somebody observes the slot's key by name; returns the count of writes of which it is told. Those who observe
        all keys may have to be told of these writes yet."""
        cdef uint64_t version = self.version(number)
        if number < self.slot_count:
            self.named[number] = observed
            if observed and not self.all:
                self.told[number] = version
        return version

    def name_all(self, bint observed):
        """Whether somebody observes all keys. What was written before is not told of, except to those who observe it by name."""
        cdef uint32_t number
        if observed and not self.all:
            for number in range(self.slots_used()):
                if not self.named[number]:
                    self.told[number] = self.version(number)
        self.all = observed

    # --- which keys there are ---------------------------------------------

    def discover(self, uint32_t most) -> list[int]:
        """(Controller) The slots that stand for another key than when they were looked at last, of the next `most` slots. After
        discovering() is False, every key that had a slot before is known."""
        cdef list found = []
        cdef uint32_t looks, used
        cdef uint64_t directory
        self.usable()
        # SYNC POINT: bindings and keys; pairs with the end of Writer.bind().
        directory = kvo_acquire64(&self.header.directory)
        used = self.slots_used()
        if directory != self.listed:
            self.listed, self.unlisted = directory, used
        for looks in range(min(most, self.unlisted)):
            self.place_at = self.place_at + 1 if self.place_at + 1 < used else 0
            self.unlisted -= 1
            if self.learn(self.place_at) or self.untold:
                found.append(self.place_at)
            if self.untold:
                self.untold -= 1
        return found

    def rediscover(self):
        """Has the next calls of discover() tell of all keys again."""
        self.unlisted = self.untold = self.slots_used()

    def discovering(self) -> bool:
        """Whether there may be keys that are not known yet."""
        return self.unlisted > 0 or kvo_acquire64(&self.header.directory) != self.listed

    def slot_of(self, key) -> int:
        """The slot of a key, if it is known; else -1."""
        cdef Py_ssize_t number
        self.usable()
        number = self.find(key)
        if number >= 0 and kvo_acquire64(&self.slots[number].binding) != self.bindings[number]:
            return -1  # no longer there
        return number

    # --- what was written ---------------------------------------------

    def waiting(self) -> bool:
        """Whether something is left to be looked at."""
        return self.left > 0 or ring_head(self.header) != self.tail

    def compare(self):
        """Has the next calls of changes() look at all slots, whatever the dirty ring says."""
        self.left = self.slots_used()

    def comparing(self) -> bool:
        """Whether not all slots were compared yet."""
        return self.left > 0

    def changes(self, uint32_t most):
        """[(slot, count of writes), …] of observed keys that were written since their observers were told; they count as
        told now. At most `most`; the rest comes with the next call."""
        cdef uint64_t head = ring_head(self.header), first = self.tail
        cdef uint32_t used, looks = 0
        cdef list found = []
        if head - first < self.ring_count:
            while self.tail != head and looks < AT_ONCE and len(found) < most:
                self.meet(kvo_load32(&self.ring[self.tail & (self.ring_count - 1)]) & ~KVOS_TOLD, found, True)
                self.tail += 1
                looks += 1
        # Were entries overwritten before they were read?
        if ring_head(self.header) - first >= self.ring_count:
            self.tail = ring_head(self.header)
            self.over = True
            self.compare()
        while self.left and looks < AT_ONCE and len(found) < most:
            used = self.slots_used()
            self.at = self.at + 1 if self.at + 1 < used else 0
            self.left = min(self.left - 1, used)
            self.meet(self.at, found, False)
            looks += 1
        return found

    cdef int meet(self, uint32_t number, list found, bint announced) except -1:
        cdef uint64_t version
        if announced:
            self.take(number)
        if number < self.slot_count and (self.all or self.named[number]):
            version = self.version(number)
            if version != self.told[number]:
                self.told[number] = version
                found.append((number, version))
                if not announced and not self.stray[number]:
                    self.stray[number] = 1
                    self.strays += 1
        return 0

    cdef void take(self, uint32_t number) noexcept:
        """The ring announces it."""
        if number < self.slot_count and self.stray[number]:
            self.stray[number] = 0
            self.strays -= 1

    def unannounced(self) -> bool:
        """Whether comparing has found what the ring does not announce. Asked when all is compared; it begins anew then."""
        cdef uint64_t head = ring_head(self.header), i
        cdef bint found
        if self.strays and head - self.tail < self.ring_count:
            for i in range(self.tail, head):
                self.take(kvo_load32(&self.ring[i & (self.ring_count - 1)]) & ~KVOS_TOLD)
        found = self.strays > 0
        if found:
            memset(self.stray, 0, self.slot_count)
            self.strays = 0
        return found

    def ran_over(self) -> bool:
        """Whether the ring ran over since this was asked last."""
        cdef bint over = self.over
        self.over = False
        return over

    def called(self) -> bool:
        """(Controller) Whether something was written that it has to tell somebody of, or the ring ran over."""
        cdef uint64_t head = ring_head(self.header), i
        cdef bint found = False
        self.examined = max(self.examined, self.tail)
        if head - self.examined >= self.ring_count:
            return True
        for i in range(self.examined, head):
            if kvo_load32(&self.ring[i & (self.ring_count - 1)]) & KVOS_TOLD:
                found = True
                break
        # Were entries overwritten while they were read?
        if found or ring_head(self.header) - self.examined >= self.ring_count:
            return True
        self.examined = head
        return False

    cpdef list drain(self):
        """The slots written since the last look, each once; None if the ring ran over: look at all of
        them."""
        if self.base == NULL:
            return []
        cdef uint64_t head = ring_head(self.header)
        cdef uint64_t i
        cdef uint32_t number
        if head - self.tail >= self.ring_count:
            self.tail = head
            return None
        slots = []
        for i in range(self.tail, head):
            number = kvo_load32(&self.ring[i & (self.ring_count - 1)]) & ~KVOS_TOLD
            if number < self.slot_count and not self.met[number]:
                self.met[number] = 1
                slots.append(number)
        for number in slots:
            self.met[number] = 0
        # Were entries overwritten while they were read?
        if ring_head(self.header) - self.tail >= self.ring_count:
            self.tail = ring_head(self.header)
            return None
        self.tail = head
        return slots

    cdef bint only(self, uint32_t number, uint64_t binding) noexcept:
        """Takes what is in the dirty ring, if it is about this slot alone and that stands for the key of this binding. Else it
        leaves everything to drain()."""
        cdef uint64_t head = ring_head(self.header)
        cdef uint64_t i
        if (number >= self.slot_count or head - self.tail >= min(<uint64_t> self.ring_count, FEW)
                or kvo_acquire64(&self.slots[number].binding) != binding):
            return False
        for i in range(self.tail, head):
            if kvo_load32(&self.ring[i & (self.ring_count - 1)]) & ~KVOS_TOLD != number:
                return False
        # Were entries overwritten while they were read?
        if ring_head(self.header) - self.tail >= self.ring_count:
            return False
        self.tail = head
        return True

    def slot_version(self, uint32_t number) -> int:
        """How often the slot was written, up to what is in force."""
        return self.version(number)

    cdef uint64_t version(self, uint32_t number) noexcept:
        cdef kvos_slot *slot
        cdef uint64_t version
        if number >= self.slot_count:
            return 0
        slot = &self.slots[number]
        version = slot_enter(slot)
        # What is not in force yet is told of when it is: to count it now would be to tell of it too early, and never
        # again. A record that is just being overwritten may be taken for one that is not: the newer one is told of.
        return version - (kvo_load64(&slot.record[version & 1].revision) > in_force(self.header))

    def highest(self) -> int:
        """The store's revision: none of its keys is above."""
        return in_force(self.header)

    def slot_binding(self, uint32_t number) -> int:
        """Changes whenever the slot comes to stand for another key."""
        return kvo_acquire64(&self.slots[number].binding) if number < self.slot_count else 0

    cpdef uint32_t slots_used(self) noexcept:
        """Slots that were ever bound."""
        return min(kvo_acquire64(&self.header.slots_used), <uint64_t> self.slot_count)
