/* Half close: data, then the end, while the other direction goes on. Masks at both ends. */
#include "snippet.h"

static void server(int fd)
{
    char b[100];
    show_poll("quiet", fd, ALL_EVENTS, 0);
    barrier(); barrier();
    show_poll("client shut WR, data there", fd, ALL_EVENTS, 0);
    show_poll("only RDHUP asked", fd, POLLRDHUP, 0);
    show_poll("nothing asked", fd, 0, 0);
    SHOW(recv(fd, b, 100, 0));
    show_poll("read all", fd, ALL_EVENTS, 0);
    SHOW(recv(fd, b, 100, 0));
    SHOW(recv(fd, b, 100, MSG_DONTWAIT));
    SHOW(send(fd, "still", 5, 0));
    barrier(); barrier();
    SHOW(send(fd, "more", 4, 0));
    SHOW(shutdown(fd, SHUT_WR));
    show_poll("both shut", fd, ALL_EVENTS, 0);
    show_poll("both shut, nothing asked", fd, 0, 0);
    barrier(); barrier();
    show_poll("peer closed", fd, ALL_EVENTS, 0);
    SHOW(shutdown(fd, SHUT_RDWR));
    close(fd);
}

static void client(int fd)
{
    char b[100];
    barrier();
    SHOW(send(fd, "last words", 10, 0));
    SHOW(shutdown(fd, SHUT_WR));
    show_poll("shut WR", fd, ALL_EVENTS, 0);
    SHOW(send(fd, "x", 1, MSG_NOSIGNAL));
    SHOW(shutdown(fd, SHUT_WR));
    barrier(); barrier();
    show_poll("answer there", fd, ALL_EVENTS, 0);
    SHOW(recv(fd, b, 100, 0));
    SHOW(recv(fd, b, 100, MSG_DONTWAIT));
    barrier(); barrier();
    show_poll("peer shut too", fd, ALL_EVENTS, 0);
    SHOW(recv(fd, b, 100, 0));
    SHOW(recv(fd, b, 100, 0));
    show_poll("all over", fd, ALL_EVENTS, 0);
    close(fd);
    barrier();
}

int main(void) { return sn_run(server, client); }
