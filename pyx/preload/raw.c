/* System calls by number. Event loops (libuv, and so uvloop and Node.js) close descriptors and make rings for io_uring this
 * way. A descriptor that is closed unseen would leave its connection to the next one of its number; registrations through
 * io_uring can't be seen at all, so no ring is to be had, and the loop takes its other way, epoll_ctl(). */
#include "next.h"

#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

EXPORT long syscall(long number, ...) {
  long a[6];
  va_list arguments;
  va_start(arguments, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(arguments, long);
  va_end(arguments);
  if (unlikely(number == SYS_close)) {
    int before = kvo_put_off_cancellation(); /* a bare system call is no cancellation point; our own code relies on it too */
    long r = close((int)a[0]);
    kvo_allow_cancellation(before);
    return r;
  }
  if (unlikely(number == SYS_io_uring_setup) && kvo_process.table_len) return errno = ENOSYS, -1;
  return NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
