/* A descriptor that sat in an epoll set since before its first byte wakes after the switch, level and edge. */
// accelerated: 2
#include "snippet.h"

static void serve(int listener, unsigned mode)
{
    char b[100];
    int ep = OK(epoll_create1(0)), fd = OK(accept(listener, NULL, NULL)), bad = 0;
    struct epoll_event e = {EPOLLIN | mode, {.fd = fd}}, got;
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    for (int i = 0; i < 200; i++) {
        if (epoll_wait(ep, &got, 1, 5000) != 1) { say("FAILED: no wake-up before message %d", i); break; }
        if (recv(fd, b, 100, MSG_DONTWAIT) != 9 || !good(b, 9, i * 9)) bad++;
        if (i % 10 == 0) pause_ms(1);                   /* sometimes the client sleeps, sometimes not */
        OK(send(fd, b, 9, MSG_NOSIGNAL));
    }
    SHOW(bad);
    SHOW(epoll_wait(ep, &got, 1, 5000));
    SHOW(recv(fd, b, 100, MSG_DONTWAIT));
    close(fd);
    close(ep);
}

static void *talk(void *unused)
{
    (void)unused;
    sn_role = 1;
    for (int round = 0; round < 2; round++) {
        char b[9];
        int ep = OK(epoll_create1(0)), fd = sn_connect(sn_path());
        struct epoll_event e = {EPOLLIN | (round ? EPOLLET : 0), {.fd = fd}}, got;
        OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
        for (int i = 0; i < 200; i++) {
            if (i % 7 == 0) pause_ms(1);
            fill(b, 9, i * 9);
            OK(send(fd, b, 9, MSG_NOSIGNAL));
            if (epoll_wait(ep, &got, 1, 5000) != 1) { say("FAILED: no wake-up for answer %d", i); break; }
            CHECK(recv(fd, b, 9, MSG_DONTWAIT) == 9 && good(b, 9, i * 9));
        }
        close(fd);
        close(ep);
    }
    return NULL;
}

int main(void)
{
    pthread_t t;
    sn_open_logs();
    int listener = sn_listen(sn_path(), 16);
    pid_t pid = 0;
    if (sn_mode_thread()) pthread_create(&t, NULL, talk, NULL);
    else if (!(pid = fork())) { talk(NULL); exit(0); }
    serve(listener, 0);
    serve(listener, EPOLLET);
    if (pid) waitpid(pid, NULL, 0);
    else pthread_join(t, NULL);
    sn_print_logs();
    return 0;
}
