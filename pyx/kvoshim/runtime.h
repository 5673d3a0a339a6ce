/* What one process knows: the calls below us, the settings, the descriptor table. The only mutable module state of the
 * core is the two structs declared here. */
#pragma once
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/single_threaded.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "atomics.h"

/* The C library's own functions. In the preload library they are what dlsym(RTLD_NEXT) finds (preload/next.c), in the
 * extension module the functions themselves (libc_next.c). Filled once, never changed. */
struct kvo_next {
  ssize_t (*read)(int, void *, size_t);
  ssize_t (*write)(int, const void *, size_t);
  ssize_t (*readv)(int, const struct iovec *, int);
  ssize_t (*writev)(int, const struct iovec *, int);
  ssize_t (*preadv2)(int, const struct iovec *, int, off_t, int);
  ssize_t (*pwritev2)(int, const struct iovec *, int, off_t, int);
  ssize_t (*recv)(int, void *, size_t, int);
  ssize_t (*send)(int, const void *, size_t, int);
  ssize_t (*recvfrom)(int, void *, size_t, int, struct sockaddr *, socklen_t *);
  ssize_t (*sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
  ssize_t (*recvmsg)(int, struct msghdr *, int);
  ssize_t (*sendmsg)(int, const struct msghdr *, int);
  int (*recvmmsg)(int, struct mmsghdr *, unsigned, int, struct timespec *);
  int (*sendmmsg)(int, struct mmsghdr *, unsigned, int);
  ssize_t (*sendfile)(int, int, off_t *, size_t);
  ssize_t (*splice)(int, off64_t *, int, off64_t *, size_t, unsigned);
  int (*socket)(int, int, int);
  int (*bind)(int, const struct sockaddr *, socklen_t);
  int (*connect)(int, const struct sockaddr *, socklen_t);
  int (*accept4)(int, struct sockaddr *, socklen_t *, int);
  int (*getsockname)(int, struct sockaddr *, socklen_t *);
  int (*getpeername)(int, struct sockaddr *, socklen_t *);
  int (*getsockopt)(int, int, int, void *, socklen_t *);
  int (*setsockopt)(int, int, int, const void *, socklen_t);
  int (*shutdown)(int, int);
  int (*close)(int);
  int (*close_range)(unsigned, unsigned, int);
  int (*dup)(int);
  int (*dup2)(int, int);
  int (*dup3)(int, int, int);
  int (*fcntl)(int, int, ...);
  int (*ioctl)(int, unsigned long, ...);
  int (*poll)(struct pollfd *, nfds_t, int);
  int (*ppoll)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
  int (*select)(int, fd_set *, fd_set *, fd_set *, struct timeval *);
  int (*pselect)(int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *);
  int (*epoll_create1)(int);
  int (*epoll_ctl)(int, int, int, struct epoll_event *);
  int (*epoll_pwait)(int, struct epoll_event *, int, int, const sigset_t *);
  int (*epoll_pwait2)(int, struct epoll_event *, int, const struct timespec *, const sigset_t *);
  int (*execve)(const char *, char *const[], char *const[]);
  int (*execvpe)(const char *, char *const[], char *const[]);
  int (*fexecve)(int, char *const[], char *const[]);
  int (*posix_spawn)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[],
                     char *const[]);
  int (*posix_spawnp)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[],
                      char *const[]);
  int (*posix_spawn_file_actions_adddup2)(posix_spawn_file_actions_t *, int, int);
  int (*system)(const char *);
  FILE *(*popen)(const char *, const char *);
  void *(*fdopen)(int, const char *);
  void (*_exit)(int);
  long (*syscall)(long, ...);
  int (*pthread_cancel)(pthread_t);
  int (*open)(const char *, int, ...);
  int (*open64)(const char *, int, ...);
  int (*openat)(int, const char *, int, ...);
  int (*openat64)(int, const char *, int, ...);
  int (*__open_2)(const char *, int);
  int (*__open64_2)(const char *, int);
  int (*__openat_2)(int, const char *, int);
  int (*__openat64_2)(int, const char *, int);
  int (*creat)(const char *, mode_t);
  int (*creat64)(const char *, mode_t);
  FILE *(*fopen)(const char *, const char *);
  FILE *(*fopen64)(const char *, const char *);
  DIR *(*opendir)(const char *);
  int (*pipe)(int[2]);
  int (*pipe2)(int[2], int);
  int (*socketpair)(int, int, int, int[2]);
  int (*eventfd)(unsigned, int);
  int (*timerfd_create)(clockid_t, int);
  int (*signalfd)(int, const sigset_t *, int);
  int (*inotify_init)(void);
  int (*inotify_init1)(int);
};
extern struct kvo_next kvo_next;

