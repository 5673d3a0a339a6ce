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
  FILE *stream;
  if (ident_of(0) < 0 && (stream = stream_on(0, "r"))) stdin = stream;
  if (ident_of(1) < 0 && (stream = stream_on(1, "w"))) stdout = stream;
  if (ident_of(2) < 0 && (stream = stream_on(2, "w"))) {
    setvbuf(stream, NULL, _IONBF, 0);
    stderr = stream;
  }
}

EXPORT FILE *fdopen(int fd, const char *mode) {
  int32_t ident = ident_of(fd);
  if (likely(ident >= 0) || kvo_withdraw(ident, fd, KVO_STDIO)) return NEXT(fdopen)(fd, mode);
  return stream_on(fd, mode);
}

EXPORT int vdprintf(int fd, const char *restrict format, va_list args) {
  char *text;
  int n = vasprintf(&text, format, args);
  if (n < 0) return n;
  int done = 0;
  while (done < n) {
    ssize_t r = write(fd, text + done, (size_t)(n - done));
    if (r < 0) break;
    done += (int)r;
  }
  int saved = errno;
  free(text);
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
