/* Several threads block in recv() on one connection without a lock: every byte goes to exactly one of them. */
#include "snippet.h"
#define TOTAL 200000

static int shared;
static long counted[256];

static void *reader(void *unused)
{
    (void)unused;
    sn_role = 0;
    unsigned char b[700];
    long n;
    while ((n = recv(shared, b, sizeof b, 0)) > 0)
        for (long i = 0; i < n; i++) __sync_fetch_and_add(&counted[b[i]], 1);
    if (n < 0) say("recv: %s", err_name(errno));
    return NULL;
}

static void server(int fd)
{
    pthread_t t[4];
    shared = fd;
    for (int i = 0; i < 4; i++) OK(pthread_create(t + i, NULL, reader, NULL));
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    long sum = 0, weighted = 0;
    for (int i = 0; i < 256; i++) { sum += counted[i]; weighted += counted[i] * (i + 1); }
    say("%ld bytes, weight %ld", sum, weighted);
    close(fd);
}

static void client(int fd)
{
    unsigned char b[1000];
    unsigned seed = 5;
    for (long at = 0; at < TOTAL;) {
        size_t n = 1 + rand_r(&seed) % 1000;
        if (n > TOTAL - at) n = TOTAL - at;
        fill(b, n, at);
        send_all(fd, b, n);
        at += n;
        if (rand_r(&seed) % 50 == 0) pause_ms(1);
    }
    close(fd);
}

int main(void) { return sn_run(server, client); }
