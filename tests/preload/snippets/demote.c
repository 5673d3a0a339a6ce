// accelerated: any
/* Both ends send and receive at once; at some point one of them, or both, or a forked child of one, asks for what only the
 * kernel has, so the connection leaves the rings in the midst of the stream. No byte is lost, doubled or out of place. */
#include "snippet.h"

enum { ROUNDS = 24, BYTES = 400000 };

struct job { int fd, who, round; };

static unsigned step(unsigned *seed) { return (*seed = *seed * 1103515245 + 12345) >> 8; }

static void *sender(void *given)
{
    struct job *j = given;
    static _Thread_local char b[40000];
    unsigned seed = (unsigned)(j->round * 2 + j->who);
    size_t at = 0, leave = j->round % 3 == 2 || j->round % 2 == j->who ? step(&seed) % BYTES : BYTES * 2;
    while (at < BYTES) {
        size_t n = 1 + step(&seed) % (j->round % 4 ? 900 : sizeof b - 1);
        if (n > BYTES - at) n = BYTES - at;
        if (at <= leave && leave < at + n) OK(fcntl(j->fd, F_SETFL, O_ASYNC));
        fill(b, n, at);
        CHECK(send(j->fd, b, n, 0) == (ssize_t)n);
        at += n;
    }
    OK(shutdown(j->fd, SHUT_WR));
    return NULL;
}

static void both(int fd, int who, int round)
{
    struct job j = {fd, who, round};
    pthread_t t;
    char b[5000];
    size_t at = 0;
    ssize_t n;
    unsigned seed = (unsigned)(round * 7 + who);
    pthread_create(&t, NULL, sender, &j);
    while ((n = recv(fd, b, 1 + step(&seed) % (sizeof b - 1), round % 5 == 4 ? MSG_WAITALL : 0)) > 0) {
        CHECK(good(b, (size_t)n, at));
        at += (size_t)n;
    }
    say("round %d: %zu bytes, end %zd", round, at, n);
    pthread_join(t, NULL);
    close(fd);
}

int main(void)
{
    sn_open_logs();
    int listener = sn_listen(sn_path(), 16), status;
    pid_t client = OK(fork());
    for (int round = 0; round < ROUNDS; round++) {
        int fd;
        if (!client) {
            sn_role = 1;
            fd = sn_connect(sn_path());
        } else {
            fd = OK(accept(listener, NULL, NULL));
        }
        if (round % 2) warm_up(fd, client != 0);
        both(fd, client != 0, round);
    }
    if (!client) exit(0);
    OK(waitpid(client, &status, 0));
    sn_print_logs();
    return 0;
}
