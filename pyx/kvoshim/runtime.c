#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "atomics.h"
#include "layout.h"
#include "paths.h"
#include "settings.h"
#include "stats.h"

struct kvo_process kvo_process = {.rendezvous = -1};

static __thread int32_t thread_id;

int32_t kvo_tid(void) {
  if (__builtin_expect(thread_id == 0, 0)) thread_id = (int32_t)syscall(SYS_gettid);
  return thread_id;
}

static int join_expedited_fences(void) {
  int commands = (int)syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  int both = MEMBARRIER_CMD_GLOBAL_EXPEDITED | MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED;
  return commands > 0 && (commands & both) == both &&
         syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

void kvo_fence_everywhere(void) {
  int saved = errno;
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0)) {
    /* No memory, or a filter forbids it by now. A writer that relies on it has stored its index before it looked: no
     * store stays in its processor for this long. */
    struct timespec left = {0, 1000000};
    int before = kvo_put_off_cancellation();
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {}
    kvo_allow_cancellation(before);
  }
  errno = saved;
}

/* The system call itself: the C library would leave out the signals that it cancels threads with. */
uint64_t kvo_hold_signals(void) {
  uint64_t all = ~0ull, before = 0;
  int saved = errno;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, sizeof all);
  errno = saved;
  return before;
}

void kvo_release_signals(uint64_t before) {
  int saved = errno;
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, sizeof before);
  errno = saved;
}

/* Of the futex calls with a time limit, only futex_waitv() is restarted after a signal; it is missing before Linux 5.16. */
static long wait_restartable(const uint32_t *word, uint32_t value, uint64_t ns) {
  enum { FUTEX_WAITV = 449, BITS_32 = 2 };
  struct {
    uint64_t value, address;
    uint32_t flags, reserved;
  } one = {value, (uintptr_t)word, BITS_32, 0};
  struct timespec end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  ns += (uint64_t)end.tv_nsec;
  end.tv_sec += (time_t)(ns / 1000000000);
  end.tv_nsec = (long)(ns % 1000000000);
  return syscall(FUTEX_WAITV, &one, 1, 0, &end, CLOCK_MONOTONIC);
}

int kvo_sleep_on(const uint32_t *word, uint32_t value, uint64_t ns, int restart) {
  static uint32_t missing;
  struct timespec span = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
  int saved = errno, type = PTHREAD_CANCEL_DEFERRED;
  long r = -1;
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type); /* as the C library does around its own calls that wait */
  if (restart && !kvo_load32(&missing)) {
    r = wait_restartable(word, value, ns);
    if (r < 0 && (errno == ENOSYS || errno == EPERM)) kvo_store32(&missing, 1);
  }
  if (!restart || kvo_load32(&missing)) r = syscall(SYS_futex, word, FUTEX_WAIT, value, &span, NULL, 0);
  pthread_setcanceltype(type, NULL);
  r = r < 0 && errno == EINTR ? -EINTR : 0;
  errno = saved;
  return (int)r;
}

void kvo_wake_all(uint32_t *word) {
  int saved = errno;
  syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
  errno = saved;
}

/* The kernel's table of descriptors grows to hold the numbers that our own take. In a process with threads that waits for every
 * CPU to pass through the scheduler (10 ms were measured, in the midst of a first request), so it is done while there are none. */
static void widen_descriptor_table(void) {
  int low = (int)syscall(SYS_eventfd2, 0, EFD_CLOEXEC);
  int high = low < 0 ? -1 : (int)syscall(SYS_fcntl, low, F_DUPFD_CLOEXEC, kvo_process.internal_from);
  if (high >= 0) syscall(SYS_close, high);
  if (low >= 0) syscall(SYS_close, low);
}

void kvo_forked_child(void) {
  int saved = errno;
  widen_descriptor_table(); /* it is inherited no larger than it is filled */
  errno = saved;
  thread_id = 0;
  if (kvo_process.expedited) join_expedited_fences(); /* it is inherited; a failure changes nothing */
  kvo_process.pid = (int32_t)getpid();
  kvo_process.slot_lock = kvo_process.rendezvous_lock = 0;
  kvo_stats_forked();
}

