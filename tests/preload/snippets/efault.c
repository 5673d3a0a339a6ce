/* Bad buffers give EFAULT, not a crash. */
#include "snippet.h"

static void server(int fd)
{
    char b[100];
    void *bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SHOW(send(fd, bad, 10, MSG_NOSIGNAL));
    SHOW(write(fd, (void *)1, 10));
    struct iovec v = {bad, 10};
    SHOW(writev(fd, &v, 1));
    barrier(); barrier();                               /* four bytes are there */
    SHOW(recv(fd, bad, 4, 0));
    SHOW(read(fd, (void *)1, 4));
    SHOW(readv(fd, &v, 1));
    SHOW(readv(fd, bad, 1));
    SHOW(recvmsg(fd, bad, 0));
    SHOW(poll(bad, 1, 0));
    SHOW(recv(fd, b, 100, 0));
    CHECK(!memcmp(b, "data", 4));
    barrier();
    close(fd);
}

static void client(int fd)
{
    char b[10];
    barrier();
    OK(send(fd, "data", 4, 0));
    barrier(); barrier();
    SHOW(recv(fd, b, 10, 0));
    close(fd);
}

int main(void) { return sn_run(server, client); }
