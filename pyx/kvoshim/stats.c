/* The statistics segment. It may be made in a signal handler, in a child of fork and in a program that watches its
 * descriptors, so: bare system calls, no memory allocated, no descriptor kept, errno as it was. */
#include "stats.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "atomics.h"

#define DIRECTORY "/dev/shm/"
#define PREFIX "kvoshim-stats-"

enum { FIRST_BYTES = 4096, NONE = -1 };
static const uint32_t NEVER = UINT32_MAX; /* no slot needs anything any more */

static_assert(KVO_REASONS <= KVO_STATS_REASONS, "each reason has its counter");

static uint64_t end_of(uint32_t slot) { return KVO_STATS_HEADER_BYTES + (uint64_t)slot * KVO_STATS_SLOT_BYTES; }

static int open_file(const char *path, int flags) { return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600); }

static void close_file(int fd) { syscall(SYS_close, fd); }

uint64_t kvo_stats_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int kvo_stats_reserve(uint32_t slots, int shown) {
  struct kvo_process *p = &kvo_process;
  uint64_t bytes = (end_of(slots) + 4095) & ~4095ull;
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return -ENOMEM;
  p->stats = at;
  p->stats_room = bytes;
  p->stats_shown = (uint32_t)shown;
  p->stats_slots = shown ? 0 : NEVER;
  return 0;
}

/* ---- names ---- */

static uint64_t pid_namespace(void) {
  struct stat info;
  return stat("/proc/self/ns/pid", &info) ? 0 : info.st_ino;
}

static uint64_t start_ticks(void) {
  char text[1024], *field;
  int fd = open_file("/proc/self/stat", O_RDONLY);
  if (fd < 0) return 0;
  ssize_t n = syscall(SYS_read, fd, text, sizeof text - 1);
  close_file(fd);
  text[n > 0 ? n : 0] = 0;
  field = strrchr(text, ')'); /* the second field, which may hold anything */
  for (int i = 2; field && i < 22; i++) field = strchr(field + 1, ' ');
  return field ? strtoull(field, NULL, 10) : 0;
}

/* A number and the mark behind it; NONE: there is none. */
static long long number(const char **text, char mark) {
  char *end;
  if (**text < '0' || **text > '9') return NONE;
  unsigned long long value = strtoull(*text, &end, 10);
  if (*end != mark || value > UINT32_MAX) return NONE;
  *text = end + 1;
  return (long long)value;
}

/* Whether a name in the directory is that of a process of ours (of anybody, for root) that has died. PIDs mean nothing
 * outside their namespace, so those of other namespaces are left alone. A PID that has been given to another process is
 * found by readers, who have the time to look. */
static int left_behind(const char *name, uint32_t user, uint64_t namespace) {
  if (strncmp(name, PREFIX, sizeof PREFIX - 1)) return 0;
  name += sizeof PREFIX - 1;
  long long uid = number(&name, '-'), pid = number(&name, '-'), where = number(&name, 0);
  if (uid < 0 || pid <= 0 || where < 0 || (uint64_t)where != namespace || (user && (uint64_t)uid != user)) return 0;
  return kill((pid_t)pid, 0) && errno == ESRCH;
}

struct entry {
  uint64_t inode;
  int64_t offset;
  unsigned short bytes;
  unsigned char type;
  char name[];
};

/* Removes what killed processes have left; a directory of thousands of strangers' files is not read to its end. */
static void sweep(uint32_t user, uint64_t namespace) {
  _Alignas(struct entry) char buffer[2048];
  int directory = open_file(DIRECTORY, O_RDONLY | O_DIRECTORY);
  if (directory < 0) return;
  for (int i = 0; i < 64; i++) {
    long n = syscall(SYS_getdents64, directory, buffer, sizeof buffer);
    if (n <= 0) break;
    for (long at = 0; at < n;) {
      const struct entry *e = (const struct entry *)(buffer + at);
      if (left_behind(e->name, user, namespace)) unlinkat(directory, e->name, 0);
      at += e->bytes;
    }
  }
  close_file(directory);
}

/* ---- making ---- */

/* A new file, its header filled in (still in private memory); NONE: impossible. Whatever has its name already was left by
 * an earlier process with this PID, or by this one before exec. */
