/* Readiness: poll, select, epoll. */
#include "next.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static int any_of_ours(const struct pollfd *fds, nfds_t n) {
  if (unlikely(kvo_nowhere(fds))) return 0;
  for (nfds_t i = 0; i < n; i++)
    if (unlikely(ident_of(fds[i].fd) < 0) || unlikely(kvo_epoll_known(fds[i].fd))) return 1;
  return 0;
}

EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask) {
  if (likely(!kvo_process.table_len) || likely(!any_of_ours(fds, n))) return NEXT(ppoll)(fds, n, timeout, mask);
  int saved = errno;
  return (int)result(kvo_poll(fds, n, timeout, mask), saved);
}

EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout) {
  if (likely(!kvo_process.table_len) || likely(!any_of_ours(fds, n))) return NEXT(poll)(fds, n, timeout);
  struct timespec t = {timeout / 1000, timeout % 1000 * 1000000L};
  int saved = errno;
  return (int)result(kvo_poll(fds, n, timeout < 0 ? NULL : &t, NULL), saved);
}

extern void __chk_fail(void) __attribute__((noreturn));

EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t room) {
  if (room / sizeof *fds < n) __chk_fail();
  return poll(fds, n, timeout);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
                       size_t room) {
  if (room / sizeof *fds < n) __chk_fail();
  return ppoll(fds, n, timeout, mask);
}

/* select() with one of ours is a poll(): the same words mean the same (see select(2), "Correspondence"). Sets may be
 * larger than FD_SETSIZE: they have n bits, whatever fd_set says. */
static int bit(const fd_set *set, int fd) {
  return set && ((const unsigned long *)set)[(size_t)fd / (8 * sizeof(long))] >> ((size_t)fd % (8 * sizeof(long))) & 1;
}

static void set_bit(fd_set *set, int fd) {
  ((unsigned long *)set)[(size_t)fd / (8 * sizeof(long))] |= 1ul << ((size_t)fd % (8 * sizeof(long)));
}

/* The descriptors of one word of the sets, in any of the three. */
static unsigned long word(int n, int at, const fd_set *r, const fd_set *w, const fd_set *e) {
  const int bits = 8 * sizeof(long);
  unsigned long all = (r ? ((const unsigned long *)r)[at] : 0) | (w ? ((const unsigned long *)w)[at] : 0) |
                      (e ? ((const unsigned long *)e)[at] : 0);
  return n - at * bits >= bits ? all : all & ((1ul << (n - at * bits)) - 1);
}

static int select_has_ours(int n, const fd_set *r, const fd_set *w, const fd_set *e) {
  const int bits = 8 * sizeof(long);
  for (int at = 0; at * bits < n && (unsigned)(at * bits) <= kvo_load32(&kvo_process.fd_high); at++)
    for (unsigned long left = word(n, at, r, w, e); left; left &= left - 1) {
      int fd = at * bits + __builtin_ctzl(left);
      if (ident_of(fd) < 0 || kvo_epoll_known(fd)) return 1;
    }
  return 0;
}

static int select_by_poll(int n, fd_set *r, fd_set *w, fd_set *e, const struct timespec *timeout, const sigset_t *mask) {
  struct pollfd here[FD_SETSIZE], *fds = here;
  int saved = errno;
  if (n > FD_SETSIZE && !(fds = malloc((size_t)n * sizeof *fds))) return errno = ENOMEM, -1;
  nfds_t count = 0;
  for (int fd = 0; fd < n; fd++) {
    short events = (short)((bit(r, fd) ? POLLIN : 0) | (bit(w, fd) ? POLLOUT : 0) | (bit(e, fd) ? POLLPRI : 0));
    if (events) fds[count++] = (struct pollfd){.fd = fd, .events = events};
  }
  int ready = (int)result(kvo_poll(fds, count, timeout, mask), saved), hits = 0;
  if (ready >= 0) {
    size_t bytes = ((size_t)n + 8 * sizeof(long) - 1) / (8 * sizeof(long)) * sizeof(long);
    for (nfds_t i = 0; i < count && ready > 0; i++)
      if (fds[i].revents & POLLNVAL) ready = -1;
    if (ready < 0) errno = EBADF;
    else {
      if (r) memset(r, 0, bytes);
      if (w) memset(w, 0, bytes);
      if (e) memset(e, 0, bytes);
      for (nfds_t i = 0; i < count; i++) {
        short got = fds[i].revents, asked = fds[i].events;
        if (asked & POLLIN && got & (POLLIN | POLLHUP | POLLERR)) set_bit(r, fds[i].fd), hits++;
        if (asked & POLLOUT && got & (POLLOUT | POLLERR)) set_bit(w, fds[i].fd), hits++;
        if (asked & POLLPRI && got & POLLPRI) set_bit(e, fds[i].fd), hits++;
      }
    }
  }
  if (fds != here) {
    int why = errno;
    free(fds);
    errno = why;
  }
  return ready < 0 ? -1 : hits;
}

