/* Cancels the thread "victim" just before a chosen call of libkvoshim.so to the C library, of those that act on a cancellation
 * (who calls is told by the return address). Preloaded behind libkvoshim.so.
 *
 *   KVO_CANCEL=NAME:N    before its n-th call of that name */
#include <dlfcn.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char name[32];
static unsigned wanted, seen;
static uintptr_t low = UINTPTR_MAX, high;

static int look(struct dl_phdr_info *object, size_t size, void *unused) {
  (void)size, (void)unused;
  if (!strstr(object->dlpi_name, "libkvoshim.so")) return 0;
  for (int i = 0; i < object->dlpi_phnum; i++) {
    if (object->dlpi_phdr[i].p_type != PT_LOAD) continue;
    uintptr_t from = object->dlpi_addr + object->dlpi_phdr[i].p_vaddr, to = from + object->dlpi_phdr[i].p_memsz;
    if (from < low) low = from;
    if (to > high) high = to;
  }
  return 1;
}

__attribute__((constructor)) static void prepare(void) {
  const char *text = getenv("KVO_CANCEL");
  if (text && sscanf(text, "%31[^:]:%u", name, &wanted) == 2) dl_iterate_phdr(look, NULL);
}

static void before(const char *call, void *caller) {
  char thread[16] = "";
  if (strcmp(call, name) || (uintptr_t)caller < low || (uintptr_t)caller >= high) return;
  prctl(PR_GET_NAME, thread);
  if (!strcmp(thread, "victim") && ++seen == wanted) pthread_cancel(pthread_self());
}

#define CALL(type, name, parameters, arguments)                    \
  type name parameters {                                           \
    static __typeof__(&name) next;                                 \
    if (!next) next = (__typeof__(next))dlsym(RTLD_NEXT, #name);   \
    before(#name, __builtin_return_address(0));                    \
    return next arguments;                                         \
  }

CALL(ssize_t, send, (int fd, const void *buffer, size_t n, int flags), (fd, buffer, n, flags))
CALL(ssize_t, recv, (int fd, void *buffer, size_t n, int flags), (fd, buffer, n, flags))
CALL(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
CALL(ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
CALL(int, connect, (int fd, const struct sockaddr *address, socklen_t n), (fd, address, n))
CALL(int, accept4, (int fd, struct sockaddr *restrict address, socklen_t *restrict n, int flags), (fd, address, n, flags))
CALL(int, close, (int fd), (fd))
CALL(int, poll, (struct pollfd *fds, nfds_t n, int timeout), (fds, n, timeout))
CALL(int, ppoll, (struct pollfd *fds, nfds_t n, const struct timespec *span, const sigset_t *mask), (fds, n, span, mask))
CALL(int, epoll_pwait, (int set, struct epoll_event *events, int most, int timeout, const sigset_t *mask),
     (set, events, most, timeout, mask))
CALL(ssize_t, getrandom, (void *buffer, size_t n, unsigned flags), (buffer, n, flags))