static int create(struct kvo_process *p) {
  const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW;
  uint32_t user = (uint32_t)geteuid();
  uint64_t namespace = pid_namespace();
  struct kvo_stats_header *h = p->stats;
  struct stat info;
  snprintf(p->stats_name, sizeof p->stats_name, DIRECTORY PREFIX "%u-%d-%llu", user, (int)p->pid,
           (unsigned long long)namespace);
  int fd = open_file(p->stats_name, flags);
  if (fd < 0 && errno == EEXIST && !unlink(p->stats_name)) fd = open_file(p->stats_name, flags);
  if (fd < 0) return NONE;
  if (fstat(fd, &info)) return close_file(fd), unlink(p->stats_name), NONE;
  p->stats_inode = info.st_ino;
  h->magic = KVO_STATS_MAGIC;
  h->version = KVO_STATS_VERSION;
  h->header_bytes = KVO_STATS_HEADER_BYTES;
  h->slot_bytes = KVO_STATS_SLOT_BYTES;
  h->reasons = KVO_REASONS;
  h->pid = p->pid;
  h->uid = user;
  h->start_ticks = start_ticks();
  h->since_ns = kvo_stats_now();
  sweep(user, namespace);
  return fd;
}

static int open_again(struct kvo_process *p) {
  struct stat info;
  int fd = open_file(p->stats_name, O_RDWR | O_NOFOLLOW);
  if (fd >= 0 && (fstat(fd, &info) || info.st_ino != p->stats_inode)) return close_file(fd), NONE;
  return fd;
}

/* Puts the counters up to a byte into the file, in place. Its memory is allocated before it is mapped: a full /dev/shm is
 * an error here, not a signal later. What other threads count in this moment may be lost. */
static int move(struct kvo_process *p, int fd, uint64_t bytes) {
  uint64_t from = p->stats_bytes, used = end_of(kvo_load32(&p->slot_high));
  uint8_t *base = (uint8_t *)p->stats;
  if (used > bytes) used = bytes;
  if (syscall(SYS_fallocate, fd, 0, 0L, (long)bytes)) return 0;
  if (used > from && syscall(SYS_pwrite64, fd, base + from, used - from, (long)from) != (long)(used - from)) return 0;
  /* A bare call also because a sanitizer takes its own mmap() for a write to every counter. */
  return syscall(SYS_mmap, base + from, bytes - from, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (long)from) != -1;
}

/* NONE: for the moment there is no descriptor. */
static int extend(struct kvo_process *p, uint32_t slot) {
  uint64_t bytes = p->stats_bytes ? p->stats_bytes : FIRST_BYTES;
  while (bytes < end_of(slot + 1)) bytes *= 2;
  if (bytes > p->stats_room) bytes = p->stats_room;
  if (!kvo_file_may_have(bytes)) return 0;
  int fd = p->stats_bytes ? open_again(p) : create(p);
  if (fd < 0) return errno == EMFILE || errno == ENFILE ? NONE : 0;
  int done = move(p, fd, bytes);
  close_file(fd);
  if (!done && !p->stats_bytes) unlink(p->stats_name);
  if (!done) return 0;
  p->stats_bytes = bytes;
  kvo_release32(&p->stats_slots, (uint32_t)((bytes - KVO_STATS_HEADER_BYTES) / KVO_STATS_SLOT_BYTES));
  return 1;
}

void kvo_stats_extend(uint32_t slot) {
  struct kvo_process *p = &kvo_process;
  /* Another thread, or this one before a signal, is at it already; a child of vfork has no business here. */
  if (getpid() != p->pid || !kvo_cas32(&p->stats_busy, 0, 1)) return;
  int saved = errno;
  if (slot >= p->stats_slots && extend(p, slot) == 0) kvo_release32(&p->stats_slots, NEVER);
  kvo_release32(&p->stats_busy, 0);
  errno = saved;
}

/* ---- ending ---- */

void kvo_stats_forked(void) {
  struct kvo_process *p = &kvo_process;
  if (!p->stats) return;
  /* Also what another thread of the parent was just putting there. */
  uint64_t used = end_of(p->slot_high), bytes = FIRST_BYTES;
  while (bytes < used || bytes < p->stats_bytes) bytes *= 2;
  if (bytes > p->stats_room) bytes = p->stats_room;
  const int mode = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  int private = mmap(p->stats, bytes, PROT_READ | PROT_WRITE, mode, -1, 0) != MAP_FAILED;
  p->stats_bytes = 0;
  p->stats_busy = 0;
  if (p->stats_shown) p->stats_slots = private ? 0 : NEVER; /* NEVER: it goes on counting in its parent's */
}

void kvo_stats_remove(void) {
  struct kvo_process *p = &kvo_process;
  if (!p->stats || getpid() != p->pid) return;
  int saved = errno;
  if (p->stats_bytes) unlink(p->stats_name);
  kvo_release32(&p->stats_slots, NEVER);
  errno = saved;
}

__attribute__((destructor)) static void ended(void) { kvo_stats_remove(); }
