/* One thread writes while another reads the same descriptor, 24 MB each way, chunks of all sizes. */
#include "snippet.h"
#define GOAL (24 << 20)

static int duplex_fd[2];
static void *write_all(void *role)
{
    int me = (int)(intptr_t)role;
    sn_role = me;
    unsigned seed = 3 + me;
    char *b = malloc(200000);
    for (uint64_t at = 0; at < GOAL;) {
        size_t want = 1 + rand_r(&seed) % (rand_r(&seed) % 4 ? 5000 : 200000);
        if (want > GOAL - at) want = GOAL - at;
        fill(b, want, at);
        long n = send(duplex_fd[me], b, want, MSG_NOSIGNAL);
        if (n != (long)want) { say("FAILED: a blocking send of %zu took %ld", want, n); break; }
        at += n;
    }
    free(b);
    return NULL;
}

static void both(int fd)
{
    pthread_t t;
    int me = sn_role;
    duplex_fd[me] = fd;
    OK(pthread_create(&t, NULL, write_all, (void *)(intptr_t)me));
    unsigned seed = 11 + me;
    char *b = malloc(100000);
    uint64_t at = 0;
    while (at < GOAL) {
        long n = recv(fd, b, 1 + rand_r(&seed) % 100000, 0);
        if (n <= 0) { say("FAILED: recv -> %ld %s at %llu", n, err_name(errno), (unsigned long long)at); break; }
        CHECK(good(b, n, at));
        at += n;
    }
    pthread_join(t, NULL);
    say("%llu bytes", (unsigned long long)at);
    barrier();
    close(fd);
    free(b);
}

int main(void) { return sn_run(both, both); }
