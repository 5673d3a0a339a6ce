# One way to make and one to open a memfd. Its owner maps it for writing and then seals it: from there on the
# kernel refuses every further way to write to it (mmap, mprotect, write, truncate) to everybody, the owner's
# own descriptor included, and since it can't shrink, no reader can be killed by SIGBUS.
from libc.errno cimport EINVAL, errno
from libc.stdint cimport uint64_t
from posix.stat cimport fstat, struct_stat
from posix.unistd cimport close, ftruncate

from kvoshim.errors import CorruptStoreError, KvoshimError, LimitError

cdef extern from "<sys/mman.h>" nogil:
    int memfd_create(const char *name, unsigned int flags)
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long long offset)
    int munmap(void *address, size_t length)
    int madvise(void *address, size_t length, int advice)
    int PROT_READ, PROT_WRITE, MAP_SHARED, MADV_DONTFORK
    void *MAP_FAILED
    unsigned int MFD_CLOEXEC, MFD_ALLOW_SEALING

cdef extern from "<fcntl.h>" nogil:
    int fcntl(int fd, int command, ...)
    int F_ADD_SEALS, F_GET_SEALS

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(void (*prepare)() noexcept nogil, void (*parent)() noexcept nogil,
                       void (*child)() noexcept nogil)

cdef extern from *:
    """
    #ifndef MFD_NOEXEC_SEAL
    #define MFD_NOEXEC_SEAL 0x0008U
    #endif
    #ifndef F_SEAL_FUTURE_WRITE
    #define F_SEAL_FUTURE_WRITE 0x0010
    #endif
    #define KVO_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE)
    """
    unsigned int MFD_NOEXEC_SEAL
    int KVO_SEALS

cdef unsigned _generation = 0


cdef void _in_child() noexcept nogil:
    global _generation
    _generation += 1


# Objects remember the generation in which they were made: in a forked child it differs, without a system
# call.
pthread_atfork(NULL, NULL, _in_child)


cdef unsigned fork_generation() noexcept nogil:
    return _generation


def generation() -> int:
    """How many forks lie between the first process that loaded this module and this one."""
    return _generation


cdef int memory_create(const char *name, size_t size, char **base) except -1:
    """Makes a sealed memfd of `size` bytes, all zero and not yet backed by memory; sets `base`, returns the
    descriptor."""
    cdef int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL)
    if fd < 0 and errno == EINVAL:  # kernels before 6.3 do not know NOEXEC
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)
    if fd < 0:
        raise LimitError(
            f"no shared memory can be made (memfd_create: errno {errno}); is the limit on open files "
            "reached (ulimit -n)?")
    cdef void *address = MAP_FAILED
    if ftruncate(fd, <long long> size) == 0:
        address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
    if address == MAP_FAILED:
        code = errno
        close(fd)
        raise LimitError(
            f"{size} bytes of shared memory cannot be mapped (errno {code}); choose a smaller capacity "
            "or raise the limit on address space (ulimit -v)")
    # A forked child must not write beside its parent: the mapping does not exist there.
    if madvise(address, size, MADV_DONTFORK) < 0 or fcntl(fd, F_ADD_SEALS, KVO_SEALS) < 0:
        code = errno
        munmap(address, size)
        close(fd)
        raise KvoshimError(f"shared memory cannot be sealed (errno {code}); Linux 5.1 or later is needed")
    base[0] = <char *> address
    return fd


cdef char *memory_open(int fd, size_t least, size_t most, size_t *size) except NULL:
    """Maps a descriptor that another process sent, read-only. CorruptStoreError unless it is sealed, big
    enough and not too large."""
    cdef struct_stat facts
    cdef int seals = fcntl(fd, F_GET_SEALS)
    if seals < 0 or seals & KVO_SEALS != KVO_SEALS:
        raise CorruptStoreError(
            f"descriptor {fd} is no sealed shared memory (seals {seals:#x}, needed {KVO_SEALS:#x})")
    if fstat(fd, &facts) < 0 or facts.st_size < 0 or <size_t> facts.st_size < least:
        raise CorruptStoreError(
            f"descriptor {fd} is too small: {facts.st_size} bytes, at least {least} are needed")
    if <size_t> facts.st_size > most:
        raise CorruptStoreError(f"descriptor {fd} is too large: {facts.st_size} bytes, at most {most} are expected")
    cdef void *address = mmap(NULL, facts.st_size, PROT_READ, MAP_SHARED, fd, 0)
    if address == MAP_FAILED:
        raise LimitError(f"{facts.st_size} bytes of shared memory cannot be mapped (errno {errno})")
    size[0] = facts.st_size
    return <char *> address


cdef void memory_unmap(char *base, size_t size) noexcept nogil:
    munmap(base, size)
