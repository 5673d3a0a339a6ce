/* SHUT_RD: what was there can be read, then the end; the peer's writer gets EPIPE. And SHUT_RDWR, and bad hows. */
#include "snippet.h"

static void server(int fd)
{
    char b[100];
    barrier(); barrier();
    SHOW(shutdown(fd, SHUT_RD));
    show_poll("shut RD, data there", fd, ALL_EVENTS, 0);
    SHOW(recv(fd, b, 100, 0));
    SHOW(recv(fd, b, 100, 0));
    show_poll("shut RD", fd, ALL_EVENTS, 0);
    barrier(); barrier();
    SHOW(send(fd, "onwards", 7, MSG_NOSIGNAL));
    barrier(); barrier();
    SHOW(shutdown(fd, SHUT_RDWR));
    SHOW(send(fd, "x", 1, MSG_NOSIGNAL));
    SHOW(recv(fd, b, 100, 0));
    show_poll("shut RDWR", fd, ALL_EVENTS, 0);
    SHOW(shutdown(fd, 7));
    SHOW(shutdown(fd, -1));
    barrier(); barrier();
    close(fd);
    SHOW(shutdown(fd, SHUT_RD));
}

static void client(int fd)
{
    char b[100];
    barrier();
    SHOW(send(fd, "before", 6, 0));
    barrier(); barrier();
    show_poll("peer shut RD", fd, ALL_EVENTS, 0);
    SHOW(send(fd, "after", 5, MSG_NOSIGNAL));
    SHOW(recv(fd, b, 100, MSG_DONTWAIT));
    barrier(); barrier();
    SHOW(recv(fd, b, 100, 0));
    show_poll("peer shut RD", fd, ALL_EVENTS, 0);
    barrier(); barrier();
    show_poll("peer shut RDWR", fd, ALL_EVENTS, 0);
    SHOW(recv(fd, b, 100, 0));
    SHOW(send(fd, "x", 1, MSG_NOSIGNAL));
    barrier();
    close(fd);
}

int main(void) { return sn_run(server, client); }