/* Why a connection on a selected path stays on the kernel, or went back to it. Names in runtime.c; numbers are never reused. */
enum kvo_reason {
  KVO_NO_REASON = 0,
  KVO_NO_OFFER,       /* the peer answered without an offer: it is not shimmed, or refused */
  KVO_BOUND,          /* the client had bound its socket itself */
  KVO_NO_MARK,        /* the mark or the rendezvous socket could not be made */
  KVO_NO_RENDEZVOUS,  /* the client's rendezvous could not be reached */
  KVO_CREDENTIALS,    /* the other end of the rendezvous is not the peer */
  KVO_NO_SEGMENT,     /* no memory, no descriptor, no seals */
  KVO_BAD_OFFER,      /* an offer that fails its checks */
  KVO_OTHER_VERSION,
  KVO_WITHDRAWN_OFFER, /* the server has taken its offer back: nobody took it, or its end came first */
  KVO_FORKED,         /* forked before the offer came */
  KVO_ANCILLARY,      /* descriptors or credentials in the stream */
  KVO_STDIO,          /* a FILE stream was opened on it */
  KVO_SIGNALS,        /* asynchronous notification by signal was asked for */
  KVO_TABLE_FULL,
  KVO_SHUT_EARLY,     /* shut down before the switch */
  KVO_DETACHED,       /* its descriptor was taken out of kvoshim.socket */
  KVO_EXEC,           /* a program without the library inherits it */
  KVO_HANDED,         /* its descriptor was sent to another process */
  KVO_URGENT,         /* MSG_OOB */
  KVO_SPLICED,        /* splice() */
  KVO_NESTED,         /* in an epoll set that is inside another one, or that a forked process waits on */
  KVO_LOW_WATER,      /* SO_RCVLOWAT */
  KVO_PEER_LEFT,      /* the peer went back to the kernel socket */
  KVO_NO_MEMORY,      /* for its registration in an epoll set */
  KVO_SHORT,          /* connections to its path end before their warm-up (habit.c) */
  KVO_NAMED_TWICE,    /* its socket had a second descriptor (dup, fork) before it was connected */
  KVO_REASONS
};

enum { KVO_HABITS = 8 }; /* a power of two */

/* How long the connections to a path have lived lately, as their client sees it. Two paths may contend for a place: one forgets. */
struct kvo_habit {
  uint64_t path;   /* its hash, 0: none */
  uint32_t shorts; /* connections in a row that ended before their warm-up */
  uint32_t passed; /* connections since that are such a path's */
};