int kvo_cpu(void) { return sched_getcpu(); }

int kvo_memfd(const char *name) { return memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING); }

uint64_t kvo_descriptor_limit(void) {
  struct rlimit limit;
  return getrlimit(RLIMIT_NOFILE, &limit) ? 1024 : limit.rlim_cur;
}

int kvo_file_may_have(uint64_t bytes) {
  struct rlimit limit;
  return getrlimit(RLIMIT_FSIZE, &limit) == 0 && bytes <= limit.rlim_cur;
}

int kvo_random(void *buffer, size_t length) {
  int before = kvo_put_off_cancellation();
  ssize_t n = getrandom(buffer, length, GRND_NONBLOCK);
  kvo_allow_cancellation(before);
  return n == (ssize_t)length ? 0 : -EAGAIN;
}

static const char *const reason_names[KVO_REASONS] = {
    "none",        "no-offer",  "bound",      "no-mark",         "no-rendezvous", "credentials",
    "no-segment",  "bad-offer", "version",    "withdrawn",       "forked",        "ancillary",
    "stdio",       "signals",   "table-full",      "shut-early",    "detached",
    "exec",        "handed-over", "urgent",   "splice",          "nested-epoll",  "low-water",
    "peer-left", "no-memory", "short-lived",     "named-twice",
};

const char *kvo_reason_name(int reason) {
  return reason >= 0 && reason < KVO_REASONS ? reason_names[reason] : "unknown";
}

/* One line, one write, no descriptor kept: the program may close everything at any time. */
void kvo_log(const char *format, ...) {
  if (!kvo_process.log_level) return;
  int saved = errno;
  char line[1024], comm[32] = "?";
  const char *path = kvo_process.log_file;
  int to_stderr = path && (!strcmp(path, "-") || !strcmp(path, "stderr"));
  if (path && *path) {
    int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/comm", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
      ssize_t n = syscall(SYS_read, fd, comm, sizeof comm - 1);
      if (n > 0) comm[n - (comm[n - 1] == '\n')] = 0;
      syscall(SYS_close, fd);
    }
    int n = snprintf(line, sizeof line, "kvoshim[%d %s] ", (int)getpid(), comm);
    va_list args;
    va_start(args, format);
    n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    va_end(args);
    if (n > (int)sizeof line - 2) n = (int)sizeof line - 2;
    line[n++] = '\n';
    fd = to_stderr ? 2 : (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) {
      syscall(SYS_write, fd, line, (size_t)n);
      if (!to_stderr) syscall(SYS_close, fd);
    }
  }
  errno = saved;
}

/* The counter's rate. A preemption between two reads of a pair would spoil it many times over (spins would last that much
 * longer), so a pair of reads counts only if they lie close together, and the median of several measurements is taken. */
static void read_clocks(uint64_t *ticks, uint64_t *ns) {
  uint64_t best = UINT64_MAX;
  for (int i = 0; i < 5; i++) {
    struct timespec now;
    uint64_t before = kvo_ticks();
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t took = kvo_ticks() - before;
    if (took < best) {
      best = took;
      *ticks = before + took / 2;
      *ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    }
  }
}

static uint64_t measure_ticks_per_us(void) {
  enum { TRIES = 5 };
  uint64_t rates[TRIES];
  for (int i = 0; i < TRIES; i++) {
    uint64_t t0, t1, n0, n1;
    read_clocks(&t0, &n0);
    do read_clocks(&t1, &n1);
    while (n1 - n0 < 5000);
    uint64_t rate = (t1 - t0) * 1000 / (n1 - n0);
    int at = i;
    for (; at > 0 && rates[at - 1] > rate; at--) rates[at] = rates[at - 1];
    rates[at] = rate;
  }
  return rates[TRIES / 2] ? rates[TRIES / 2] : 1;
}

