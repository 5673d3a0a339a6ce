// flags: -O2 -D_FORTIFY_SOURCE=2
/* The checked variants of libc: __read_chk, __recv_chk, __recvfrom_chk, __poll_chk, __ppoll_chk. */
#include "snippet.h"

static void server(int fd)
{
    char b[64];
    size_t n = sn_warm() ? 10 : 10 + (getpid() == 0);   /* unknown to the compiler, so that the check stays in */
    struct pollfd p[2] = {{fd, POLLIN, 0}, {-1, 0, 0}};
    barrier(); barrier();
    SHOW(poll(p, n / 5, 5000));
    SHOW(ppoll(p, n / 5, NULL, NULL));
    SHOW(read(fd, b, n)); CHECK(good(b, 10, 0));
    SHOW(recv(fd, b, n, 0)); CHECK(good(b, 10, 10));
    SHOW(recvfrom(fd, b, n, 0, NULL, NULL)); CHECK(good(b, 10, 20));
    SHOW(read(fd, b, n));
    close(fd);
}

static void client(int fd)
{
    char b[30];
    barrier();
    fill(b, 30, 0);
    OK(send(fd, b, 30, 0));
    close(fd);
    barrier();
}

int main(void) { return sn_run(server, client); }
