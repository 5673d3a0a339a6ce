"""Sealed shared memory: made by its only writer, mapped read-only by everybody else."""
from libc.stdint cimport uint64_t

cdef int memory_create(const char *name, size_t size, char **base) except -1
cdef char *memory_open(int fd, size_t least, size_t most, size_t *size) except NULL
cdef void memory_unmap(char *base, size_t size) noexcept nogil
cdef unsigned fork_generation() noexcept nogil
