/* Connections that become ready one after the other, while nobody waits for them, are told of in that order. */
// modes: thread
// accelerated: 3
#include "snippet.h"
#define N 3

int main(void)
{
    int end[2][N], ep;
    struct epoll_event e = {EPOLLIN, {0}}, got[8];
    char b[8];
    sn_open_logs();
    int listener = sn_listen(sn_path(), N);
    ep = OK(epoll_create1(0));
    for (int k = 0; k < N; k++) {
        end[1][k] = sn_connect(sn_path());
        end[0][k] = OK(accept(listener, NULL, NULL));
        for (int i = 0; i < 50; i++) {
            send_all(end[1][k], "question", 8);
            recv_all(end[0][k], b, 8);
            send_all(end[0][k], "answer..", 8);
            recv_all(end[1][k], b, 8);
        }
        e.data.u32 = k;
        OK(epoll_ctl(ep, EPOLL_CTL_ADD, end[0][k], &e));
    }
    static const int order[][N] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {2, 0, 1}};
    for (unsigned round = 0; round < sizeof order / sizeof *order; round++) {
        for (int k = 0; k < N; k++) send_all(end[1][order[round][k]], "x", 1);
        CHECK(epoll_wait(ep, got, 8, 0) == N);
        say("written %d %d %d, told %u %u %u", order[round][0], order[round][1], order[round][2], got[0].data.u32,
            got[1].data.u32, got[2].data.u32);
        for (int k = 0; k < N; k++) recv_all(end[0][k], b, 1);
        SHOW(epoll_wait(ep, got, 8, 0));
    }
    for (int k = 0; k < N; k++) close(end[0][k]), close(end[1][k]);
    sn_print_logs();
    return 0;
}