int kvo_start(const char *paths) {
  struct kvo_process *p = &kvo_process;
  if (p->table_len) return 0;
  struct kvo_settings settings;
  int saved = errno;
  const char *level = getenv("KVOSHIM_LOG");
  p->log_level = level && !strcmp(level, "debug");
  /* A copy: programs such as nginx wipe or replace their environment. */
  const char *log_file = getenv("KVOSHIM_LOG_FILE");
  if (log_file && !p->log_file) p->log_file = strdup(log_file);
  p->pid = (int32_t)getpid();
  if (!kvo_settings_read(&settings, environ, paths, 1)) return errno = saved, 0;
  const char *why = kvo_paths_parse(settings.paths, &p->paths);
  if (why) {
    kvo_log("plain reason=%s", why);
    return errno = saved, 0;
  }
  p->warmup = (uint32_t)settings.warmup;
  p->ring_bytes = KVO_RING_MIN;
  while (p->ring_bytes < settings.ring_bytes) p->ring_bytes *= 2;
  p->ticks_per_us = measure_ticks_per_us();
  p->spin_ticks = settings.spin_us * p->ticks_per_us;
  p->trial_shift = 14 + (63 - (uint32_t)__builtin_clzll(p->ticks_per_us | 1));
  p->pause_ticks = p->ticks_per_us;
  p->expedited = (uint32_t)join_expedited_fences();
  struct rlimit limit;
  uint64_t descriptors = getrlimit(RLIMIT_NOFILE, &limit) ? 1024 : limit.rlim_max;
  p->internal_from = descriptors < 1024 || limit.rlim_cur < 1024 ? 64 : 512;
  widen_descriptor_table();
  if (descriptors > 1u << 20) descriptors = 1u << 20;
  p->slot_limit = 1u << 16;
  /* Mapped, not filled: a page costs memory when a descriptor in its range is first used. */
  const int mode = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void *table = mmap(NULL, descriptors * sizeof(int32_t), PROT_READ | PROT_WRITE, mode, -1, 0);
  void *slots = mmap(NULL, (size_t)p->slot_limit * KVO_SLOT_BYTES, PROT_READ | PROT_WRITE, mode, -1, 0);
  void *sets = mmap(NULL, KVO_SETS_BYTES, PROT_READ | PROT_WRITE, mode, -1, 0);
  void *watched = mmap(NULL, descriptors * KVO_WATCHED_BYTES, PROT_READ | PROT_WRITE, mode, -1, 0);
  void *unreadable = mmap(NULL, 4096, PROT_NONE, mode, -1, 0);
  if (table == MAP_FAILED || slots == MAP_FAILED || sets == MAP_FAILED ||
      watched == MAP_FAILED || unreadable == MAP_FAILED ||
      kvo_stats_reserve(p->slot_limit, settings.shown)) {
    if (table != MAP_FAILED) munmap(table, descriptors * sizeof(int32_t));
    if (slots != MAP_FAILED) munmap(slots, (size_t)p->slot_limit * KVO_SLOT_BYTES);
    if (sets != MAP_FAILED) munmap(sets, KVO_SETS_BYTES);
    if (watched != MAP_FAILED) munmap(watched, descriptors * KVO_WATCHED_BYTES);
    if (unreadable != MAP_FAILED) munmap(unreadable, 4096);
    kvo_log("plain reason=%s", "no-memory");
    return errno = saved, -ENOMEM;
  }
#ifdef __SANITIZE_ADDRESS__ /* what is reached from mapped memory alone has not leaked */
  __lsan_register_root_region(slots, (size_t)p->slot_limit * KVO_SLOT_BYTES);
  __lsan_register_root_region(sets, KVO_SETS_BYTES);
#endif
  p->slots = slots;
  p->sets = sets;
  p->watched = watched;
  p->unreadable = unreadable;
  p->table = table;
  kvo_release32(&p->table_len, (uint32_t)descriptors);
  errno = saved;
  return 0;
}

int kvo_path_selected(const char *path, size_t length) { return kvo_paths_match(kvo_process.paths, path, length); }
