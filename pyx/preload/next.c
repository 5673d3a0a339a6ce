/* The next symbols, and what happens when the library is loaded and when the process forks. */
#include "next.h"
#include "atomics.h"
#include "stats.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
  errno = saved;
}

/* Connections that came through exec: their segments are inherited memfds, recognised by name. Those that belong to no
 * descriptor are closed. */
static void inherit(void) {
  int memfds[256], count = 0, sockets[1024], found = 0;
  DIR *directory = opendir("/proc/self/fd");
  if (!directory) return;
  for (struct dirent *entry; (entry = readdir(directory));) {
    char path[64], target[64];
    int fd = atoi(entry->d_name);
    if (entry->d_name[0] == '.' || fd == dirfd(directory)) continue;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, target, sizeof target - 1);
    target[n > 0 ? n : 0] = 0;
    if (!strncmp(target, "/memfd:kvoshim ", 15) && count < 256) memfds[count++] = fd;
    else if (!strncmp(target, "socket:", 7) && found < 1024) sockets[found++] = fd;
  }
  closedir(directory);
  for (int i = 0; i < count; i++) {
    for (int j = 0; j < found; j++) kvo_inherit(memfds[i], sockets[j]);
    NEXT(close)(memfds[i]);
  }
  if (count) kvo_standard_streams();
}

__attribute__((constructor(101))) static void loaded(void) {
  kvo_resolve();
  if (kvo_start(NULL) || !kvo_process.table_len) return;
  int saved = errno;
  inherit();
  errno = saved;
  pthread_atfork(kvo_before_fork, NULL, kvo_after_fork_in_child);
}

/* Calls that wait in the kernel see a cancellation there; those that a ring answers look for one themselves, from now on. */
EXPORT int pthread_cancel(pthread_t thread) {
  kvo_store32(&kvo_process.cancelling, 1);
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
