// accelerated: 1+
/* A socket that is put into an edge-triggered set before it is connected, and a reader that goes by FIONREAD: it reads as many
 * bytes as that says and no more, then waits for the next edge. As nginx reads from its upstreams. */
#include "snippet.h"
#include <sys/ioctl.h>

enum { BYTES = 3000000, ROUNDS = 6 };

static void *serve(void *given)
{
    int listener = *(int *)given;
    static char b[100000];
    for (int round = 0; round < ROUNDS; round++) {
        int fd = OK(accept(listener, NULL, NULL));
        CHECK(recv_all(fd, b, 10) == 10);
        for (size_t at = 0, n; at < BYTES; at += n) {
            n = BYTES - at < sizeof b ? BYTES - at : sizeof b;
            fill(b, n, at);
            send_all(fd, b, n);
        }
        close(fd);
    }
    return NULL;
}

static void fetch(int ep, int round)
{
    struct sockaddr_un a;
    struct epoll_event e = {EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {.u64 = (uint64_t)round}}, got;
    int fd = OK(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)), waiting, ended = 0, sent = 0;
    static char b[100000];
    size_t at = 0;
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    socklen_t n = sn_address(&a, sn_path());
    OK(connect(fd, (void *)&a, n));
    while (!ended) {
        CHECK(epoll_wait(ep, &got, 1, 20000) == 1 && got.data.u64 == (uint64_t)round);
        if (!sent && got.events & EPOLLOUT) sent = OK(send(fd, "0123456789", 10, 0));
        if (!(got.events & EPOLLIN)) continue;
        do {
            OK(ioctl(fd, FIONREAD, &waiting));
            ssize_t k = recv(fd, b, waiting < 1 ? 1 : waiting > 4096 ? 4096 : waiting, 0);
            if (k < 0) { CHECK(errno == EAGAIN); break; }
            CHECK(good(b, (size_t)k, at));
            at += (size_t)k;
            ended = k == 0;
        } while (!ended && (waiting > 4096 || got.events & EPOLLRDHUP));
    }
    say("round %d: %zu bytes", round, at);
    close(fd);
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
        int ep = OK(epoll_create1(0));
        for (int round = 0; round < ROUNDS; round++) fetch(ep, round);
        close(ep);
    }
    if (!client) exit(0);
    if (client > 0) OK(waitpid(client, &status, 0));
    else pthread_join(t, NULL);
    sn_print_logs();
    return 0;
}
