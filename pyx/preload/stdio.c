/* FILE streams: the C library's own reads and writes of a stream can't be interposed, so a stream on a connection of ours
 * is made of functions that can. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "next.h"

static ssize_t stream_read(void *fd, char *buffer, size_t n) { return read((int)(intptr_t)fd, buffer, n); }
static ssize_t stream_write(void *fd, const char *buffer, size_t n) {
  ssize_t r = write((int)(intptr_t)fd, buffer, n);
  return r < 0 ? 0 : r; /* fopencookie: 0 is an error */
}
static int stream_seek(void *fd, off64_t *at, int from) {
  (void)fd, (void)at, (void)from;
  return errno = ESPIPE, -1;
}
static int stream_close(void *fd) { return close((int)(intptr_t)fd); }

static FILE *stream_on(int fd, const char *mode) {
  cookie_io_functions_t io = {.read = stream_read, .write = stream_write, .seek = stream_seek,
                             .close = stream_close};
  FILE *stream = fopencookie((void *)(intptr_t)fd, mode, io);
  if (stream) stream->_fileno = fd; /* fileno() works as on any stream */
  return stream;
}

/* After exec, with a connection as standard input, output or error: the C library's streams on them become ours. */
void kvo_standard_streams(void) {
  FILE **standard[] = {&stdin, &stdout, &stderr};
  for (int fd = 0; fd < 3; fd++) {
    if (ident_of(fd) >= 0) continue;
    FILE *stream = stream_on(fd, fd ? "w" : "r");
    if (!stream) {
      kvo_demote(ident_of(fd), fd, KVO_STDIO); /* the C library's own stream reads and writes the kernel socket */
      continue;
    }
    if (fd == 2) setvbuf(stream, NULL, _IONBF, 0);
    *standard[fd] = stream;
  }
}

EXPORT FILE *fdopen(int fd, const char *mode) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0) || kvo_withdraw(ident, fd, KVO_STDIO)) return NEXT(fdopen)(fd, mode);
  return stream_on(fd, mode);
}

EXPORT int vdprintf(int fd, const char *restrict format, va_list args) {
  char line[1024], *text = line;
  va_list again;
  va_copy(again, args);
  int n = vsnprintf(line, sizeof line, format, args);
  if (n >= (int)sizeof line) n = vasprintf(&text, format, again);
  va_end(again);
  if (n < 0) return n;
  int done = 0;
  while (done < n) {
    ssize_t r = write(fd, text + done, (size_t)(n - done));
    if (r < 0) break;
    done += (int)r;
  }
  int saved = errno;
  if (text != line) free(text);
  errno = saved;
  return done == n ? n : -1;
}

EXPORT int dprintf(int fd, const char *restrict format, ...) {
  va_list args;
  va_start(args, format);
  int n = vdprintf(fd, format, args);
  va_end(args);
  return n;
}

EXPORT int __vdprintf_chk(int fd, int flag, const char *restrict format, va_list args) {
  (void)flag;
  return vdprintf(fd, format, args);
}

EXPORT int __dprintf_chk(int fd, int flag, const char *restrict format, ...) {
  (void)flag;
  va_list args;
  va_start(args, format);
  int n = vdprintf(fd, format, args);
  va_end(args);
  return n;
}
