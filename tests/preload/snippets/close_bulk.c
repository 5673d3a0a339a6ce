/* 8 MB through a slow reader; the writer closes as soon as its last write returns. */
#include "snippet.h"

static void server(int fd)
{
    static char b[65536];
    uint64_t at = 0;
    long n;
    while ((n = recv(fd, b, sizeof b, 0)) > 0) {
        CHECK(good(b, n, at));
        if (at / 1000000 != (at + n) / 1000000) pause_ms(2);
        at += n;
    }
    say("%llu bytes, then %ld", (unsigned long long)at, n);
    close(fd);
}

static void client(int fd)
{
    size_t n = 8 << 20;
    char *b = malloc(n);
    fill(b, n, 0);
    SHOW(write(fd, b, n));
    SHOW(close(fd));
    free(b);
}

int main(void) { return sn_run(server, client); }
