/* MSG_PEEK, MSG_WAITALL, MSG_DONTWAIT, MSG_TRUNC, MSG_NOSIGNAL, zero lengths. */
#include "snippet.h"

static void server(int fd)
{
    char b[200] = "";
    SHOW(recv(fd, b, 10, MSG_DONTWAIT));
    SHOW(recv(fd, b, 0, MSG_DONTWAIT));
    barrier(); barrier();                                   /* "hello world" is there */
    SHOW(recv(fd, b, 5, MSG_PEEK));        say("%.5s", b);
    SHOW(recv(fd, b, 200, MSG_PEEK));      say("%.11s", b);
    SHOW(recv(fd, b, 0, 0));
    SHOW(read(fd, b, 0));
    SHOW(recv(fd, b, 2, MSG_PEEK | MSG_DONTWAIT)); say("%.2s", b);
    SHOW(recv(fd, b, 2, 0));               say("%.2s", b);
    SHOW(recv(fd, b, 3, MSG_TRUNC));       say("%.3s", b);
    SHOW(recv(fd, b, 3, MSG_PEEK | MSG_TRUNC)); say("%.3s", b);
    struct iovec v = {b, 2};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_flags = -1};
    SHOW(recvmsg(fd, &m, MSG_TRUNC));      say("flags %#x %.2s", m.msg_flags, b);
    SHOW(recvmsg(fd, &m, 0));              say("flags %#x %.2s", m.msg_flags, b);
    v.iov_len = 100;
    SHOW(recvmsg(fd, &m, MSG_PEEK));       say("flags %#x %.2s", m.msg_flags, b);
    SHOW(recv(fd, b, 100, MSG_DONTWAIT));
    SHOW(recv(fd, b, 100, MSG_DONTWAIT));
    SHOW(recv(fd, b, 100, MSG_DONTWAIT | MSG_PEEK));
    barrier();
    /* WAITALL: three pieces come with pauses in between */
    SHOW(recv(fd, b, 30, MSG_WAITALL));    CHECK(good(b, 30, 0));
    SHOW(recv(fd, b, 30, MSG_WAITALL));    CHECK(good(b, 12, 30));   /* the end comes first */
    SHOW(recv(fd, b, 30, MSG_WAITALL));
    SHOW(recv(fd, b, 30, MSG_PEEK));
    SHOW(send(fd, "back", 4, MSG_NOSIGNAL));
    barrier();
    close(fd);
}

static void client(int fd)
{
    char b[100];
    barrier();
    SHOW(send(fd, "hello", 5, MSG_DONTWAIT));
    SHOW(send(fd, "", 0, 0));
    SHOW(write(fd, "", 0));
    SHOW(send(fd, " world", 6, MSG_MORE));
    barrier(); barrier();
    fill(b, 42, 0);
    SHOW(send(fd, b, 10, 0)); pause_ms(20);
    SHOW(send(fd, b + 10, 10, MSG_NOSIGNAL)); pause_ms(20);
    SHOW(send(fd, b + 20, 10, 0)); pause_ms(20);
    SHOW(send(fd, b + 30, 12, 0)); pause_ms(20);
    SHOW(shutdown(fd, SHUT_WR));
    barrier();
    SHOW(recv(fd, b, 100, MSG_WAITALL));
    close(fd);
}

int main(void) { return sn_run(server, client); }
