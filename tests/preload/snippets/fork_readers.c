// modes: process
/* Parent and child read the same connection: each record goes to exactly one of them, whole. */
#include "snippet.h"
#define RECORDS 4000

static int read_records(int fd, uint64_t *sum)
{
    int n = 0;
    struct { uint64_t number, check; } r;
    while (recv(fd, &r, sizeof r, MSG_WAITALL) == sizeof r) {
        if (r.check != r.number * 31 + 7) { say("FAILED: torn record"); break; }
        *sum += r.number;
        n++;
    }
    return n;
}

static void server(int fd)
{
    uint64_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = OK(fork());
    uint64_t sum = 0;
    int n = read_records(fd, &sum);
    if (!child) {
        shared[0] = n;
        shared[1] = sum;
        _exit(0);
    }
    int status;
    OK(waitpid(child, &status, 0));
    say("records %d sum %llu child %#x", n + (int)shared[0], (unsigned long long)(sum + shared[1]), status);
    close(fd);
}

static void client(int fd)
{
    for (uint64_t i = 0; i < RECORDS; i++) {
        struct { uint64_t number, check; } r = {i, i * 31 + 7};
        OK(send(fd, &r, sizeof r, 0));
        if (i % 500 == 0) pause_ms(1);
    }
    close(fd);
}

int main(void) { return sn_run(server, client); }
