/* All that was written before close(), exit or shutdown is read before the end. */
#include "snippet.h"

static void drain(int fd)
{
    static char b[65536];
    uint64_t at = 0;
    long n;
    while ((n = recv(fd, b, 1 + at % sizeof b, 0)) > 0) {
        CHECK(good(b, n, at));
        at += n;
    }
    say("%llu bytes, then %ld %s", (unsigned long long)at, n, n < 0 ? err_name(errno) : "");
}

static void server(int fd)
{
    barrier();
    pause_ms(30);
    show_poll("peer closed, data there", fd, ALL_EVENTS, 0);
    drain(fd);
    show_poll("peer closed", fd, ALL_EVENTS, 0);
    char c;
    SHOW(recv(fd, &c, 1, 0));
    SHOW(send(fd, &c, 1, MSG_NOSIGNAL));
    close(fd);
}

static void client(int fd)
{
    static char b[50000];
    fill(b, sizeof b, 0);
    send_all(fd, b, sizeof b);
    SHOW(close(fd));
    SHOW(close(fd));
    barrier();
}

int main(void) { return sn_run(server, client); }
