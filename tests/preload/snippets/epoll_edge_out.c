/* EPOLLET with EPOLLOUT as event loops use it: write until EAGAIN, sleep, be woken, 6 MB long, both directions. */
#include "snippet.h"
#define GOAL (6 << 20)

static void both_ways(int fd)
{
    int ep = OK(epoll_create1(0));
    struct epoll_event e = {EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {.fd = fd}};
    static _Thread_local char b[30011];
    uint64_t in = 0, out = 0;
    int ended = 0;
    OK(fcntl(fd, F_SETFL, O_NONBLOCK));
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    while (!ended || out < GOAL) {
        int r = epoll_wait(ep, &e, 1, 10000);
        if (r != 1) { say("FAILED: epoll_wait -> %d at in %llu out %llu", r, (unsigned long long)in, (unsigned long long)out); break; }
        long n = -1;
        while (out < GOAL) {
            size_t want = GOAL - out < sizeof b ? GOAL - out : sizeof b;
            fill(b, want, out);
            if ((n = send(fd, b, want, MSG_NOSIGNAL)) < 0) break;
            out += n;
            if (out == GOAL) OK(shutdown(fd, SHUT_WR));
        }
        if (n < 0 && out < GOAL && errno != EAGAIN) { say("send: %s", err_name(errno)); break; }
        while (!ended && (n = recv(fd, b, sizeof b, 0)) >= 0) {
            CHECK(good(b, n, in));
            in += n;
            ended = n == 0;
        }
        if (!ended && errno != EAGAIN) { say("recv: %s", err_name(errno)); break; }
    }
    say("in %llu out %llu", (unsigned long long)in, (unsigned long long)out);
    barrier();
    close(fd);
    close(ep);
}

int main(void) { return sn_run(both_ways, both_ways); }
