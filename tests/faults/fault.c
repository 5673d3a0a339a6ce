/* Fails chosen system calls and allocations of libkvoshim.so, and of nobody else: who calls is told by the return address.
 * Preloaded behind libkvoshim.so, so that its own calls and the next symbols that it looks up end here.
 *
 *   KVO_FAULT=NAME:WHICH:ERRNO[,...]   the calls of a name to fail: "3" the third, "3+" from the third on, "3-5"
 *                                      ERRNO SLOW: they succeed, but take a while (meanwhile.c)
 *   KVO_FAULT_HITS=FILE                a line for each call that was failed
 *
 * Many of the library's calls are the program's own, handed on. So a name says what the call is for as well, which its
 * arguments tell: points.py lists the names. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);

static struct fault {
  char name[32];
  unsigned first, last, seen;
  int error;
} faults[8];
static int count, prepared;
static uintptr_t low = UINTPTR_MAX, high;
static char hits[256];
static long (*bare)(long, ...);

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

static int number_of(const char *name) {
  if (!strcmp(name, "SLOW")) return 0;
  for (int i = 1; i < 134; i++)
    if (strerrorname_np(i) && !strcmp(strerrorname_np(i), name)) return i;
  return EINVAL;
}

static void prepare(void) {
  prepared = 1;
  const char *text = getenv("KVO_FAULT"), *file = getenv("KVO_FAULT_HITS");
  if (file) snprintf(hits, sizeof hits, "%s", file);
  for (; text && *text && count < 8; text += strcspn(text, ","), text += *text == ',') {
    struct fault *f = &faults[count];
    char which[16], error[16];
    if (sscanf(text, "%31[^:]:%15[^:]:%15[^,]", f->name, which, error) != 3) continue;
    char *end;
    f->first = f->last = (unsigned)strtoul(which, &end, 10);
    if (*end) f->last = end[0] == '-' ? (unsigned)strtoul(end + 1, NULL, 10) : UINT32_MAX;
    f->error = number_of(error);
    count++;
  }
  if (!count) return;
  bare = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  dl_iterate_phdr(look, NULL);
}

/* By the library's own function of that name: the program's call, handed on. */
static int handed_on(const char *name, void *caller) {
  Dl_info info;
  return dladdr(caller, &info) && info.dli_sname && !strcmp(info.dli_sname, name);
}

static int fails(const char *name, void *caller) {
  if (!prepared) prepare();
  if ((uintptr_t)caller < low || (uintptr_t)caller >= high) return 0;
  for (int i = 0; i < count; i++) {
    struct fault *f = &faults[i];
    if (strcmp(f->name, name) || handed_on(name, caller)) continue;
    unsigned n = __atomic_add_fetch(&f->seen, 1, __ATOMIC_RELAXED);
    if (n < f->first || n > f->last) continue;
    char line[96];
    int bytes = snprintf(line, sizeof line, "%s %u %s\n", name, n, f->error ? strerrorname_np(f->error) : "SLOW");
    int fd = *hits ? (int)bare(SYS_openat, AT_FDCWD, hits, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (fd >= 0) bare(SYS_write, fd, line, bytes), bare(SYS_close, fd);
    errno = f->error;
    if (!f->error) bare(SYS_nanosleep, &(struct timespec){0, 60000000}, NULL);
    return f->error != 0;
  }
  return 0;
}

#define FAILS(name) fails(name, __builtin_return_address(0))
#define NEXT(name) ((__typeof__(&name))next(#name, &next_##name))
#define CALL(type, name, parameters, arguments, point, failure)         \
  static void *next_##name;                                             \
  type name parameters {                                                \
    const char *point_ = point;                                         \
    if (point_ && FAILS(point_)) return failure;                        \
    return NEXT(name) arguments;                                        \
  }

static void *next(const char *name, void **kept) {
  if (!*kept) *kept = dlsym(RTLD_NEXT, name);
  return *kept;
}

/* ---- memory ---- */

void *malloc(size_t n) { return FAILS("malloc") ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return FAILS("calloc") ? NULL : __libc_calloc(n, size); }
void *realloc(void *at, size_t n) { return FAILS("realloc") ? NULL : __libc_realloc(at, n); }

static const char *mapping(int flags, int fd) {
  if (flags & MAP_FIXED) return fd >= 0 ? "mmap.statistics" : "mmap.forked";
  if (fd >= 0) return "mmap.segment";
  return flags & MAP_NORESERVE ? "mmap.tables" : "mmap.splice";
}
CALL(void *, mmap, (void *at, size_t n, int protection, int flags, int fd, off_t offset),
     (at, n, protection, flags, fd, offset), mapping(flags, fd), MAP_FAILED)
CALL(void *, mmap64, (void *at, size_t n, int protection, int flags, int fd, off_t offset),
     (at, n, protection, flags, fd, offset), mapping(flags, fd), MAP_FAILED)

CALL(char *, strdup, (const char *text), (text), "strdup", NULL)
CALL(DIR *, opendir, (const char *path), (path), "opendir", NULL)
CALL(FILE *, fopencookie, (void *cookie, const char *mode, cookie_io_functions_t io), (cookie, mode, io), "fopencookie", NULL)
CALL(int, vasprintf, (char **text, const char *format, va_list arguments), (text, format, arguments), "vasprintf", -1)

int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *);
CALL(int, __register_atfork, (void (*before)(void), void (*parent)(void), void (*child)(void), void *object),
     (before, parent, child, object), "pthread_atfork", errno)

