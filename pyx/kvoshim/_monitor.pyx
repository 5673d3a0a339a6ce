from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from kvoshim._store cimport Reader
from kvoshim.store_protocol cimport KVOS_TOLD, in_force, kvo_acquire64, kvo_load32, kvo_load64, kvos_slot, ring_head, slot_enter


cdef class Monitor(Reader):
    """A store with its dirty ring: which slots were written since the last look. Each process that looks has its own place
    in the ring."""

    def __init__(self, int fd):
        Reader.__init__(self, fd)
        self.met = <unsigned char *> calloc(self.slot_count, 1)
        if self.met == NULL:
            raise MemoryError()
        self.tail = self.examined = ring_head(self.header)

    def __dealloc__(self):
        free(self.met)

    def waiting(self) -> bool:
        """Whether drain() would find something."""
        return ring_head(self.header) != self.tail

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

    def drain(self):
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

    def slot_version(self, uint32_t number) -> int:
        """How often the slot was written, up to what is in force."""
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

    def slots_used(self) -> int:
        """Slots that were ever bound."""
        return min(kvo_acquire64(&self.header.slots_used), <uint64_t> self.slot_count)
