// accelerated: 0
/* Everything else stays as it was: datagrams, sequenced packets, socketpair, loopback TCP, pipes, files, bad numbers. */
#include "snippet.h"
#include <netinet/in.h>

static void pair(int type)
{
    int p[2];
    char b[100];
    OK(socketpair(AF_UNIX, type, 0, p));
    for (int i = 0; i < 60; i++) {
        OK(send(p[0], "one", 3, 0));
        OK(send(p[0], "two", 3, 0));
        long first = recv(p[1], b, 100, 0);
        if (first < 6) first += 10 * recv(p[1], b, 100, 0);
        if (i == 59) say("socketpair type %d: %ld", type, first);
    }
    SHOW(shutdown(p[0], SHUT_WR));
    if (type != SOCK_DGRAM) SHOW(recv(p[1], b, 100, 0));
    close(p[0]);
    SHOW(send(p[1], b, 1, MSG_NOSIGNAL));
    close(p[1]);
}

static void packets(int type)
{
    struct sockaddr_un a;
    socklen_t n = sn_address(&a, sn_path());
    char b[100];
    int l = OK(socket(AF_UNIX, type, 0)), s = l, c;
    OK(bind(l, (struct sockaddr *)&a, n));
    if (type == SOCK_SEQPACKET) OK(listen(l, 2));
    c = OK(socket(AF_UNIX, type, 0));
    OK(connect(c, (struct sockaddr *)&a, n));
    if (type == SOCK_SEQPACKET) s = OK(accept(l, NULL, NULL));
    for (int i = 0; i < 60; i++) {
        OK(send(c, "one", 3, 0));
        OK(send(c, "three", 5, 0));
        CHECK(recv(s, b, 100, 0) == 3);
        CHECK(recv(s, b, 100, 0) == 5);
    }
    n = sizeof a;
    OK(getsockname(c, (struct sockaddr *)&a, &n));
    say("type %d: client's name has %d bytes", type, (int)n);
    close(c);
    if (s != l) close(s);
    close(l);
    unlink(sn_path());
}

int main(void)
{
    char b[100];
    int p[2];
    sn_open_logs();
    pair(SOCK_STREAM);
    pair(SOCK_DGRAM);
    pair(SOCK_SEQPACKET);
    packets(SOCK_DGRAM);
    packets(SOCK_SEQPACKET);
    struct sockaddr_in in = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {0}};
    socklen_t n = sizeof in;
    int l = OK(socket(AF_INET, SOCK_STREAM, 0)), c = OK(socket(AF_INET, SOCK_STREAM, 0));
    OK(bind(l, (struct sockaddr *)&in, sizeof in));
    OK(listen(l, 1));
    OK(getsockname(l, (struct sockaddr *)&in, &n));
    OK(connect(c, (struct sockaddr *)&in, n));
    int s = OK(accept(l, NULL, NULL));
    for (int i = 0; i < 60; i++) {
        OK(send(c, "tcp", 3, 0));
        CHECK(recv(s, b, 100, 0) == 3);
    }
    close(c);
    SHOW(recv(s, b, 100, 0));
    close(s);
    close(l);
    OK(pipe(p));
    SHOW(send(p[1], "x", 1, 0));
    SHOW(write(p[1], "pipe", 4));
    SHOW(read(p[0], b, 100));
    SHOW(write(-1, b, 1));
    SHOW(write(1 << 28, b, 1));
    SHOW(read(-100, b, 1));
    SHOW(recv(-101, b, 1, 0));
    SHOW(close(-100));
    SHOW(close(1 << 28));
    SHOW(fcntl(1 << 28, F_GETFL));
    SHOW(send(-100, b, 1, 0));
    SHOW(socket(99, SOCK_STREAM, 0));
    struct pollfd q = {1 << 28, POLLIN, 0};
    SHOW(poll(&q, 1, 0));
    say("%s", mask_name(q.revents));
    l = sn_listen(sn_path(), 1);
    SHOW(recv(l, b, 1, 0));
    SHOW(send(l, b, 1, MSG_NOSIGNAL));
    show_poll("listener", l, ALL_EVENTS, 0);
    SHOW(ioctl(l, FIONREAD, &c));
    close(l);
    sn_print_logs();
    return 0;
}
