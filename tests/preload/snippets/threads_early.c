// accelerated: 12+
/* Both ends write by one thread and read by another from the very first byte on, so that the connection changes over to
 * the rings while a write is in progress. Two dozen connections, one after another, 3 MB each way. */
#include "snippet.h"
#define GOAL (3 << 20)
#define CONNECTIONS 24

struct end { int fd, role; unsigned seed; };

static size_t draw(unsigned *seed)
{
    unsigned kind = rand_r(seed) % 8;
    return 1 + rand_r(seed) % (kind < 4 ? 64 : kind < 7 ? 9000 : 300000);
}

static void *write_all(void *arg)
{
    struct end *e = arg;
    sn_role = e->role;
    char *b = malloc(300001);
    for (uint64_t at = 0; at < GOAL;) {
        size_t want = draw(&e->seed);
        if (want > GOAL - at) want = GOAL - at;
        fill(b, want, at);
        long n = send(e->fd, b, want, MSG_NOSIGNAL);
        if (n != (long)want) { say("FAILED: a blocking send of %zu took %ld", want, n); break; }
        at += n;
    }
    free(b);
    return NULL;
}

static void both(int fd, int number)
{
    pthread_t t;
    struct end e = {fd, sn_role, number * 2 + sn_role + 1};
    unsigned seed = number * 3 + sn_role + 5;
    OK(pthread_create(&t, NULL, write_all, &e));
    char *b = malloc(300001);
    uint64_t at = 0;
    while (at < GOAL) {
        long n = recv(fd, b, draw(&seed), 0);
        if (n <= 0) { say("FAILED: connection %d: recv -> %ld %s at %llu", number, n, err_name(errno), (unsigned long long)at); break; }
        if (!good(b, n, at)) {
            long i = 0;
            while ((unsigned char)b[i] == pattern(at + i)) i++;
            say("FAILED: connection %d: wrong byte at %llu, in a recv of %ld bytes", number, (unsigned long long)(at + i), n);
            shutdown(fd, SHUT_RDWR);
            break;
        }
        at += n;
    }
    pthread_join(t, NULL);
    free(b);
    close(fd);
}

static void *talk(void *unused)
{
    (void)unused;
    sn_role = 1;
    for (int i = 0; i < CONNECTIONS; i++) both(sn_connect(sn_path()), i);
    return NULL;
}

int main(void)
{
    pthread_t t;
    pid_t pid = 0;
    sn_open_logs();
    signal(SIGPIPE, SIG_IGN);
    int listener = sn_listen(sn_path(), 16);
    if (sn_mode_thread()) pthread_create(&t, NULL, talk, NULL);
    else if (!(pid = fork())) { talk(NULL); exit(0); }
    for (int i = 0; i < CONNECTIONS; i++) both(OK(accept(listener, NULL, NULL)), i);
    if (pid) waitpid(pid, NULL, 0);
    else pthread_join(t, NULL);
    say("done");
    sn_print_logs();
    return 0;
}