/* ---- files ---- */

CALL(int, memfd_create, (const char *name, unsigned flags), (name, flags), "memfd_create", -1)
CALL(int, ftruncate, (int fd, off_t n), (fd, n), "ftruncate", -1)
CALL(int, ftruncate64, (int fd, off_t n), (fd, n), "ftruncate", -1)
static const char *about(int fd) {
  struct statx info;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &info)) return NULL;
  return S_ISSOCK(info.stx_mode) ? "fstat.socket" : S_ISREG(info.stx_mode) ? "fstat.file" : NULL;
}
CALL(int, fstat, (int fd, struct stat *info), (fd, info), about(fd), -1)
CALL(int, fstat64, (int fd, struct stat64 *info), (fd, info), about(fd), -1)
CALL(int, stat, (const char *restrict path, struct stat *restrict info), (path, info), "stat", -1)
CALL(int, getrlimit, (__rlimit_resource_t what, struct rlimit *limit), (what, limit), "getrlimit", -1)
CALL(ssize_t, getrandom, (void *buffer, size_t n, unsigned flags), (buffer, n, flags), "getrandom", -1)
CALL(ssize_t, readlink, (const char *restrict path, char *restrict buffer, size_t n), (path, buffer, n), "readlink", -1)
CALL(ssize_t, vmsplice, (int fd, const struct iovec *v, size_t n, unsigned flags), (fd, v, n, flags), "vmsplice", -1)
CALL(ssize_t, pread, (int fd, void *buffer, size_t n, off_t at), (fd, buffer, n, at), n == 4095 ? "pread.program" : "pread", -1)
CALL(ssize_t, fgetxattr, (int fd, const char *name, void *value, size_t n), (fd, name, value, n), "fgetxattr", -1)
CALL(int, access, (const char *path, int mode), (path, mode), "access", -1)
CALL(char *, getcwd, (char *buffer, size_t n), (buffer, n), "getcwd", NULL)

static void *next_open;
int open(const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  int mode = va_arg(more, int);
  va_end(more);
  return FAILS("open") ? -1 : NEXT(open)(path, flags, mode);
}

static const char *control(int command) {
  return command == F_ADD_SEALS         ? "fcntl.F_ADD_SEALS"
         : command == F_GET_SEALS       ? "fcntl.F_GET_SEALS"
         : command == F_DUPFD_CLOEXEC   ? "fcntl.F_DUPFD_CLOEXEC"
         : command == F_SETFD           ? "fcntl.F_SETFD"
                                        : NULL;
}
static void *next_fcntl;
int fcntl(int fd, int command, ...) {
  va_list more;
  va_start(more, command);
  void *argument = va_arg(more, void *);
  va_end(more);
  const char *point = control(command);
  return point && FAILS(point) ? -1 : NEXT(fcntl)(fd, command, argument);
}

