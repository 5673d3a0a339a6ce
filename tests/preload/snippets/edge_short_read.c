/* A server in nginx's manner: edge-triggered, and a read that brings less than was asked for means that there is no more
 * for now. The client sends in bursts from its first byte on, so the change-over falls into the middle of some burst. */
#include "snippet.h"
#define TOTAL 400000
#define BURSTS 40

static void server(int fd)
{
    static _Thread_local char b[8192];
    int ep = OK(epoll_create1(0));
    struct epoll_event e = {EPOLLIN | EPOLLRDHUP | EPOLLET, {.fd = fd}}, got;
    uint64_t at = 0;
    OK(fcntl(fd, F_SETFL, O_NONBLOCK));
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    for (int ended = 0; !ended;) {
        if (epoll_wait(ep, &got, 1, 5000) != 1) { say("FAILED: no wake-up at %llu", (unsigned long long)at); break; }
        for (;;) {
            long n = recv(fd, b, sizeof b, 0);
            if (n < 0) { if (errno != EAGAIN) say("recv: %s", err_name(errno)); break; }
            if (n == 0) { ended = 1; break; }
            CHECK(good(b, n, at));
            at += n;
            if (at % (TOTAL / BURSTS) == 0) send_all(fd, "go", 2);
            if (n < (long)sizeof b && !(got.events & EPOLLRDHUP)) break;
        }
    }
    say("%llu bytes", (unsigned long long)at);
    barrier();
    close(fd);
    close(ep);
}

static void client(int fd)
{
    char b[5000];
    uint64_t at = 0;
    unsigned seed = 3;
    for (int i = 0; i < BURSTS; i++) {
        uint64_t end = at + TOTAL / BURSTS;
        while (at < end) {
            size_t n = 1 + rand_r(&seed) % sizeof b;
            if (n > end - at) n = end - at;
            fill(b, n, at);
            send_all(fd, b, n);
            at += n;
        }
        if (recv_all(fd, b, 2) != 2) { say("FAILED: no answer to burst %d", i); break; }
    }
    close(fd);
    barrier();
}

int main(void) { return sn_run(server, client); }
