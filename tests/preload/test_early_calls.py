"""Libraries that are initialised before ours call through it: they get the C library's functions."""

import pytest
import shimlib
import snippetlib

EARLY = r"""
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

int kvoshim_connection_id(int fd) __attribute__((weak));

#ifdef ALLOCATOR  /* as allocators do that read /proc or /sys at the first allocation */
extern void *__libc_malloc(size_t);
void *malloc(size_t n)
{
    static int first;
    if (!first) {
        first = 1;
        int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
        char text[8];
        if (fd < 0 || read(fd, text, 8) != 8 || close(fd)) abort();
    }
    return __libc_malloc(n);
}
#endif

__attribute__((constructor(101))) static void early(void)
{
    int ends[2], active = kvoshim_connection_id ? kvoshim_connection_id(-1) : -1;
    errno = 77;
    FILE *stream = fopen("/dev/null", "r");
    DIR *directory = opendir("/");
    int file = open("/dev/null", O_RDONLY), event = eventfd(0, 0), piped = pipe(ends), why = errno;
    dprintf(1, "active %d, made %d, errno %d\n", active, stream && directory && file >= 0 && event >= 0 && !piped, why);
    close(file), close(event), close(ends[0]), close(ends[1]), fclose(stream), closedir(directory);
}
"""


@pytest.mark.parametrize("flags", [(), ("-DALLOCATOR",)])
def test_calls_before_our_constructor(place, flags):
    source, library = place / "early.c", place / "early.so"
    source.write_text(EARLY)
    snippetlib.built(source, library, ("-O1", "-fPIC", "-shared", *flags))
    done = shimlib.run(["true"], None, LD_PRELOAD=f"{shimlib.library()}:{library}", KVOSHIM_PATHS="*").check()
    assert done.out == b"active 0, made 1, errno 77\n"  # 0: our own constructor is still to come
