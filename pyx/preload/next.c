/* The next symbols, and what happens when the library is loaded and when the process forks. */
#include "layout.h"
#include "next.h"
#include "atomics.h"
#include "stats.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct kvo_next kvo_next;

#define FIND(name) kvo_next.name = (__typeof__(kvo_next.name))dlsym(RTLD_NEXT, #name)

void kvo_resolve(void) {
  int saved = errno;
  FIND(read), FIND(write), FIND(readv), FIND(writev), FIND(preadv2), FIND(pwritev2);
  FIND(recv), FIND(send), FIND(recvfrom), FIND(sendto);
  FIND(recvmsg), FIND(sendmsg), FIND(recvmmsg), FIND(sendmmsg), FIND(sendfile), FIND(splice);
  FIND(socket), FIND(bind), FIND(connect), FIND(accept4), FIND(getsockname), FIND(getpeername), FIND(getsockopt);
  FIND(setsockopt), FIND(shutdown), FIND(close), FIND(close_range), FIND(dup), FIND(dup2), FIND(dup3);
  FIND(fcntl), FIND(ioctl), FIND(poll), FIND(ppoll), FIND(select), FIND(pselect);
  FIND(epoll_create1), FIND(epoll_ctl), FIND(epoll_pwait), FIND(epoll_pwait2), FIND(fdopen);
  FIND(execve), FIND(execvpe), FIND(fexecve), FIND(posix_spawn), FIND(posix_spawnp);
  FIND(posix_spawn_file_actions_adddup2), FIND(system), FIND(popen), FIND(_exit), FIND(syscall), FIND(pthread_cancel);
  FIND(open), FIND(open64), FIND(openat), FIND(openat64), FIND(__open_2), FIND(__open64_2), FIND(__openat_2), FIND(__openat64_2);
  FIND(creat), FIND(creat64), FIND(fopen), FIND(fopen64), FIND(opendir), FIND(pipe), FIND(pipe2), FIND(socketpair);
  FIND(eventfd), FIND(timerfd_create), FIND(signalfd), FIND(inotify_init), FIND(inotify_init1);
  errno = saved;
}

/* ---- connections that came through exec ---- */

/* Their segments are inherited memfds, recognised by seals and magic; whose they are is in the segment. The lists are not on
 * the stack, since there may be many, nor from malloc, which may fail. */
enum { MOST = 65536 };
static int memfds[MOST], sockets[MOST], memfd_count, socket_count;
static uint64_t inodes[MOST];

static void look_at(int fd) {
  struct stat info;
  uint64_t magic = 0;
  if (fstat(fd, &info)) return;
  if (S_ISSOCK(info.st_mode) && socket_count < MOST) {
    inodes[socket_count] = info.st_ino;
    sockets[socket_count++] = fd;
  }
  if (S_ISREG(info.st_mode) && memfd_count < MOST && NEXT(fcntl)(fd, F_GET_SEALS) > 0 &&
      pread(fd, &magic, sizeof magic, 0) == sizeof magic && magic == KVO_MAGIC)
    memfds[memfd_count++] = fd;
}

static void look_at_descriptors(void) {
  struct rlimit limit = {1024, 1024};
  struct dirent *entry;
  DIR *directory = NEXT(opendir)("/proc/self/fd");
  while (directory && (entry = readdir(directory)))
    if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(directory)) look_at(atoi(entry->d_name));
  if (directory) {
    closedir(directory);
    return;
  }
  getrlimit(RLIMIT_NOFILE, &limit); /* no descriptor left for the directory, or no memory */
  for (int fd = 0; fd < (int)(limit.rlim_cur < MOST ? limit.rlim_cur : MOST); fd++) look_at(fd);
}

/* A connection that can't be taken up has ended for this process: what its socket carries are bells, and nobody reads its
 * ring. Another process that shares it goes on, so a socket that has ended takes its place. */
static void end_connection(int fd) {
  int pair[2], flags = NEXT(fcntl)(fd, F_GETFL);
  char bells[256];
  kvo_log("lost fd=%d", fd);
  if (NEXT(socketpair)(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0) {
    NEXT(dup2)(pair[0], fd);
    if (flags >= 0) NEXT(fcntl)(fd, F_SETFL, flags);
    NEXT(close)(pair[0]), NEXT(close)(pair[1]);
    return;
  }
  NEXT(shutdown)(fd, SHUT_RDWR);
  while (NEXT(recv)(fd, bells, sizeof bells, MSG_DONTWAIT) > 0) {}
}

static void inherit(void) {
  look_at_descriptors();
  for (int i = 0; i < memfd_count; i++) {
    uint64_t owner[2];
    for (int role = 0; role < 2; role++) {
      off_t at = (off_t)offsetof(struct kvo_header, side[role].inode);
      if (pread(memfds[i], &owner[role], sizeof owner[role], at) != sizeof owner[role]) owner[role] = 0;
    }
    for (int j = 0; j < socket_count; j++)
      if ((inodes[j] == owner[0] || inodes[j] == owner[1]) &&
          !(kvo_process.table_len && kvo_inherit(memfds[i], sockets[j])))
        end_connection(sockets[j]);
    NEXT(close)(memfds[i]);
  }
  if (memfd_count && kvo_process.table_len) kvo_standard_streams();
}

__attribute__((constructor(101))) static void loaded(void) {
  int saved = errno;
  kvo_resolve();
  kvo_start(NULL);
  if (kvo_process.table_len && pthread_atfork(kvo_before_fork, NULL, kvo_after_fork_in_child)) {
    kvo_process.table_len = 0;
    kvo_log("plain reason=no-memory");
  }
  inherit();
  errno = saved;
}

/* Calls that wait in the kernel see a cancellation there; those that a ring answers look for one themselves, from now on. */
EXPORT int pthread_cancel(pthread_t thread) {
  kvo_expect_cancellation();
  return NEXT(pthread_cancel)(thread);
}

/* Ends without the destructors by which the statistics segment goes (stats.c). */
EXPORT void _exit(int status) {
  kvo_stats_remove();
  NEXT(_exit)(status);
  __builtin_unreachable();
}
EXPORT void _Exit(int) __attribute__((alias("_exit")));

/* For the extension module in the same process: a descriptor's connection ID (0: none); of -1, whether this library is
 * active, so that the two don't shake hands twice over one socket. */
EXPORT int kvoshim_connection_id(int fd) {
  if (fd < 0) return kvo_process.table_len != 0;
  int32_t ident = ident_of(fd);
  return ident < 0 ? ident : 0;
}
