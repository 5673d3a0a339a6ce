// accelerated: 1+
/* A thread sleeps in an epoll set that is empty; another one puts a connection into it, and speaks. What the first one is woken
 * with is what the second one has asked for. So does a set with two descriptors, made before. */
#include "snippet.h"

enum { ROUNDS = 20 };

static void *serve(void *given)
{
    int listener = *(int *)given;
    for (int round = 0; round < ROUNDS; round++) {
        char b[100];
        ssize_t n;
        int fd = OK(accept(listener, NULL, NULL));
        while ((n = OK(recv(fd, b, sizeof b, 0)))) send_all(fd, b, (size_t)n);
        close(fd);
    }
    return NULL;
}

struct sleeper { int ep, fd; _Atomic pid_t tid; int round; };

static void *sleeper(void *given)
{
    struct sleeper *me = given;
    struct epoll_event got;
    char b[8];
    sn_role = 1;
    me->tid = gettid();
    for (int i = 0; i < 10; i++) {
        CHECK(epoll_wait(me->ep, &got, 1, 20000) == 1);
        CHECK(got.events == EPOLLIN && got.data.u64 == 0x1234567890 + (uint64_t)me->round);
        CHECK(recv_all(me->fd, b, 8) == 8 && good(b, 8, (uint64_t)i));
    }
    return NULL;
}

static void round_of(int round)
{
    struct sleeper s = {.ep = OK(epoll_create1(0)), .round = round};
    struct epoll_event e = {EPOLLIN, {.u64 = 0x1234567890 + (uint64_t)round}};
    int other = round % 2 ? OK(dup(s.ep)) : s.ep;
    long slept;
    char b[8];
    pthread_t t;
    pthread_create(&t, NULL, sleeper, &s);
    while (!s.tid || sn_state(getpid(), s.tid, &slept) != 'S') pause_ms(1);
    s.fd = sn_connect(sn_path());
    OK(epoll_ctl(other, EPOLL_CTL_ADD, s.fd, &e));
    for (int i = 0; i < 10; i++) {
        fill(b, 8, (uint64_t)i);
        send_all(s.fd, b, 8);
    }
    pthread_join(t, NULL);
    close(s.fd);
    if (other != s.ep) close(other);
    close(s.ep);
    say("round %d", round);
}

int main(void)
{
    sn_open_logs();
    int listener = sn_listen(sn_path(), 16), status;
    pid_t client = -1;
    pthread_t t;
    if (sn_mode_thread()) pthread_create(&t, NULL, serve, &listener);
    else if ((client = OK(fork()))) serve(&listener);
    if (client <= 0) {
        sn_role = 1;
        for (int round = 0; round < ROUNDS; round++) round_of(round);
    }
    if (!client) exit(0);
    if (client > 0) OK(waitpid(client, &status, 0));
    else pthread_join(t, NULL);
    sn_print_logs();
    return 0;
}
