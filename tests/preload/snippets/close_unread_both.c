/* The peer wrote, left our data unread, and closed: its bytes first, then ECONNRESET, then the end. SO_ERROR. */
#include "snippet.h"

static void server(int fd)
{
    char b[100];
    SHOW(send(fd, "never read", 10, 0));
    barrier(); barrier();
    show_poll("peer closed over our data, bytes there", fd, ALL_EVENTS, 0);
    SHOW(recv(fd, b, 5, 0));
    SHOW(recv(fd, b, 100, 0));
    SHOW(recv(fd, b, 100, 0));
    SHOW(recv(fd, b, 100, 0));
    show_poll("all read", fd, ALL_EVENTS, 0);
    close(fd);
}

static void client(int fd)
{
    barrier();
    SHOW(send(fd, "my own words", 12, 0));
    SHOW(close(fd));
    barrier();
}

int main(void) { return sn_run(server, client); }