struct kvo_process {
  int32_t *table;        /* by descriptor: < 0 a connection ID, 0 unknown, > 0 a kind (enum kvo_kind) */
  uint32_t table_len;    /* 0 while nothing is accelerated */
  uint32_t cancelling;   /* pthread_cancel() has been called: each call that is a cancellation point looks */
  int32_t internal_from; /* our own descriptors take numbers from here on, to leave the low ones to the program */
  uint32_t fd_high;      /* no entry above this descriptor was ever set */
  void *slots;           /* struct conn[], see connection.pxd */
  uint32_t slot_limit, slot_high;
  uint32_t slot_lock;
  int32_t slot_free, slot_last; /* free slots, oldest first: index + 1, 0: none */
  uint32_t slots_free;
  void *sets;            /* epoll sets, see epollset.pxd */
  void *sets_made;       /* all that were ever made: their memory is kept for those that come */
  uint32_t sets_high;
  int32_t pid;
  uint32_t foreign_wait; /* others wait on our descriptors unseen (the extension module): keep the kernel's readiness */
  uint32_t live;         /* connections in state KVO_LIVE */
  uint32_t early;        /* when one was last used before its switch (stamp_now(), odd); 0: not lately */
  uint32_t memfds;       /* kept for successors by exec */
  int32_t rendezvous;    /* where offers for our clients come in (rendezvous.pxd), -1: none yet */
  uint32_t rendezvous_lock;
  uint32_t marks;        /* made in this process */
  uint32_t awaiting;     /* clients of this process that an offer may come for */
  uint8_t rendezvous_id[8];
  uint32_t warmup;       /* kernel calls that move bytes before a connection is worth a segment */
  uint64_t ring_bytes;
  uint64_t spin_ticks, pause_ticks; /* longest spin; how long of it without yielding */
  uint64_t ticks_per_us;
  uint32_t trial_shift;  /* 2^this is about 13 ms in ticks: the same number in all processes, to meet (spin.pxd) */
  void *unreadable;      /* a page of no access: a send from there waits for room and then sends nothing */
  uint32_t expedited;    /* this process takes part in membarrier's expedited fences */
  uint32_t log_level;
  char *log_file;
  char **paths;          /* globs; NULL at the end */
  struct kvo_stats_header *stats; /* the counters, private or shared (stats.c) */
  uint64_t stats_room;   /* bytes reserved for them */
  uint64_t stats_bytes;  /* from their beginning, that lie in the segment; 0: there is none */
  uint64_t stats_inode;
  uint32_t stats_slots;  /* connections that lie there, or have no need to */
  uint32_t stats_shown;  /* KVOSHIM_STATS is not off */
  void *watched;         /* by descriptor: struct watched_t (watched.pxd) */
  uint32_t stats_busy;
  char stats_name[64];
  struct kvo_habit habits[KVO_HABITS];
};
extern struct kvo_process kvo_process;

/* Sizes of the arrays whose elements Cython declares (checked there). */
enum { KVO_SLOT_BYTES = 512, KVO_SETS_BYTES = 1 << 20, KVO_WATCHED_BYTES = 16 };
/* For structs that only Cython knows. */
#define KVO_IS_WATCHED(bytes) do { static_assert((bytes) == KVO_WATCHED_BYTES, "as runtime.h has it"); } while (0)
#define KVO_IS_SLOT(bytes) do { static_assert((bytes) == KVO_SLOT_BYTES, "pad conn_t"); } while (0)

enum kvo_kind {
  KVO_KERNEL = 1,
  KVO_LISTENER = 2,
  KVO_INTERNAL = 3, /* one of our own: the program can't close it, nor put something else there */
  KVO_EPOLL = 4,
  KVO_EPOLL_INSIDE = 5, /* an epoll set inside another one: only the kernel can look through it */
  KVO_SOCKET = 6,       /* a Unix stream socket of which neither connect() nor bind() has succeeded */
  KVO_WATCHED = 7,      /* such a one in an epoll set already: watched.pxd */
  KVO_TAGGED = 8,       /* such a one that has a registration beside its set */
  KVO_TWICE = 9,        /* such a one that has a second descriptor, and so no ring */
};

/* Reads the environment, makes the table. Safe to call again; 0 or -errno. With no usable KVOSHIM_PATHS the table
 * stays empty. paths overrides the variable when not NULL. */
int kvo_start(const char *paths);
/* Whether a connection that is about to be made to this path (as in sun_path) will hardly live to see a segment. */
int kvo_stays_short(const char *path, size_t length);
/* A marked connection to path (as in conn_t) has ended before it was warm, or has not. */
void kvo_note_life(const char *path, int ended_short);
/* Makes every CPU that runs a process of ours execute a full fence. */
void kvo_fence_everywhere(void);
static inline int kvo_single_threaded(void) { return __libc_single_threaded; }
/* From here on no signal handler runs in this thread, nor is it cancelled; what was held back before. */
uint64_t kvo_hold_signals(void);
void kvo_release_signals(uint64_t before);
int kvo_path_selected(const char *path, size_t length);
int32_t kvo_tid(void);
void kvo_forked_child(void);
/* Sleeps on a word that processes share while it has that value, at most so long. 0 or -EINTR. restart: after a signal whose
 * handler says so (SA_RESTART) the kernel goes on with it, as with the calls that read and write. A cancellation point. */
