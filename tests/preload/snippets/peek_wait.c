/* A blocking MSG_PEEK waits for data, takes none of it, and two in a row see the same. WAITALL with PEEK. */
#include "snippet.h"

static void server(int fd)
{
    char b[100];
    SHOW(recv(fd, b, 100, MSG_PEEK)); CHECK(good(b, 4, 0));
    SHOW(recv(fd, b, 100, MSG_PEEK)); CHECK(good(b, 4, 0));
    struct iovec v[2] = {{b, 1}, {b + 1, 99}};
    struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
    SHOW(recvmsg(fd, &m, MSG_PEEK)); CHECK(good(b, 4, 0));
    barrier(); barrier();
    SHOW(recv(fd, b, 8, MSG_PEEK | MSG_WAITALL)); CHECK(good(b, 8, 0));
    SHOW(recv(fd, b, 100, 0)); CHECK(good(b, 9, 0));
    barrier();
    barrier();
    SHOW(recv(fd, b, 8, MSG_PEEK | MSG_WAITALL)); CHECK(good(b, 4, 0));     /* a look does not wait for the rest */
    barrier();
    close(fd);
}

static void client(int fd)
{
    char b[100];
    fill(b, 100, 0);
    pause_ms(30);
    SHOW(send(fd, b, 4, 0));
    barrier();
    SHOW(send(fd, b + 4, 5, 0));
    barrier(); barrier();
    SHOW(send(fd, b, 4, 0));
    barrier(); barrier();
    close(fd);
}

int main(void) { return sn_run(server, client); }
