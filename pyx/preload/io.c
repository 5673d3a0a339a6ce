/* Reading and writing. */
#include "next.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { COPY_BYTES = 65536, LITTLE_BYTES = 4096 /* where there is no memory for more */ };

/* The peer's name as recvfrom() and recvmsg() give it: nothing for an unnamed peer, and a marked one looks unnamed. */
static void peer_name(int fd, struct sockaddr *address, socklen_t *length) {
  struct sockaddr_storage name;
  socklen_t n = sizeof name;
  if (NEXT(getpeername)(fd, (struct sockaddr *)&name, &n)) n = 0;
  kvo_hide_mark((struct sockaddr *)&name, &n, sizeof name);
  if (n <= sizeof(sa_family_t)) n = 0;
  if (address && *length) memcpy(address, &name, n < *length ? n : *length);
  *length = n;
}

EXPORT ssize_t read(int fd, void *buffer, size_t n) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0)) return NEXT(read)(fd, buffer, n);
  return n ? kvo_receive_buffer(ident, fd, buffer, n, 0) : 0;
}

EXPORT ssize_t write(int fd, const void *buffer, size_t n) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0)) return NEXT(write)(fd, buffer, n);
  return kvo_send_buffer(ident, fd, buffer, n, 0);
}

EXPORT ssize_t recv(int fd, void *buffer, size_t n, int flags) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0)) return NEXT(recv)(fd, buffer, n, flags);
  return kvo_receive_buffer(ident, fd, buffer, n, flags);
}

EXPORT ssize_t send(int fd, const void *buffer, size_t n, int flags) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0)) return NEXT(send)(fd, buffer, n, flags);
  return kvo_send_buffer(ident, fd, buffer, n, flags);
}

/* Bytes in an array as the kernel counts them; -1 with EINVAL. */
static ssize_t checked_total(const struct iovec *iov, int count) {
  ssize_t total = 0;
  if (count < 0 || count > 1024) return errno = EINVAL, -1;
  for (int i = 0; i < count; i++)
    if (__builtin_add_overflow(total, iov[i].iov_len, &total) || (ssize_t)iov[i].iov_len < 0)
      return errno = EINVAL, -1;
  return total;
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int count) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0) || kvo_nowhere(iov)) return NEXT(readv)(fd, iov, count);
  ssize_t total = checked_total(iov, count);
  if (total <= 0) return total;
  struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
  int saved = errno;
  return result(kvo_receive(ident, fd, &m, 0), saved);
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int count) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0) || kvo_nowhere(iov)) return NEXT(writev)(fd, iov, count);
  if (checked_total(iov, count) < 0) return -1;
  struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
  int saved = errno;
  return result(kvo_send(ident, fd, &m, 0), saved);
}

/* With offset -1 preadv2() and pwritev2() are readv() and writev() with flags, of which a socket heeds RWF_NOWAIT; with
 * another offset, and with flags that the kernel may not know, they fail on any socket. */
static int at_position(off_t offset, int flags) {
  return offset == -1 && !(flags & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND));
}

EXPORT ssize_t preadv2(int fd, const struct iovec *iov, int count, off_t offset, int flags) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0) || !at_position(offset, flags) || kvo_nowhere(iov)) return NEXT(preadv2)(fd, iov, count, offset, flags);
  ssize_t total = checked_total(iov, count);
  if (total <= 0) return total;
  struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
  int saved = errno;
  return result(kvo_receive(ident, fd, &m, flags & RWF_NOWAIT ? MSG_DONTWAIT : 0), saved);
}
EXPORT ssize_t preadv64v2(int, const struct iovec *, int, off_t, int) __attribute__((alias("preadv2")));

EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0) || !at_position(offset, flags) || kvo_nowhere(iov)) return NEXT(pwritev2)(fd, iov, count, offset, flags);
  if (checked_total(iov, count) < 0) return -1;
  struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
  int saved = errno;
  return result(kvo_send(ident, fd, &m, flags & RWF_NOWAIT ? MSG_DONTWAIT : 0), saved);
}
EXPORT ssize_t pwritev64v2(int, const struct iovec *, int, off_t, int) __attribute__((alias("pwritev2")));

EXPORT ssize_t recvfrom(int fd, void *restrict buffer, size_t n, int flags, struct sockaddr *restrict address,
                        socklen_t *restrict length) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0)) return NEXT(recvfrom)(fd, buffer, n, flags, address, length);
  ssize_t r = kvo_receive_buffer(ident, fd, buffer, n, flags);
  if (r >= 0 && address && length) peer_name(fd, address, length);
  return r;
}

EXPORT ssize_t sendto(int fd, const void *buffer, size_t n, int flags, const struct sockaddr *address,
                      socklen_t length) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0) || length) return NEXT(sendto)(fd, buffer, n, flags, address, length);
  return kvo_send_buffer(ident, fd, buffer, n, flags);
}