EXPORT int select(int n, fd_set *restrict r, fd_set *restrict w, fd_set *restrict e, struct timeval *restrict timeout) {
  if (likely(!kvo_process.table_len) || n <= 0 || !select_has_ours(n, r, w, e))
    return NEXT(select)(n, r, w, e, timeout);
  if (timeout && (timeout->tv_sec < 0 || timeout->tv_usec < 0)) return errno = EINVAL, -1;
  struct timespec t, before, after;
  if (timeout) {
    t = (struct timespec){timeout->tv_sec + timeout->tv_usec / 1000000, timeout->tv_usec % 1000000 * 1000};
    clock_gettime(CLOCK_MONOTONIC, &before);
  }
  int ready = select_by_poll(n, r, w, e, timeout ? &t : NULL, NULL), saved = errno;
  if (timeout) { /* Linux leaves the time that was not slept */
    clock_gettime(CLOCK_MONOTONIC, &after);
    long long left = (t.tv_sec * 1000000000LL + t.tv_nsec) -
                     ((after.tv_sec - before.tv_sec) * 1000000000LL + (after.tv_nsec - before.tv_nsec));
    if (left < 0 || ready == 0) left = 0;
    timeout->tv_sec = left / 1000000000;
    timeout->tv_usec = left % 1000000000 / 1000;
  }
  errno = saved;
  return ready;
}

EXPORT int pselect(int n, fd_set *restrict r, fd_set *restrict w, fd_set *restrict e,
                   const struct timespec *restrict timeout, const sigset_t *restrict mask) {
  if (likely(!kvo_process.table_len) || n <= 0 || !select_has_ours(n, r, w, e))
    return NEXT(pselect)(n, r, w, e, timeout, mask);
  return select_by_poll(n, r, w, e, timeout, mask);
}

static int made(int epfd) {
  if (epfd >= 0 && kvo_process.table_len) kvo_epoll_made(epfd);
  return epfd;
}

EXPORT int epoll_create1(int flags) { return made(MAKE_DESCRIPTOR(NEXT(epoll_create1)(flags))); }

EXPORT int epoll_create(int size) {
  if (size <= 0) return errno = EINVAL, -1;
  return epoll_create1(0);
}

EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event) {
  /* The data word of a stranger's descriptor could look like one of our tags: kvo_epoll_ctl() sees to that. */
  if (likely(ident_of(fd) >= 0) && likely(ident_of(fd) < KVO_EPOLL) && likely(!event || event->data.u64 >> 40 != 0xA5C3D1))
    return NEXT(epoll_ctl)(epfd, op, fd, event);
  int saved = errno;
  int r = kvo_epoll_ctl(epfd, op, fd, event);
  if (r == -EINPROGRESS) return NEXT(epoll_ctl)(epfd, op, fd, event);
  return (int)result(r, saved);
}

static int wait_on_set(int epfd, struct epoll_event *events, int most, const struct timespec *timeout, const sigset_t *mask) {
  int saved = errno;
  if (unlikely(kvo_nowhere(events)) && most > 0) { /* the kernel waits, then finds no place for what it has */
    struct pollfd set = {epfd, POLLIN, 0};
    int ready = kvo_poll(&set, 1, timeout, mask);
    return (int)result(ready > 0 ? -EFAULT : ready, saved);
  }
  return (int)result(kvo_epoll_wait(epfd, events, most, timeout, mask), saved);
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int most, int timeout, const sigset_t *mask) {
  if (likely(!kvo_epoll_known(epfd))) return NEXT(epoll_pwait)(epfd, events, most, timeout, mask);
  struct timespec t = {timeout / 1000, timeout % 1000 * 1000000L};
  return wait_on_set(epfd, events, most, timeout < 0 ? NULL : &t, mask);
}

EXPORT int epoll_wait(int epfd, struct epoll_event *events, int most, int timeout) {
  return epoll_pwait(epfd, events, most, timeout, NULL);
}

EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int most, const struct timespec *timeout,
                        const sigset_t *mask) {
  if (likely(!kvo_epoll_known(epfd))) {
    if (NEXT(epoll_pwait2)) return kvo_next.epoll_pwait2(epfd, events, most, timeout, mask);
    return errno = ENOSYS, -1;
  }
  return wait_on_set(epfd, events, most, timeout, mask);
}
