// modes: process
/* A blocked writer and signals: a short count or EINTR without SA_RESTART, all of it with; poll for space: EINTR. */
#include "snippet.h"

static volatile sig_atomic_t alarms;
static void on_alarm(int s) { (void)s; alarms++; }
static void arm(int flags, int ms)
{
    struct sigaction a = {.sa_handler = on_alarm, .sa_flags = flags};
    struct itimerval t = {{0, 0}, {0, ms * 1000}};
    OK(sigaction(SIGALRM, &a, NULL));
    alarms = 0;
    OK(setitimer(ITIMER_REAL, &t, NULL));
}
#define N (12 << 20)

static void server(int fd)
{
    char *b = malloc(1 << 20);
    uint64_t at = 0;
    long n;
    barrier(); barrier();                               /* the first part of the client's is done */
    while ((n = recv(fd, b, 1 << 20, 0)) > 0) {
        CHECK(good(b, n, at));
        at += n;
        pause_ms(1);
    }
    say("then %ld", n);
    close(fd);
    free(b);
}

static void client(int fd)
{
    char *b = malloc(2 * N);
    fill(b, N, 0);
    barrier();
    arm(0, 80);
    long n = send(fd, b, N, 0);
    say("interrupted in the middle: short %d, alarms %d", n > 0 && n < N, (int)alarms);
    uint64_t at = n;
    arm(0, 80);
    while ((n = send(fd, b + at, N - at, MSG_DONTWAIT)) > 0) at += n;   /* really full */
    n = send(fd, b + at, N - at, 0);
    say("%s, alarms %d", n < 0 ? err_name(errno) : "took some", (int)alarms);
    if (n > 0) at += n;
    struct pollfd p = {fd, POLLOUT, 0};
    arm(SA_RESTART, 80);
    SHOW(poll(&p, 1, 5000));
    barrier();
    fill(b, 2 * N, at);
    arm(SA_RESTART, 2);
    n = send(fd, b, N, MSG_NOSIGNAL);
    say("took some %d", n > 0);                         /* a short count even with SA_RESTART, once bytes are in */
    close(fd);
    free(b);
}

int main(void) { return sn_run(server, client); }
