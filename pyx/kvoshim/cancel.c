/* Where a thread can be cancelled. The C library acts on a cancellation in any call that may wait, even if this one does not:
 * in the middle of the core a thread would die there with a lock held, or a bell counted and not sent. So a cancellation acts
 * at the entry of our calls (kvo_cancellation_point) and where a thread really sleeps; the other calls are made by the functions
 * here, which put it off. */
#include "runtime.h"

#define NOW(type, call) \
  int before = kvo_put_off_cancellation(); \
  type r = call; \
  kvo_allow_cancellation(before); \
  return r

ssize_t kvo_send_now(int fd, const void *buffer, size_t n, int flags) { NOW(ssize_t, kvo_next.send(fd, buffer, n, flags)); }
ssize_t kvo_recv_now(int fd, void *buffer, size_t n, int flags) { NOW(ssize_t, kvo_next.recv(fd, buffer, n, flags)); }
ssize_t kvo_sendmsg_now(int fd, const struct msghdr *m, int flags) { NOW(ssize_t, kvo_next.sendmsg(fd, m, flags)); }
ssize_t kvo_recvmsg_now(int fd, struct msghdr *m, int flags) { NOW(ssize_t, kvo_next.recvmsg(fd, m, flags)); }
int kvo_connect_now(int fd, const struct sockaddr *address, socklen_t n) { NOW(int, kvo_next.connect(fd, address, n)); }
int kvo_accept_now(int fd, struct sockaddr *address, socklen_t *n, int flags) {
  NOW(int, kvo_next.accept4(fd, address, n, flags));
}
int kvo_close_now(int fd) { NOW(int, kvo_next.close(fd)); }
int kvo_poll_now(struct pollfd *fds, nfds_t n) { NOW(int, kvo_next.poll(fds, n, 0)); }
int kvo_ppoll_now(struct pollfd *fds, nfds_t n, const struct timespec *span, const sigset_t *mask) {
  NOW(int, kvo_next.ppoll(fds, n, span, mask));
}
int kvo_epoll_now(int epfd, struct epoll_event *events, int most, const sigset_t *mask) {
  NOW(int, kvo_next.epoll_pwait(epfd, events, most, 0, mask));
}

/* A cancelled thread, and one that ends itself in a signal handler, is unwound frame by frame. kvo_asleep() names a routine for
 * its own frame (its "personality"), which is called then. pthread_cleanup_push() would do as well, but for a signal handler
 * that leaves our call by siglongjmp(): that would leave the C library a pointer to a frame that is no more, to be followed when
 * the thread ends. Here such a pointer is never followed: the frame that is passed is always the one that came last. */
struct sleeper {
  struct sleeper *outer;
  kvo_sleep_over *over;
  void *about;
};
static __thread struct sleeper *innermost;

int kvo_unwound(int version, int actions, uint64_t class, void *exception, void *context);
int kvo_unwound(int version, int actions, uint64_t class, void *exception, void *context) {
  enum { CLEANUP_PHASE = 2, GO_ON = 8 }; /* _UA_CLEANUP_PHASE, _URC_CONTINUE_UNWIND */
  struct sleeper *one = innermost;
  (void)version, (void)class, (void)exception, (void)context;
  if (actions & CLEANUP_PHASE) {
    innermost = one->outer;
    one->over(one->about);
  }
  return GO_ON;
}

__attribute__((noinline, noclone)) int kvo_asleep(kvo_sleep *sleep, kvo_sleep_over *over, void *about) {
  __asm__ volatile(".cfi_personality 0x1b, kvo_unwound"); /* 0x1b: by its distance, four bytes */
  struct sleeper one = {innermost, over, about};
  innermost = &one;
  int r = sleep(about);
  innermost = one.outer;
  over(about);
  return r;
}

ssize_t kvo_unless_cancelled(int32_t ident, int fd, struct msghdr *message, int flags, kvo_transfer *go_on) {
  pthread_testcancel();
  return go_on(ident, fd, message, flags);
}
