/* The extension module's view of the C library: the functions themselves. (Under the preload library these are the
 * interposed ones; the extension then leaves the connection to them, see _core.pyx.) */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "runtime.h"

struct kvo_next kvo_next = {
    .read = read,
    .write = write,
    .readv = readv,
    .writev = writev,
    .recv = recv,
    .send = send,
    .recvmsg = recvmsg,
    .sendmsg = sendmsg,
    .socket = socket,
    .bind = bind,
    .connect = connect,
    .accept4 = accept4,
    .getsockname = getsockname,
    .getpeername = getpeername,
    .getsockopt = getsockopt,
    .setsockopt = setsockopt,
    .shutdown = shutdown,
    .close = close,
    .dup3 = dup3,
    .fcntl = fcntl,
    .ioctl = ioctl,
    .poll = poll,
    .ppoll = ppoll,
    .epoll_ctl = epoll_ctl,
    .epoll_pwait = epoll_pwait,
};
