// accelerated: 1
/* A greeting before the client has said a word, then turns in bulk: each side speaks, the other listens. */
#include "snippet.h"

static void turns(int fd, int mine)
{
    static _Thread_local char b[300000];
    unsigned seed = 9;                                  /* both ends draw the same sizes */
    uint64_t at = 0;
    for (int i = 0; i < 60; i++) {
        size_t n = 1 + rand_r(&seed) % (i % 10 ? 3000 : sizeof b);
        if (i % 2 == mine) {
            fill(b, n, at);
            send_all(fd, b, n);
        } else {
            size_t got = recv_all(fd, b, n);
            if (got != n || !good(b, n, at)) { say("FAILED: turn %d, %zu of %zu", i, got, n); break; }
        }
        at += n;
    }
    say("%llu bytes", (unsigned long long)at);
    barrier();
    close(fd);
}

static void server(int fd) { turns(fd, 0); }
static void client(int fd) { turns(fd, 1); }
int main(void) { return sn_run(server, client); }
