/* 300 connections in one epoll set: each message comes out at its own connection; random order, random closes. */
// accelerated: 300
#include "snippet.h"
#define N 300

static void *talk(void *unused)
{
    (void)unused;
    sn_role = 1;
    int fd[N];
    unsigned seed = 7;
    for (int i = 0; i < N; i++) {
        fd[i] = sn_connect(sn_path());
        OK(send(fd[i], &i, sizeof i, 0));
    }
    for (int round = 0; round < 30 * N; round++) {
        int i = rand_r(&seed) % N, answer;
        OK(send(fd[i], &i, sizeof i, 0));
        recv_all(fd[i], &answer, sizeof answer);
        CHECK(answer == i * 3 + 1);
    }
    for (int i = N - 1; i >= 0; i--) close(fd[i]);
    return NULL;
}

int main(void)
{
    pthread_t t;
    sn_open_logs();
    int listener = sn_listen(sn_path(), 512), open_now = 0, ended = 0, messages = 0, name[5000];
    memset(name, -1, sizeof name);
    pid_t pid = 0;
    if (sn_mode_thread()) pthread_create(&t, NULL, talk, NULL);
    else if (!(pid = fork())) { talk(NULL); exit(0); }
    int ep = OK(epoll_create1(0));
    struct epoll_event e = {EPOLLIN, {.fd = listener}}, got[64];
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e));
    while (ended < N) {
        int n = epoll_wait(ep, got, 64, 10000);
        if (n <= 0) { say("FAILED: epoll_wait -> %d with %d open, %d messages", n, open_now, messages); break; }
        for (int i = 0; i < n; i++) {
            int fd = got[i].data.fd, x;
            if (fd == listener) {
                e.data.fd = OK(accept(listener, NULL, NULL));
                OK(epoll_ctl(ep, EPOLL_CTL_ADD, e.data.fd, &e));
                name[e.data.fd] = -1;
                open_now++;
                continue;
            }
            long r = recv(fd, &x, sizeof x, 0);
            if (r == 0) { close(fd); ended++; open_now--; continue; }
            CHECK(r == sizeof x);
            if (name[fd] < 0) name[fd] = x;
            else {
                CHECK(name[fd] == x);
                x = x * 3 + 1;
                OK(send(fd, &x, sizeof x, MSG_NOSIGNAL));
                messages++;
            }
        }
    }
    say("%d ended, %d messages", ended, messages);
    if (pid) waitpid(pid, NULL, 0);
    else pthread_join(t, NULL);
    sn_print_logs();
    return 0;
}
