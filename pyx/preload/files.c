/* Calls that make a descriptor of a file, a pipe or the like. None is ours; but where the program has used up its numbers, it
 * gets those that the library can do without, as it has them on kernel sockets. The C library's own calls don't pass here, so
 * fopen() and opendir() are here beside open(). */
#include "next.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* There is a mode only where a file may be made. */
#define MODE                                                                   \
  mode_t mode = 0;                                                             \
  if (unlikely(flags & O_CREAT) || unlikely((flags & O_TMPFILE) == O_TMPFILE)) { \
    va_list more;                                                              \
    va_start(more, flags);                                                     \
    mode = va_arg(more, mode_t);                                               \
    va_end(more);                                                              \
  }

#define OPEN(name)                                                \
  EXPORT int name(const char *path, int flags, ...) {             \
    MODE                                                          \
    return MAKE_DESCRIPTOR(NEXT(name)(path, flags, mode));        \
  }
#define OPENAT(name)                                              \
  EXPORT int name(int directory, const char *path, int flags, ...) { \
    MODE                                                          \
    return MAKE_DESCRIPTOR(NEXT(name)(directory, path, flags, mode)); \
  }
#define MAKES(type, name, parameters, arguments) \
  type name parameters;                          \
  EXPORT type name parameters { return MAKE(NEXT(name) arguments, (type)-1); }
#define STREAM(type, name, parameters, arguments) \
  EXPORT type *name parameters { return MAKE(NEXT(name) arguments, NULL); }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
MAKES(int, __open_2, (const char *path, int flags), (path, flags))
MAKES(int, __open64_2, (const char *path, int flags), (path, flags))
MAKES(int, __openat_2, (int directory, const char *path, int flags), (directory, path, flags))
MAKES(int, __openat64_2, (int directory, const char *path, int flags), (directory, path, flags))
MAKES(int, creat, (const char *path, mode_t mode), (path, mode))
MAKES(int, creat64, (const char *path, mode_t mode), (path, mode))
STREAM(FILE, fopen, (const char *restrict path, const char *restrict mode), (path, mode))
STREAM(FILE, fopen64, (const char *restrict path, const char *restrict mode), (path, mode))
STREAM(DIR, opendir, (const char *path), (path))

MAKES(int, pipe, (int ends[2]), (ends))
MAKES(int, pipe2, (int ends[2], int flags), (ends, flags))
MAKES(int, socketpair, (int domain, int type, int protocol, int ends[2]), (domain, type, protocol, ends))
MAKES(int, eventfd, (unsigned count, int flags), (count, flags))
MAKES(int, timerfd_create, (clockid_t clock, int flags), (clock, flags))
MAKES(int, signalfd, (int fd, const sigset_t *mask, int flags), (fd, mask, flags))
MAKES(int, inotify_init, (void), ())
MAKES(int, inotify_init1, (int flags), (flags))
