/* Descriptors: close, duplicates, flags. */
#include "next.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <unistd.h>

EXPORT int close(int fd) {
  if (likely(ident_of(fd) == 0) && likely(!kvo_epoll_known(fd))) return NEXT(close)(fd);
  return kvo_close(fd);
}

/* Everything from first to last but our own descriptors. */
static int close_around(unsigned first, unsigned last, int flags) {
  unsigned high = kvo_load32(&kvo_process.fd_high), from = first;
  if (high > last) high = last;
  for (unsigned fd = first; fd <= high && kvo_process.table_len; fd++) {
    if (ident_of((int)fd) != KVO_INTERNAL) continue;
    if (fd > from && NEXT(close_range)(from, fd - 1, flags)) return -1;
    from = fd + 1;
  }
  return from > last ? 0 : NEXT(close_range)(from, last, flags);
}

EXPORT int close_range(unsigned first, unsigned last, int flags) {
  if (!kvo_process.table_len || first > last || flags & (int)CLOSE_RANGE_CLOEXEC)
    return NEXT(close_range)(first, last, flags);
  int r = close_around(first, last, flags);
  if (r == 0)
    for (unsigned fd = first; fd <= last && fd <= kvo_load32(&kvo_process.fd_high); fd++)
      if (ident_of((int)fd) != KVO_INTERNAL) kvo_replaced((int)fd);
  return r;
}

EXPORT void closefrom(int first) {
  int saved = errno;
  if (close_range(first < 0 ? 0 : (unsigned)first, ~0u, 0))
    for (int fd = first < 0 ? 0 : first, last = (int)sysconf(_SC_OPEN_MAX); fd < last; fd++) close(fd);
  errno = saved;
}

static int duplicated(int old_fd, int new_fd) {
  if (new_fd >= 0 && (unlikely(ident_of(old_fd) != 0) || unlikely(kvo_epoll_known(old_fd)))) kvo_dup(old_fd, new_fd);
  return new_fd;
}

EXPORT int dup(int fd) { return duplicated(fd, MAKE_DESCRIPTOR(NEXT(dup)(fd))); }

/* The program wants a number of ours. Ours moves only if the kernel will not refuse: 1, it has. */
static int made_way(int old_fd, int new_fd, int flags) {
  int saved = errno, goes = !(flags & ~O_CLOEXEC) && (unsigned)new_fd < kvo_descriptor_limit() && NEXT(fcntl)(old_fd, F_GETFD) >= 0;
  if (goes) kvo_move_internal(new_fd);
  errno = saved;
  return goes && ident_of(new_fd) != KVO_INTERNAL;
}

static int duplicate_onto(int old_fd, int new_fd, int flags, int three) {
  int moved = unlikely(ident_of(new_fd) == KVO_INTERNAL) && old_fd != new_fd && made_way(old_fd, new_fd, flags);
  int r = three ? NEXT(dup3)(old_fd, new_fd, flags) : NEXT(dup2)(old_fd, new_fd);
  if (unlikely(moved) && r < 0) { /* refused after all: what lies there still is nobody's */
    int why = errno;
    NEXT(close)(new_fd);
    errno = why;
  }
  if (r < 0 || old_fd == new_fd) return r;
  if (unlikely(ident_of(new_fd) != 0) || unlikely(kvo_epoll_known(new_fd))) kvo_replaced(new_fd);
  return duplicated(old_fd, r);
}

EXPORT int dup2(int old_fd, int new_fd) { return duplicate_onto(old_fd, new_fd, 0, 0); }

EXPORT int dup3(int old_fd, int new_fd, int flags) { return duplicate_onto(old_fd, new_fd, flags, 1); }

static int control(int fd, int command, void *argument) {
  int32_t ident = ident_of(fd);
  if (unlikely(ident < 0) && command == F_SETFL && (intptr_t)argument & O_ASYNC) kvo_demote(ident, fd, KVO_SIGNALS);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
    return duplicated(fd, MAKE_DESCRIPTOR(NEXT(fcntl)(fd, command, argument)));
  int r = NEXT(fcntl)(fd, command, argument);
  if (likely(ident == 0) && likely(!kvo_epoll_known(fd))) return r;
  if (r < 0 || ident >= 0) return r;
  if (command == F_SETFL) kvo_set_nonblock(ident, ((intptr_t)argument & O_NONBLOCK) != 0);
  return r;
}

EXPORT int fcntl(int fd, int command, ...) {
  va_list args;
  va_start(args, command);
  void *argument = va_arg(args, void *);
  va_end(args);
  return control(fd, command, argument);
}

EXPORT int fcntl64(int fd, int command, ...) {
  va_list args;
  va_start(args, command);
  void *argument = va_arg(args, void *);
  va_end(args);
  return control(fd, command, argument);
}

EXPORT int ioctl(int fd, unsigned long request, ...) {
  va_list args;
  va_start(args, request);
  void *argument = va_arg(args, void *);
  va_end(args);
  int32_t ident = ident_of(fd);
  if (unlikely(ident < 0)) {
    ssize_t bytes = -1;
    int saved = errno;
    if (request == FIONREAD) bytes = kvo_readable_bytes(ident, fd);
    else if (request == SIOCOUTQ) bytes = kvo_unsent_bytes(ident);
    else if (request == SIOCATMARK) kvo_attend(ident, fd);
    else if (request == FIONBIO && argument) kvo_set_nonblock(ident, *(int *)argument != 0);
    else if (request == FIOASYNC && argument && *(int *)argument) kvo_demote(ident, fd, KVO_SIGNALS);
    errno = saved;
    if (bytes >= 0 && !kvo_nowhere(argument)) {
      *(int *)argument = (int)bytes;
      return 0;
    }
  }
  return NEXT(ioctl)(fd, request, argument);
}
