/* Four threads write 64-byte records to one connection, four threads read it: no record is lost, doubled or torn. */
#include "snippet.h"
#define EACH 5000

struct record { uint32_t writer, number; uint64_t words[7]; };
static int shared[2];
static unsigned char seen[4][EACH];
static int torn, twice;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *writer(void *who)
{
    sn_role = 1;
    for (uint32_t i = 0; i < EACH; i++) {
        struct record r = {(intptr_t)who, i, {0}};
        for (int k = 0; k < 7; k++) r.words[k] = r.writer * 1000003ull + i * 31ull + k;
        if (send(shared[1], &r, sizeof r, MSG_NOSIGNAL) != sizeof r) { say("FAILED: short send"); break; }
    }
    return NULL;
}

static void *reader(void *unused)
{
    (void)unused;
    struct record r;
    sn_role = 0;
    for (;;) {
        pthread_mutex_lock(&lock);              /* records come in order to whoever reads; the calls need no lock */
        long n = recv(shared[0], &r, sizeof r, MSG_WAITALL);
        pthread_mutex_unlock(&lock);
        if (n != sizeof r) return NULL;
        for (int k = 0; k < 7; k++)
            if (r.writer > 3 || r.words[k] != r.writer * 1000003ull + r.number * 31ull + k) { __sync_fetch_and_add(&torn, 1); break; }
        if (r.writer < 4 && r.number < EACH && __sync_fetch_and_add(&seen[r.writer][r.number], 1) > 0) __sync_fetch_and_add(&twice, 1);
    }
}

static void run4(void *(*f)(void *))
{
    pthread_t t[4];
    for (intptr_t i = 0; i < 4; i++) OK(pthread_create(t + i, NULL, f, (void *)i));
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
}

static void server(int fd)
{
    shared[0] = fd;
    run4(reader);
    int missing = 0;
    for (int w = 0; w < 4; w++)
        for (int i = 0; i < EACH; i++) missing += !seen[w][i];
    say("missing %d twice %d torn %d", missing, twice, torn);
    close(fd);
}

static void client(int fd)
{
    shared[1] = fd;
    run4(writer);
    close(fd);
}

int main(void) { return sn_run(server, client); }
