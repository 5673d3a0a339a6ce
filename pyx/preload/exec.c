/* exec: a successor with the library takes the connections over; for one without it they go back to the kernel. */
#include "next.h"
#include "settings.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Would the library go to work in a program with this environment? It reads it as it does its own. Where memory is rationed,
 * it may not be able to. */
static int starts_library(char *const environment[]) {
  struct kvo_settings settings;
  struct rlimit memory;
  const char *libraries = kvo_nowhere(environment) ? NULL : kvo_variable(environment, "LD_PRELOAD");
  return libraries && strstr(libraries, "libkvoshim.so") && kvo_settings_read(&settings, environment, NULL, 0) &&
         getrlimit(RLIMIT_AS, &memory) == 0 && memory.rlim_cur == RLIM_INFINITY;
}

static int loads_library(const char *path, int depth);

/* Does the loader put the library into this program? Not into a static one, nor one that runs with others' rights. Where
 * that can't be found out, no: on the kernel the connections go on with any program. */
static int program_loads_library(int fd, int depth) {
  _Alignas(Elf64_Ehdr) char head[4096];
  struct stat info;
  ssize_t n = pread(fd, head, sizeof head - 1, 0);
  if (n < 0 || fstat(fd, &info) ||
      ((info.st_mode & S_ISUID && info.st_uid != geteuid()) || (info.st_mode & S_ISGID && info.st_gid != getegid()) ||
       (geteuid() && fgetxattr(fd, "security.capability", NULL, 0) > 0)))
    return 0;
  head[n] = 0;
  if (n > 2 && head[0] == '#' && head[1] == '!') {
    char *at = head + 2 + strspn(head + 2, " \t");
    at[strcspn(at, " \t\n")] = 0;
    return depth > 3 || loads_library(at, depth + 1);
  }
  const Elf64_Ehdr *elf = (const Elf64_Ehdr *)head;
  if (n < (ssize_t)sizeof *elf || memcmp(elf->e_ident, ELFMAG, SELFMAG)) return 1; /* what else runs, a shell runs */
  if (elf->e_ident[EI_CLASS] != ELFCLASS64) return 0;
  if (elf->e_phoff > (size_t)n || elf->e_phnum * sizeof(Elf64_Phdr) > (size_t)n - elf->e_phoff) return 1;
  const Elf64_Phdr *part = (const Elf64_Phdr *)(head + elf->e_phoff);
  for (int i = 0; i < elf->e_phnum; i++)
    if (part[i].p_type == PT_INTERP) return 1;
  return 0;
}

