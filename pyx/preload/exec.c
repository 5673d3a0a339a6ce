/* exec: a successor that is shimmed takes the connections over. */
#include "next.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int shimmed(char *const environment[]) {
  for (; environment && *environment; environment++)
    if (!strncmp(*environment, "LD_PRELOAD=", 11) && strstr(*environment, "libkvoshim.so")) return 1;
  return 0;
}

static int prepare(char *const environment[]) {
  int inherit = kvo_process.table_len && shimmed(environment);
  if (inherit) kvo_before_exec(1);
  return inherit;
}

static int failed(int inherit) {
  int saved = errno;
  if (inherit) kvo_before_exec(0);
  errno = saved;
  return -1;
}

EXPORT int execve(const char *path, char *const argv[], char *const environment[]) {
  int inherit = prepare(environment);
  NEXT(execve)(path, argv, environment);
  return failed(inherit);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const environment[]) {
  int inherit = prepare(environment);
  NEXT(execvpe)(file, argv, environment);
  return failed(inherit);
}

EXPORT int fexecve(int fd, char *const argv[], char *const environment[]) {
  int inherit = prepare(environment);
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