static const char *by_number(long number, long a, long c) {
  switch (number) {
    case SYS_membarrier: return a ? "membarrier" : "membarrier.query";
    case SYS_tgkill: return c ? NULL : "tgkill";
    case SYS_openat: return "openat";
    case SYS_mmap: return "mmap.statistics";
    case SYS_fallocate: return "fallocate";
    case SYS_pwrite64: return "pwrite64";
    case SYS_getdents64: return "getdents64";
    default: return NULL;
  }
}
static void *next_syscall;
long syscall(long number, ...) {
  long a[6];
  va_list more;
  va_start(more, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(more, long);
  va_end(more);
  const char *point = by_number(number, a[0], a[2]);
  return point && FAILS(point) ? -1 : NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- sockets ---- */

/* '-' for a mark, 'r' for a rendezvous, 'o' for who offers there, 0 for a name of the program's. */
static char kind(const struct sockaddr *address) {
  const struct sockaddr_un *un = (const struct sockaddr_un *)address;
  return address && un->sun_family == AF_UNIX && !memcmp(un->sun_path, "\0kvo2", 5) ? un->sun_path[5] : 0;
}
static size_t first_part(const struct msghdr *m) { return m->msg_iovlen == 1 ? m->msg_iov[0].iov_len : 0; }
enum { QUIETLY = MSG_DONTWAIT | MSG_NOSIGNAL, OFFER_BYTES = 48 };

CALL(int, socket, (int domain, int type, int protocol), (domain, type, protocol),
     domain == AF_NETLINK ? "socket.diag" : (type & 15) == SOCK_SEQPACKET ? "socket.rendezvous" : type == (SOCK_STREAM | SOCK_CLOEXEC) ? "socket.fresh" : NULL, -1)
CALL(int, bind, (int fd, const struct sockaddr *address, socklen_t n), (fd, address, n),
     kind(address) == 'r' ? "bind.rendezvous" : kind(address) == '-' ? "bind.mark" : kind(address) == 'o' ? "bind.offerer" : NULL, -1)
CALL(int, listen, (int fd, int backlog), (fd, backlog), "listen", -1)
CALL(int, connect, (int fd, const struct sockaddr *address, socklen_t n), (fd, address, n),
     kind(address) == 'r' ? "connect.rendezvous" : NULL, -1)
CALL(int, accept4, (int fd, struct sockaddr *restrict address, socklen_t *restrict n, int flags), (fd, address, n, flags),
     flags == (SOCK_CLOEXEC | SOCK_NONBLOCK) ? "accept4.offer" : NULL, -1)
CALL(ssize_t, send, (int fd, const void *buffer, size_t n, int flags), (fd, buffer, n, flags),
     flags != QUIETLY ? NULL : n == 1 ? "send.bell" : "send.resend", -1)
CALL(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags),
     flags != QUIETLY || !m->msg_control ? NULL : first_part(m) == OFFER_BYTES ? "sendmsg.offer"
     : first_part(m) == 1 ? "sendmsg.record" : NULL, -1)
CALL(ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags),
     flags == (MSG_DONTWAIT | MSG_CMSG_CLOEXEC) && first_part(m) == OFFER_BYTES ? "recvmsg.offer" : NULL, -1)
CALL(int, dup3, (int fd, int as, int flags), (fd, as, flags), "dup3", -1)
CALL(int, getsockopt, (int fd, int level, int option, void *restrict value, socklen_t *restrict n),
     (fd, level, option, value, n), option == SO_PEERCRED ? "getsockopt.SO_PEERCRED" : NULL, -1)
CALL(int, setsockopt, (int fd, int level, int option, const void *value, socklen_t n), (fd, level, option, value, n),
     option == SO_SNDBUF ? "setsockopt.SO_SNDBUF" : NULL, -1)

static const char *registration(int op, const struct epoll_event *event) {
  if (op != EPOLL_CTL_DEL && (!event || event->data.u64 >> 40 != 0xA5C3D1)) return NULL;
  return op == EPOLL_CTL_ADD ? "epoll_ctl.ADD" : op == EPOLL_CTL_MOD ? "epoll_ctl.MOD" : "epoll_ctl.DEL";
}
CALL(int, epoll_ctl, (int set, int op, int fd, struct epoll_event *event), (set, op, fd, event), registration(op, event), -1)
