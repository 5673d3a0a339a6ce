/* Connections: how they begin, what they are asked, how they are shut down. */
#include "next.h"

#include <stdint.h>
#include <string.h>

EXPORT int socket(int domain, int type, int protocol) {
  int fd = MAKE_DESCRIPTOR(NEXT(socket)(domain, type, protocol));
  if (domain == AF_UNIX && (type & 15) == SOCK_STREAM && fd >= 0 && kvo_process.table_len) kvo_socket_made(fd);
  return fd;
}

EXPORT int connect(int fd, const struct sockaddr *address, socklen_t length) {
  if (!kvo_process.table_len) return NEXT(connect)(fd, address, length);
  return kvo_connect(fd, address, length);
}

EXPORT int bind(int fd, const struct sockaddr *address, socklen_t length) {
  if (unlikely(ident_of(fd) < 0) && kvo_unmark(fd) && (!kvo_spare_descriptors() || kvo_unmark(fd))) return errno = ENOMEM, -1;
  int r = NEXT(bind)(fd, address, length);
  if (unlikely(ident_of(fd) > 0) && r == 0) kvo_socket_bound(fd);
  return r;
}

EXPORT int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict length, int flags) {
  if (!kvo_process.table_len) return NEXT(accept4)(fd, address, length, flags);
  return MAKE_DESCRIPTOR(kvo_accept(fd, address, length, flags));
}

EXPORT int accept(int fd, struct sockaddr *restrict address, socklen_t *restrict length) {
  return accept4(fd, address, length, 0);
}

/* Names: a mark is hidden from its owner and from the peer. */
static int name(int (*ask)(int, struct sockaddr *, socklen_t *), int fd, struct sockaddr *address, socklen_t *length) {
  if (!kvo_process.table_len || !address || !length || (int)*length < 0) return ask(fd, address, length);
  struct sockaddr_storage whole; /* the program's buffer may be too short to recognise a mark */
  socklen_t n = sizeof whole;
  int r = ask(fd, (struct sockaddr *)&whole, &n);
  if (r) return r;
  kvo_hide_mark((struct sockaddr *)&whole, &n, sizeof whole);
  memcpy(address, &whole, n < *length ? n : *length);
  *length = n;
  return 0;
}

EXPORT int getsockname(int fd, struct sockaddr *restrict address, socklen_t *restrict length) {
  return name(NEXT(getsockname), fd, address, length);
}

EXPORT int getpeername(int fd, struct sockaddr *restrict address, socklen_t *restrict length) {
  return name(NEXT(getpeername), fd, address, length);
}

EXPORT int getsockopt(int fd, int level, int option, void *restrict value, socklen_t *restrict length) {
  int32_t ident = ident_of(fd);
  if (unlikely(ident < 0) && level == SOL_SOCKET && option == SO_ERROR && value && length && *length >= sizeof(int)) {
    int saved = errno, why = kvo_socket_error(ident, fd);
    errno = saved;
    if (why >= 0) {
      *(int *)value = why;
      *length = sizeof(int);
      return 0;
    }
  }
  return NEXT(getsockopt)(fd, level, option, value, length);
}

EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t length) {
  int32_t ident = ident_of(fd);
  if (unlikely(ident < 0) && level == SOL_SOCKET && value && length >= sizeof(int)) {
    int number = *(const int *)value;
    if (option == SO_PASSCRED && number) kvo_demote(ident, fd, KVO_ANCILLARY);
    if (option == SO_RCVLOWAT && number > 1) kvo_demote(ident, fd, KVO_LOW_WATER);
  }
  return NEXT(setsockopt)(fd, level, option, value, length);
}

EXPORT int shutdown(int fd, int how) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0)) return NEXT(shutdown)(fd, how);
  int saved = errno;
  return (int)result(kvo_shutdown(ident, fd, how), saved);
}
