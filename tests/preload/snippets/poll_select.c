/* poll, ppoll, select, pselect: ready and not, with pipes, eventfds, timers, kernel sockets and negative entries. */
#include "snippet.h"
#include <sys/eventfd.h>
#include <sys/timerfd.h>

static void server(int fd)
{
    char b[100];
    int pipes[2], pair[2];
    OK(pipe(pipes));
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    int event = OK(eventfd(0, 0)), timer = OK(timerfd_create(CLOCK_MONOTONIC, 0));
    struct itimerspec in_50 = {{0, 0}, {0, 50000000}};
    struct pollfd p[7] = {{-1, POLLIN, 77}, {pipes[0], POLLIN, 0}, {fd, POLLIN, 0}, {event, POLLIN, 0},
                          {-5, POLLIN, 77}, {timer, POLLIN, 0}, {pair[0], POLLIN, 0}};
#define SHOW_ALL(call) do { int r_ = (call); say("%s -> %d: %s %s %s %s %s %s %s", #call, r_, mask_name(p[0].revents), \
    p[1].revents ? "pipe" : "-", p[2].revents ? "SOCKET" : "-", p[3].revents ? "event" : "-", \
    mask_name(p[4].revents), p[5].revents ? "timer" : "-", p[6].revents ? "pair" : "-"); } while (0)
    double start = now();
    SHOW_ALL(poll(p, 7, 50));
    say("waited %d", now() - start >= 0.045);
    OK(timerfd_settime(timer, 0, &in_50, NULL));
    SHOW_ALL(poll(p, 7, 5000));
    uint64_t x = 1;
    OK(read(timer, &x, 8));
    barrier();                                          /* the client sends after a pause */
    SHOW_ALL(poll(p, 7, 5000));
    say("%s", mask_name(p[2].revents));
    OK(write(event, &x, 8));
    OK(write(pipes[1], "x", 1));
    OK(write(pair[1], "x", 1));
    SHOW_ALL(poll(p, 7, 5000));
    SHOW_ALL(poll(p, 7, 0));
    SHOW_ALL(poll(p, 2, 0));
    SHOW(recv(fd, b, 100, 0));
    SHOW_ALL(poll(p, 7, -1));
    OK(read(event, &x, 8));
    OK(read(pipes[0], b, 1));
    OK(read(pair[0], b, 1));
    struct timespec ts = {0, 30000000};
    sigset_t none;
    sigemptyset(&none);
    SHOW_ALL(ppoll(p, 7, &ts, NULL));
    barrier();
    ts.tv_sec = 5;
    SHOW_ALL(ppoll(p, 7, &ts, &none));
    SHOW_ALL(ppoll(p, 7, NULL, NULL));
    p[2].events = POLLOUT;
    SHOW_ALL(poll(p, 7, -1));
    say("%s", mask_name(p[2].revents));
    p[2].events = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM | POLLRDHUP;
    SHOW_ALL(poll(p, 7, -1));
    say("%s", mask_name(p[2].revents));
    SHOW(recv(fd, b, 100, 0));
    p[2].events = POLLIN;

    fd_set r, w, e;
    struct timeval tv = {0, 30000};
#define SETS do { FD_ZERO(&r); FD_ZERO(&w); FD_ZERO(&e); FD_SET(fd, &r); FD_SET(pipes[0], &r); FD_SET(event, &r); } while (0)
#define SHOW_SETS(call) do { int r_ = (call); say("%s -> %d: r %d w %d e %d pipe %d event %d", #call, r_, \
    FD_ISSET(fd, &r), FD_ISSET(fd, &w), FD_ISSET(fd, &e), FD_ISSET(pipes[0], &r), FD_ISSET(event, &r)); } while (0)
    int n = 600;
    SETS; SHOW_SETS(select(n, &r, &w, &e, &tv));
    say("left %ld %ld", (long)tv.tv_sec, (long)tv.tv_usec);
    SETS; FD_SET(fd, &w); FD_SET(fd, &e); SHOW_SETS(select(n, &r, &w, &e, NULL));
    barrier();
    tv = (struct timeval){5, 0};
    SETS; SHOW_SETS(select(n, &r, NULL, NULL, &tv));
    say("left some %d", tv.tv_sec >= 3);
    OK(write(event, &x, 8));
    SETS; SHOW_SETS(select(n, &r, &w, &e, NULL));
    SETS; FD_SET(fd, &w); FD_SET(fd, &e); ts = (struct timespec){1, 0}; SHOW_SETS(pselect(n, &r, &w, &e, &ts, &none));
    say("pselect leaves its time %d", ts.tv_sec == 1);
    SHOW(recv(fd, b, 100, 0));
    SETS; FD_CLR(event, &r); ts = (struct timespec){0, 20000000}; SHOW_SETS(pselect(n, &r, NULL, NULL, &ts, NULL));
    SETS; FD_SET(20, &r); tv = (struct timeval){0, 0}; SHOW(select(n, &r, NULL, NULL, &tv));
    tv = (struct timeval){0, 1000}; SHOW(select(0, NULL, NULL, NULL, &tv));
    SHOW(select(-1, NULL, NULL, NULL, &tv));
    barrier(); barrier();                               /* the client has closed */
    SETS; FD_SET(fd, &w); FD_SET(fd, &e); SHOW_SETS(select(n, &r, &w, &e, NULL));
    SHOW_ALL(poll(p, 7, -1));
    say("%s", mask_name(p[2].revents));
    close(fd);
    SHOW_ALL(poll(p, 3, -1));
    say("%s", mask_name(p[2].revents));
    SHOW(poll(NULL, 0, 1));
}

static void client(int fd)
{
    for (int i = 0; i < 3; i++) {
        barrier();
        pause_ms(60);
        OK(send(fd, "12345", 5, 0));
    }
    barrier();
    close(fd);
    barrier();
}

int main(void) { return sn_run(server, client); }