/* The kernel refuses such a message before it looks at the socket. */
static int nothing_in(const struct msghdr *message) {
  return kvo_nowhere(message) || (message->msg_iovlen && kvo_nowhere(message->msg_iov));
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0) || nothing_in(message)) return NEXT(recvmsg)(fd, message, flags);
  if (message->msg_iovlen > 1024) return errno = EMSGSIZE, -1;
  struct msghdr m = *message;
  m.msg_name = NULL;
  m.msg_namelen = 0;
  int saved = errno;
  ssize_t r = result(kvo_receive(ident, fd, &m, flags), saved);
  if (r >= 0) {
    message->msg_controllen = r ? m.msg_controllen : 0;
    message->msg_flags = m.msg_flags;
    if (message->msg_name) peer_name(fd, message->msg_name, &message->msg_namelen);
  }
  return r;
}

/* A connection of ours that is about to be given to another process goes back to the kernel. */
static void given_away(const struct msghdr *message) {
  for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR((struct msghdr *)message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
      int fd = ((int *)CMSG_DATA(c))[i];
      if (ident_of(fd) < 0) kvo_demote(ident_of(fd), fd, KVO_HANDED);
    }
  }
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  int32_t ident = ident_of(fd);
  if (unlikely(!kvo_nowhere(message) && message->msg_control && kvo_process.table_len)) given_away(message);
  if (likely(ident >= 0) || nothing_in(message) || message->msg_namelen) return NEXT(sendmsg)(fd, message, flags);
  if (message->msg_iovlen > 1024) return errno = EMSGSIZE, -1;
  int saved = errno;
  if (unlikely(message->msg_control && message->msg_controllen))
    kvo_withdraw(ident, fd, KVO_ANCILLARY); /* before the switch they stay together on the kernel */
  return result(kvo_send(ident, fd, message, flags), saved);
}

/* As the kernel: waits for each message (with MSG_WAITFORONE for the first), and looks at the time after each. */
EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0) || kvo_nowhere(messages)) return NEXT(recvmmsg)(fd, messages, count, flags, timeout);
  struct timespec now;
  if (timeout && (timeout->tv_sec < 0 || (unsigned long)timeout->tv_nsec >= 1000000000ul)) return errno = EINVAL, -1;
  clock_gettime(CLOCK_MONOTONIC, &now);
  long long end = timeout ? (now.tv_sec + timeout->tv_sec) * 1000000000LL + now.tv_nsec + timeout->tv_nsec : 0;
  for (unsigned i = 0; i < count; i++) {
    ssize_t n = recvmsg(fd, &messages[i].msg_hdr, flags & ~MSG_WAITFORONE);
    if (n < 0) return i ? (int)i : -1;
    messages[i].msg_len = (unsigned)n;
    if (flags & MSG_WAITFORONE) flags |= MSG_DONTWAIT;
    if (!timeout) continue;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long left = end - (now.tv_sec * 1000000000LL + now.tv_nsec);
    *timeout = left > 0 ? (struct timespec){left / 1000000000, left % 1000000000} : (struct timespec){0, 0};
    if (left <= 0) return (int)i + 1;
  }
  return (int)count;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0) || kvo_nowhere(messages)) return NEXT(sendmmsg)(fd, messages, count, flags);
  unsigned i;
  if (count > 1024) count = 1024;
  for (i = 0; i < count; i++) {
    ssize_t n = sendmsg(fd, &messages[i].msg_hdr, flags);
    if (n < 0) return i ? (int)i : -1;
    messages[i].msg_len = (unsigned)n;
  }
  return (int)i;
}

/* File to ring by copying; the file's offset moves by what was sent. */
EXPORT ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
  int32_t ident = ident_of(out);
  if (likely(ident >= 0)) return NEXT(sendfile)(out, in, offset, count);
  char little[LITTLE_BYTES], *much = malloc(COPY_BYTES), *buffer = much ? much : little;
  size_t room = much ? COPY_BYTES : LITTLE_BYTES;
  if (offset && *offset < 0) errno = EINVAL;
  off_t at = offset ? *offset : lseek(in, 0, SEEK_CUR);
  ssize_t done = 0;
  int failed = at < 0;
  while (!failed && (size_t)done < count) {
    size_t want = count - (size_t)done < room ? count - (size_t)done : room;
    ssize_t n = pread(in, buffer, want, at + done);
    if (n <= 0) {
      failed = n < 0;
      break;
    }
    ssize_t sent = kvo_send_buffer(ident, out, buffer, (size_t)n, 0);
    failed = sent < 0;
    if (sent > 0) done += sent;
    if (sent < n) break;
  }
  int why = errno;
  free(much);
  if (at >= 0 && done) {
    if (offset) *offset = at + done;
    else lseek(in, at + done, SEEK_SET);
  }
  errno = why;
  return done || !failed ? done : -1;
}
EXPORT ssize_t sendfile64(int, int, off_t *, size_t) __attribute__((alias("sendfile")));

