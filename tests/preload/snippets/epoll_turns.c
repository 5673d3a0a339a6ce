/* Several ready descriptors in one level-triggered set: each gets its turn, also where a wait has room for one event
 * only; what became ready first is told first; and a wait of no time tells of all at once. */
// modes: thread
// accelerated: 3
#include "snippet.h"
#define N 3

static int end[2][N];   /* [0]: accepted, [1]: connected */

static void warm(int n)
{
    char b[8];
    for (int i = 0; i < 30; i++) {
        for (int k = 0; k < n; k++) {
            send_all(end[1][k], "question", 8);
            recv_all(end[0][k], b, 8);
            send_all(end[0][k], "answer..", 8);
            recv_all(end[1][k], b, 8);
        }
    }
}

/* Which of the numbers below `count` come within `waits` waits, with `room` for events in each. */
static void show_turns(const char *what, int ep, int count, int room, int waits)
{
    struct epoll_event e[8];
    int seen[8] = {0}, all = 0;
    for (int i = 0; i < waits; i++) {
        int n = epoll_wait(ep, e, room, 0);
        CHECK(n >= 1 && n <= room);
        for (int k = 0; k < n; k++) seen[e[k].data.u32]++;
    }
    for (int k = 0; k < count; k++) all += seen[k] > 0;
    say("%s: %d of %d were told of", what, all, count);
}

int main(void)
{
    sn_open_logs();
    int listener = sn_listen(sn_path(), 8), ep = OK(epoll_create1(0)), pipes[2];
    struct epoll_event e = {EPOLLIN, {0}}, got[8];
    for (int k = 0; k < N; k++) {
        end[1][k] = sn_connect(sn_path());
        end[0][k] = OK(accept(listener, NULL, NULL));
    }
    int early = OK(epoll_create1(0));                   /* holds them before they switch */
    for (int k = 0; k < N; k++) {
        e.data.u64 = k;
        OK(epoll_ctl(early, EPOLL_CTL_ADD, end[0][k], &e));
    }
    warm(N);
    SHOW(epoll_wait(early, got, 8, 0));
    for (int k = 0; k < N; k++) {
        e.data.u64 = k;
        OK(epoll_ctl(ep, EPOLL_CTL_ADD, end[0][k], &e));
    }
    SHOW(epoll_wait(ep, got, 8, 0));

    for (int k = 0; k < N; k++) send_all(end[1][k], "data", 4);
    for (int set = 0; set < 2; set++) {
        SHOW(epoll_wait(set ? ep : early, got, 8, 0));
        for (int k = 0; k < N; k++) say("event %d: number %d", k, (int)got[k].data.u32);
    }
    close(early);
    show_turns("room for one", ep, N, 1, 60);
    show_turns("room for two", ep, N, 2, 60);

    OK(pipe(pipes));
    OK(write(pipes[1], "x", 1));
    e.data.u64 = N;
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, pipes[0], &e));
    for (int i = 0; i < 40; i++) CHECK(epoll_wait(ep, got, 8, 0) == N + 1);
    show_turns("and a pipe, room for one", ep, N + 1, 1, 200);
    show_turns("and a pipe, room for all", ep, N + 1, 8, 60);

    char b[8];
    for (int k = 0; k < N; k++) recv_all(end[0][k], b, 4);
    SHOW(epoll_wait(ep, got, 8, 0));
    say("left is number %d", (int)got[0].data.u32);
    OK(read(pipes[0], b, 1));
    SHOW(epoll_wait(ep, got, 8, 10));                   /* sleeps */
    send_all(end[1][0], "first", 5);
    SHOW(epoll_wait(ep, got, 8, -1));
    send_all(end[1][1], "second", 6);
    CHECK(epoll_wait(ep, got, 8, 0) == 2);
    send_all(end[1][2], "third", 5);
    CHECK(epoll_wait(ep, got, 8, 0) == 3);
    close(end[1][2]);
    CHECK(epoll_wait(ep, got, 8, 0) == 3);
    recv_all(end[0][0], b, 5);
    SHOW(epoll_wait(ep, got, 8, 0));
    end[1][2] = OK(dup(end[1][1]));
    for (int k = 0; k < N; k++) close(end[0][k]), close(end[1][k]);
    sn_print_logs();
    return 0;
}
