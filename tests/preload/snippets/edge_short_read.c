// accelerated: 20+
/* A server in nginx's manner: edge-triggered, and a read that brings less than was asked for means that there is no more
 * for now. The client sends in bursts from its first byte on, so the change-over falls into the middle of some burst. */
#include "snippet.h"
#define BURST 10000
#define BURSTS 6
#define CONNECTIONS 40

static void serve(int fd, int number)
{
    static _Thread_local char b[8192];
    int ep = OK(epoll_create1(0)), ended = 0;
    struct epoll_event e = {EPOLLIN | EPOLLRDHUP | EPOLLET, {.fd = fd}}, got;
    uint64_t at = 0;
    OK(fcntl(fd, F_SETFL, O_NONBLOCK));
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    while (!ended) {
        if (epoll_wait(ep, &got, 1, 3000) != 1) {
            say("FAILED: connection %d: no wake-up at %llu", number, (unsigned long long)at);
            break;
        }
        for (;;) {
            long n = recv(fd, b, sizeof b, 0);
            if (n < 0) { if (errno != EAGAIN) say("recv: %s", err_name(errno)); break; }
            if (n == 0) { ended = 1; break; }
            CHECK(good(b, n, at));
            at += n;
            if (at % BURST == 0) send_all(fd, "go", 2);
            if (n < (long)sizeof b && !(got.events & EPOLLRDHUP)) break;
        }
    }
    CHECK(!ended || at == BURST * BURSTS);
    close(fd);
    close(ep);
}

static void *talk(void *unused)
{
    (void)unused;
    sn_role = 1;
    char b[5000];
    for (int c = 0; c < CONNECTIONS; c++) {
        int fd = sn_connect(sn_path());
        uint64_t at = 0;
        unsigned seed = c;
        for (int i = 0; i < BURSTS; i++) {
            uint64_t end = at + BURST;
            while (at < end) {
                size_t n = 1 + rand_r(&seed) % sizeof b;
                if (n > end - at) n = end - at;
                fill(b, n, at);
                send_all(fd, b, n);
                at += n;
                if (rand_r(&seed) % 3 == 0) pause_ms(0), sched_yield();
            }
            if (recv_all(fd, b, 2) != 2) { say("FAILED: connection %d: no answer to burst %d", c, i); break; }
        }
        close(fd);
    }
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
    for (int i = 0; i < CONNECTIONS; i++) serve(OK(accept(listener, NULL, NULL)), i);
    if (pid) waitpid(pid, NULL, 0);
    else pthread_join(t, NULL);
    say("done");
    sn_print_logs();
    return 0;
}