/* splice() takes no more out of the ring than the pipe has taken in. given: the pipe may keep the buffer's pages. */
static ssize_t ring_to_pipe(int32_t ident, int in, int out, char *buffer, size_t n, unsigned flags, int given) {
  ssize_t seen = kvo_receive_buffer(ident, in, buffer, n, MSG_PEEK | (flags & SPLICE_F_NONBLOCK ? MSG_DONTWAIT : 0));
  if (seen <= 0) return seen;
  struct iovec v = {buffer, (size_t)seen};
  struct pollfd room = {out, POLLOUT, 0}; /* so much at once goes into a pipe that has room */
  ssize_t taken = given                                                          ? vmsplice(out, &v, 1, flags & SPLICE_F_NONBLOCK)
                  : NEXT(poll)(&room, 1, flags & SPLICE_F_NONBLOCK ? 0 : -1) > 0 ? NEXT(write)(out, buffer, (size_t)seen)
                                                                                 : (errno = EAGAIN, -1);
  char seen_already[LITTLE_BYTES];
  for (ssize_t left = taken, k; left > 0; left -= k)
    if ((k = kvo_receive_buffer(ident, in, seen_already, left < LITTLE_BYTES ? (size_t)left : LITTLE_BYTES, MSG_DONTWAIT)) <= 0) break;
  return taken;
}

/* And what it has taken out of the pipe it sends to the last byte; so it begins only where there is room for that. */
static ssize_t pipe_to_ring(int in, int32_t ident, int out, char *buffer, size_t n, unsigned flags) {
  struct pollfd room = {out, POLLOUT, 0}, data = {in, POLLIN, 0};
  int dontwait = flags & SPLICE_F_NONBLOCK || NEXT(fcntl)(out, F_GETFL) & O_NONBLOCK;
  if (kvo_poll(&room, 1, dontwait ? &(struct timespec){0, 0} : NULL, NULL) == 0) return errno = EAGAIN, -1;
  if (flags & SPLICE_F_NONBLOCK && NEXT(poll)(&data, 1, 0) == 0) return errno = EAGAIN, -1;
  ssize_t got = NEXT(read)(in, buffer, n), sent = 0;
  while (sent < got) {
    ssize_t k = kvo_send_buffer(ident, out, buffer + sent, (size_t)(got - sent), 0);
    if (k < 0 && errno != EAGAIN && errno != EINTR) return sent ? sent : -1;
    if (k < 0) kvo_poll(&room, 1, NULL, NULL);
    else sent += k;
  }
  return got;
}

EXPORT ssize_t splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t n, unsigned flags) {
  int32_t a = ident_of(in), b = ident_of(out);
  int from_ring = a < 0 && !kvo_withdraw(a, in, KVO_SPLICED), to_ring = b < 0 && !kvo_withdraw(b, out, KVO_SPLICED);
  if (!from_ring && !to_ring) return NEXT(splice)(in, in_offset, out, out_offset, n, flags);
  if (from_ring ? in_offset != NULL : out_offset != NULL) return errno = ESPIPE, -1;
  if ((from_ring && to_ring) || flags & ~15u) return errno = EINVAL, -1; /* one of the two is a pipe */
  /* A mapping of its own: the pipe may keep the pages. */
  char little[LITTLE_BYTES], *much = mmap(NULL, COPY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char *buffer = much == MAP_FAILED ? little : much;
  size_t room = much == MAP_FAILED ? LITTLE_BYTES : COPY_BYTES;
  if (n > room) n = room;
  ssize_t moved =
      from_ring ? ring_to_pipe(a, in, out, buffer, n, flags, buffer == much) : pipe_to_ring(in, b, out, buffer, n, flags);
  int why = errno;
  if (buffer == much) munmap(much, COPY_BYTES);
  errno = why;
  return moved;
}

/* What _FORTIFY_SOURCE makes of these calls. The sizes were checked by the compiler or abort, as in the C library. */
extern void __chk_fail(void) __attribute__((noreturn));

EXPORT ssize_t __read_chk(int fd, void *buffer, size_t n, size_t room) {
  if (n > room) __chk_fail();
  return read(fd, buffer, n);
}

EXPORT ssize_t __recv_chk(int fd, void *buffer, size_t n, size_t room, int flags) {
  if (n > room) __chk_fail();
  return recv(fd, buffer, n, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *restrict buffer, size_t n, size_t room, int flags,
                              struct sockaddr *restrict address, socklen_t *restrict length) {
  if (n > room) __chk_fail();
  return recvfrom(fd, buffer, n, flags, address, length);
}