int kvo_sleep_on(const uint32_t *word, uint32_t value, uint64_t ns, int restart);
void kvo_wake_all(uint32_t *word);
int kvo_cpu(void);
const char *kvo_reason_name(int reason);
void kvo_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A thread that has been cancelled ends here, before it holds anything, even if its call needs not wait. */
static inline void kvo_cancellation_point(void) {
  if (__builtin_expect(kvo_load32(&kvo_process.cancelling), 0)) pthread_testcancel();
}
/* The same for the calls whose every instruction counts: out of their way (cancel.c). */
typedef ssize_t kvo_transfer(int32_t ident, int fd, struct msghdr *message, int flags);
ssize_t kvo_unless_cancelled(int32_t ident, int fd, struct msghdr *message, int flags, kvo_transfer *go_on);
/* Calls of the C library that are cancellation points, made in the middle of something: a cancellation waits for its end. */
static inline int kvo_put_off_cancellation(void) {
  int before = PTHREAD_CANCEL_DISABLE;
  if (!kvo_single_threaded()) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
  return before;
}
static inline void kvo_allow_cancellation(int before) {
  if (before != PTHREAD_CANCEL_DISABLE) pthread_setcancelstate(before, NULL);
}
ssize_t kvo_send_now(int fd, const void *buffer, size_t n, int flags);
ssize_t kvo_recv_now(int fd, void *buffer, size_t n, int flags);
ssize_t kvo_sendmsg_now(int fd, const struct msghdr *m, int flags);
ssize_t kvo_recvmsg_now(int fd, struct msghdr *m, int flags);
int kvo_connect_now(int fd, const struct sockaddr *address, socklen_t n);
int kvo_accept_now(int fd, struct sockaddr *address, socklen_t *n, int flags);
int kvo_close_now(int fd);
int kvo_poll_now(struct pollfd *fds, nfds_t n);
int kvo_ppoll_now(struct pollfd *fds, nfds_t n, const struct timespec *span, const sigset_t *mask);
int kvo_epoll_now(int epfd, struct epoll_event *events, int most, const sigset_t *mask);
/* Sleeps, with nothing locked, and then calls over: also if the thread is cancelled in its sleep. What sleep returns. */
typedef int kvo_sleep(void *about);
typedef void kvo_sleep_over(void *about);
int kvo_asleep(kvo_sleep *sleep, kvo_sleep_over *over, void *about);
/* Of the core's: the quick ways are one function each, and what they call is never a part of them. */
ssize_t kvo_send_buffer(int32_t ident, int fd, const void *buffer, size_t n, int flags) __attribute__((flatten));
ssize_t kvo_receive_buffer(int32_t ident, int fd, void *buffer, size_t n, int flags) __attribute__((flatten));
ssize_t kvo_tell_sent(void *connection, int fd, size_t n) __attribute__((noinline));
ssize_t kvo_tell_received(void *connection, int fd, size_t n) __attribute__((noinline));
ssize_t kvo_send_longer(void *connection, int fd, const void *buffer, size_t n, int flags) __attribute__((noinline));
ssize_t kvo_receive_longer(void *connection, int fd, void *buffer, size_t n, int flags) __attribute__((noinline));
static inline void kvo_set_errno(int value) { errno = value; }
/* Addresses that hold no program's data: those of the kernel's half, which it refuses before it does anything, and with them the
 * first page, where NULL leads. (On aarch64 the upper bits may be a tag.) Others are used as they are, see docs/shim.md. */
static inline int kvo_outside(const void *p) {
#if defined(__x86_64__)
  return (intptr_t)p < 0;
#else
  return p == (void *)-1;
#endif
}
static inline int kvo_nowhere(const void *p) {
#if defined(__x86_64__)
  return (intptr_t)p < 4096;
#else
  return (uintptr_t)p + 1 < 4097;
#endif
}
int kvo_memfd(const char *name);
uint64_t kvo_descriptor_limit(void);
int kvo_file_may_have(uint64_t bytes); /* beyond RLIMIT_FSIZE it would be SIGXFSZ */
int kvo_random(void *buffer, size_t length);
/* The user that made the socket at the other end of fd. 0 or -errno (peer.c). */
int kvo_peer_user(int fd, uint32_t *user);
