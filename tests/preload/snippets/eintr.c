// modes: process
/* Signals during blocking calls: EINTR without SA_RESTART, going on with it; poll and epoll never restart. */
#include "snippet.h"

static volatile sig_atomic_t alarms;
static void on_alarm(int s) { (void)s; alarms++; }
static void arm(int flags, int ms)
{
    struct sigaction a = {.sa_handler = on_alarm, .sa_flags = flags};
    struct itimerval t = {{0, 0}, {0, ms * 1000}};
    OK(sigaction(SIGALRM, &a, NULL));
    alarms = 0;
    OK(setitimer(ITIMER_REAL, &t, NULL));
}

static void server(int fd)
{
    char b[100];
    struct pollfd p = {fd, POLLIN, 0};
    struct epoll_event e = {EPOLLIN, {0}};
    int ep = OK(epoll_create1(0));
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    fd_set r;
#define WITH(flags, call) do { arm(flags, 60); FD_ZERO(&r); FD_SET(fd, &r); SHOW(call); say("alarms %d", (int)alarms); } while (0)
    WITH(0, recv(fd, b, 100, 0));
    WITH(0, read(fd, b, 100));
    WITH(0, recv(fd, b, 100, MSG_PEEK));
    WITH(0, recv(fd, b, 100, MSG_WAITALL));
    WITH(0, poll(&p, 1, 5000));
    WITH(SA_RESTART, poll(&p, 1, 5000));
    WITH(SA_RESTART, epoll_wait(ep, &e, 1, 5000));
    WITH(SA_RESTART, select(600, &r, NULL, NULL, NULL));
    struct timeval five = {5, 0}, none = {0, 0};
    OK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &five, sizeof five));
    WITH(SA_RESTART, recv(fd, b, 100, 0));              /* with a timeout the kernel never restarts */
    OK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none));
    barrier();                                          /* the client sends after 150 ms, the signal comes after 60 */
    WITH(SA_RESTART, recv(fd, b, 100, 0));
    barrier();
    WITH(SA_RESTART, recv(fd, b, 10, MSG_WAITALL));     /* 4 come at once, the signal, 6 more */
    barrier();
    WITH(0, recv(fd, b, 10, MSG_WAITALL));              /* 4 come at once, then the signal: a short count */
    SHOW(recv(fd, b, 10, MSG_WAITALL | 0));
    /* a mask that lets the signal in only while waiting */
    sigset_t block, old;
    sigemptyset(&block);
    sigaddset(&block, SIGALRM);
    sigprocmask(SIG_BLOCK, &block, &old);
    WITH(0, ppoll(&p, 1, NULL, &old));
    WITH(0, epoll_pwait(ep, &e, 1, -1, &old));
    WITH(0, pselect(600, &r, NULL, NULL, NULL, &old));
    arm(0, 20);
    pause_ms(60);
    SHOW(ppoll(&p, 1, NULL, &old));                     /* pending already */
    say("alarms %d", (int)alarms);
    arm(0, 20);
    pause_ms(60);
    barrier(); barrier();                               /* pending, and data there */
    SHOW(ppoll(&p, 1, NULL, &old));
    sigprocmask(SIG_SETMASK, &old, NULL);
    SHOW(recv(fd, b, 100, 0));
    close(fd);
}

static void client(int fd)
{
    barrier();
    pause_ms(150);
    OK(send(fd, "x", 1, 0));
    barrier();
    OK(send(fd, "1234", 4, 0));
    pause_ms(150);
    OK(send(fd, "567890", 6, 0));
    barrier();
    OK(send(fd, "1234", 4, 0));
    pause_ms(150);
    OK(send(fd, "0123456789", 10, 0));
    barrier();
    OK(send(fd, "zz", 2, 0));
    barrier();
    char b[10];
    recv(fd, b, 10, 0);
    close(fd);
}

int main(void) { return sn_run(server, client); }
