/* After a reset, SO_ERROR tells ECONNRESET and clears it. */
#include "snippet.h"

static int so_error(int fd)
{
    int e = -1;
    socklen_t n = sizeof e;
    OK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n));
    return e;
}

static void server(int fd)
{
    char b[100];
    say("SO_ERROR %s", err_name(so_error(fd)));
    SHOW(send(fd, "never read", 10, 0));
    barrier(); barrier();
    say("SO_ERROR %s", err_name(so_error(fd)));
    say("SO_ERROR %s", err_name(so_error(fd)));
    show_poll("cleared", fd, ALL_EVENTS, 0);
    SHOW(recv(fd, b, 100, 0));
    close(fd);
}

static void client(int fd)
{
    barrier();
    close(fd);
    barrier();
}

int main(void) { return sn_run(server, client); }
