// modes: process
/* A writer that sleeps on a full connection wakes when its reader goes: a short count or EPIPE, and the signal. */
#include "snippet.h"

static volatile sig_atomic_t pipes;
static void on_pipe(int s) { (void)s; pipes++; }

static void server(int fd)
{
    barrier();
    pause_ms(100);
    SHOW(close(fd));
}

static void client(int fd)
{
    size_t n = 16 << 20;
    char *b = malloc(n);
    signal(SIGPIPE, on_pipe);
    fill(b, n, 0);
    barrier();
    long r = write(fd, b, n);                   /* far more than fits */
    say("short %d", r > 0 && r < (long)n);
    r = write(fd, b, n);
    say("%ld %s, a signal %d", r, err_name(errno), pipes > 0);
    close(fd);
    free(b);
}

int main(void) { return sn_run(server, client); }
