/* Many, empty and too many io vectors. */
#include "snippet.h"
#include <limits.h>

static char data[70000];
static struct iovec v[1100];

static void slice(int count, size_t each)
{
    for (int i = 0; i < count; i++) v[i] = (struct iovec){data + i * each, each};
}

static void server(int fd)
{
    struct msghdr m = {.msg_iov = v};
    barrier();
    memset(data, 0, sizeof data);
    slice(1024, 61);
    SHOW(readv(fd, v, 1024));
    CHECK(good(data, 1024 * 61, 0));
    barrier(); barrier();
    memset(data, 0, sizeof data);
    slice(1024, 61);
    m.msg_iovlen = 1024;
    SHOW(recvmsg(fd, &m, MSG_WAITALL));
    CHECK(good(data, 1024 * 61, 5));
    barrier(); barrier();
    /* empty vectors between full ones */
    struct iovec w[5] = {{data, 0}, {data, 3}, {NULL, 0}, {data + 3, 4}, {data, 0}};
    SHOW(readv(fd, w, 5));
    CHECK(good(data, 7, 11));
    /* errors */
    SHOW(readv(fd, v, 1025));
    SHOW(readv(fd, v, -1));
    m.msg_iovlen = 1025;
    SHOW(recvmsg(fd, &m, MSG_DONTWAIT));
    struct iovec huge = {data, (size_t)SSIZE_MAX + 1};
    SHOW(readv(fd, &huge, 1));
    SHOW(preadv(fd, w, 1, 0));
    SHOW(pread(fd, data, 1, 0));
    SHOW(lseek(fd, 0, SEEK_CUR));
    barrier();
    SHOW(recv(fd, data, 10, 0));
    close(fd);
}

static void client(int fd)
{
    struct msghdr m = {.msg_iov = v};
    slice(1024, 61);
    fill(data, sizeof data, 0);
    SHOW(writev(fd, v, 1024));
    barrier(); barrier();
    fill(data, sizeof data, 5);
    m.msg_iovlen = 1024;
    SHOW(sendmsg(fd, &m, 0));
    barrier(); barrier();
    fill(data, 7, 11);
    struct iovec w[5] = {{data, 0}, {data, 3}, {NULL, 0}, {data + 3, 4}, {data, 0}};
    SHOW(writev(fd, w, 5));
    SHOW(writev(fd, w, 0));
    SHOW(writev(fd, v, 1025));
    SHOW(writev(fd, v, -1));
    m.msg_iovlen = 1025;
    SHOW(sendmsg(fd, &m, 0));
    struct iovec none[2] = {{data, 0}, {data, 0}};
    SHOW(writev(fd, none, 2));
    SHOW(pwritev(fd, w, 1, 0));
    SHOW(pwrite(fd, data, 1, 0));
    barrier(); barrier();
    close(fd);
}

int main(void) { return sn_run(server, client); }