static int loads_library(const char *path, int depth) {
  int fd = NEXT(open)(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT || errno == ENOTDIR || errno == EFAULT; /* exec will tell */
  int loads = program_loads_library(fd, depth);
  NEXT(close)(fd);
  return loads;
}

/* As execvp() looks for it. */
static int loads_library_in_path(const char *file) {
  const char *list = getenv("PATH");
  if (kvo_nowhere(file) || strchr(file, '/') || !list) return loads_library(file, 0);
  while (*list) {
    size_t n = strcspn(list, ":");
    char path[PATH_MAX];
    if (n && snprintf(path, sizeof path, "%.*s/%s", (int)n, list, file) < (int)sizeof path && access(path, X_OK) == 0)
      return loads_library(path, 0);
    list += n + (list[n] == ':');
  }
  return 1;
}

/* A question whose answer is no matter of the program's errno; nor is a thread cancelled over it, since exec is no cancellation
 * point. */
#define ASK(question) \
  ({ \
    int saved_ = errno, before_ = kvo_put_off_cancellation(), answer_ = (question); \
    kvo_allow_cancellation(before_); \
    errno = saved_; \
    answer_; \
  })

/* Before a successor starts: 1 if it takes the connections over. last: the highest descriptor that it inherits, -1: all. */
static int prepare(int shimmed, int last) {
  int saved = errno;
  if (!kvo_process.table_len) return 0;
  if (shimmed) kvo_before_exec(1);
  else kvo_before_plain_exec(last);
  errno = saved;
  return shimmed;
}

/* The successor was started elsewhere, or could not be. */
static void done(int inherit) {
  int saved = errno;
  if (inherit) kvo_before_exec(0);
  errno = saved;
}

static int failed(int inherit) {
  done(inherit);
  return -1;
}

EXPORT int execve(const char *path, char *const argv[], char *const environment[]) {
  int inherit = prepare(ASK(starts_library(environment) && loads_library(path, 0)), -1);
  NEXT(execve)(path, argv, environment);
  return failed(inherit);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const environment[]) {
  int inherit = prepare(ASK(starts_library(environment) && loads_library_in_path(file)), -1);
  NEXT(execvpe)(file, argv, environment);
  return failed(inherit);
}

EXPORT int fexecve(int fd, char *const argv[], char *const environment[]) {
  int inherit = prepare(ASK(starts_library(environment) && program_loads_library(fd, 0)), -1);
  NEXT(fexecve)(fd, argv, environment);
  return failed(inherit);
}

EXPORT int execv(const char *path, char *const argv[]) { return execve(path, argv, environ); }

EXPORT int execvp(const char *file, char *const argv[]) { return execvpe(file, argv, environ); }

/* Arguments up to the NULL that ends them, on the stack: exec may be called where malloc may not. */
#define GATHER(first)                                    \
  size_t count = 1;                                      \
  va_list args, again;                                   \
  va_start(args, first);                                 \
  va_copy(again, args);                                  \
  while (va_arg(again, char *)) count++;                 \
  va_end(again);                                         \
  char *argv[count + 1];                                 \
  argv[0] = (char *)first;                               \
  for (size_t i = 1; i <= count; i++) argv[i] = va_arg(args, char *)

EXPORT int execl(const char *path, const char *first, ...) {
  GATHER(first);
  va_end(args);
  return execve(path, argv, environ);
}

EXPORT int execlp(const char *file, const char *first, ...) {
  GATHER(first);
  va_end(args);
  return execvpe(file, argv, environ);
}

EXPORT int execle(const char *path, const char *first, ...) {
  GATHER(first);
  char *const *environment = va_arg(args, char *const *);
  va_end(args);
  return execve(path, argv, environment);
}

/* Descriptors that a file action will duplicate into a child, of which nobody knows yet with what environment it starts. */
static int duplicated[16], duplicates;

EXPORT int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *actions, int fd, int new_fd) {
  if (ident_of(fd) < 0) duplicated[__atomic_fetch_add(&duplicates, 1, __ATOMIC_RELAXED) & 15] = fd;
  return NEXT(posix_spawn_file_actions_adddup2)(actions, fd, new_fd);
}

static int prepare_spawn(int shimmed, const posix_spawn_file_actions_t *actions) {
  int count = actions ? __atomic_exchange_n(&duplicates, 0, __ATOMIC_RELAXED) : 0;
  for (int i = 0; i < count && i < 16; i++)
    if (ident_of(duplicated[i]) < 0) kvo_part_with(duplicated[i], shimmed);
  return prepare(shimmed, -1);
}

EXPORT int posix_spawn(pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *restrict attributes, char *const argv[restrict],
                       char *const environment[restrict]) {
  int inherit = prepare_spawn(ASK(starts_library(environment) && loads_library(path, 0)), actions);
  int r = NEXT(posix_spawn)(pid, path, actions, attributes, argv, environment);
  done(inherit);
  return r;
}

EXPORT int posix_spawnp(pid_t *restrict pid, const char *restrict file, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *restrict attributes, char *const argv[restrict],
                        char *const environment[restrict]) {
  int inherit = prepare_spawn(ASK(starts_library(environment) && loads_library_in_path(file)), actions);
  int r = NEXT(posix_spawnp)(pid, file, actions, attributes, argv, environment);
  done(inherit);
  return r;
}

/* A shell has no use for more than the standard streams. */
static int prepare_shell(void) {
  int ours = ident_of(0) < 0 || ident_of(1) < 0 || ident_of(2) < 0;
  return ours ? prepare(starts_library(environ), STDERR_FILENO) : 0;
}

EXPORT int system(const char *command) {
  int inherit = prepare_shell();
  int r = NEXT(system)(command);
  done(inherit);
  return r;
}

EXPORT FILE *popen(const char *command, const char *mode) {
  int inherit = prepare_shell();
  FILE *stream = MAKE(NEXT(popen)(command, mode), NULL);
  done(inherit);
  return stream;
}
