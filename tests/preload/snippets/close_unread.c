/* The peer closes with our data unread: ECONNRESET once, then the end. Masks. */
#include "snippet.h"

static void server(int fd)
{
    char b[100];
    SHOW(send(fd, "never read", 10, 0));
    barrier(); barrier();
    show_poll("peer closed over our data", fd, ALL_EVENTS, 0);
    show_poll("again", fd, 0, 0);
    SHOW(recv(fd, b, 100, 0));
    show_poll("after the first recv", fd, ALL_EVENTS, 0);
    SHOW(recv(fd, b, 100, 0));
    SHOW(send(fd, "x", 1, MSG_NOSIGNAL));
    close(fd);
}

static void client(int fd)
{
    barrier();
    SHOW(close(fd));
    barrier();
}

int main(void) { return sn_run(server, client); }
