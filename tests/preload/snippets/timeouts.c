/* SO_RCVTIMEO and SO_SNDTIMEO: EAGAIN, not earlier than asked; values read back. */
#include "snippet.h"

static void set(int fd, int what, int ms)
{
    struct timeval t = {ms / 1000, ms % 1000 * 1000};
    OK(setsockopt(fd, SOL_SOCKET, what, &t, sizeof t));
}

static void server(int fd)
{
    char b[100];
    struct timeval t = {9, 9};
    socklen_t n = sizeof t;
    set(fd, SO_RCVTIMEO, 120);
    OK(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, &n));
    say("timeout rounds to about 120 ms: %d", t.tv_sec == 0 && t.tv_usec >= 119000 && t.tv_usec <= 130000);
    double start = now();
    SHOW(recv(fd, b, 100, 0));
    say("waited: %d", now() - start >= 0.11);
    start = now();
    SHOW(read(fd, b, 100));
    SHOW(recv(fd, b, 100, MSG_PEEK));
    say("waited: %d", now() - start >= 0.22);
    barrier();
    SHOW(recv(fd, b, 20, MSG_WAITALL));         /* only 7 come */
    CHECK(good(b, 7, 0));
    SHOW(recv(fd, b, 20, 0));
    barrier(); barrier();
    set(fd, SO_RCVTIMEO, 0);
    SHOW(recv(fd, b, 20, 0));                   /* waits for ever again: comes after 200 ms */
    barrier();                                  /* do not read: the client fills up */
    for (int i = 0; i < 30; i++) {              /* what comes the other way gives no room */
        SHOW(send(fd, b, 1, 0));
        pause_ms(10);
    }
    barrier();
    close(fd);
}

static void client(int fd)
{
    static char b[100000];
    barrier();
    fill(b, 7, 0);
    SHOW(send(fd, b, 7, 0));
    barrier(); barrier();
    pause_ms(200);
    SHOW(send(fd, b, 3, 0));
    barrier();
    set(fd, SO_SNDTIMEO, 100);
    double start = now();
    long n;
    uint64_t total = 0;
    while ((n = send(fd, b, sizeof b, 0)) > 0) total += n;
    say("send -> %ld %s, took some first %d, waited %d", n, err_name(errno), total > 0, now() - start >= 0.09);
    OK(shutdown(fd, SHUT_RD));
    start = now();
    SHOW(send(fd, b, 1, 0));
    say("waited %d", now() - start >= 0.09);
    barrier();
    close(fd);
}

int main(void) { return sn_run(server, client); }
