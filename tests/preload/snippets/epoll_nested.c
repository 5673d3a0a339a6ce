/* An epoll descriptor inside poll, select and another epoll; one descriptor in two sets; a dup in the set. */
#include "snippet.h"

static void server(int fd)
{
    char b[100];
    int inner = OK(epoll_create1(0)), outer = OK(epoll_create1(0)), other = OK(epoll_create1(0));
    struct epoll_event e = {EPOLLIN, {.u64 = 1}}, got[4];
    OK(epoll_ctl(inner, EPOLL_CTL_ADD, fd, &e));
    e.data.u64 = 2;
    OK(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &e));
    e.data.u64 = 3;
    OK(epoll_ctl(other, EPOLL_CTL_ADD, fd, &e));
    int twin = OK(dup(fd));
    e.data.u64 = 4;
    SHOW(epoll_ctl(other, EPOLL_CTL_ADD, twin, &e));
    SHOW(epoll_wait(outer, got, 4, 10));
    show_poll("inner, quiet", inner, POLLIN, 10);
    for (int way = 0; way < 4; way++) {
        barrier();                                      /* data comes after a pause */
        if (way == 0) show_poll("inner in poll", inner, POLLIN, 5000);
        if (way == 1) SHOW(epoll_wait(outer, got, 4, 5000));
        if (way == 2) {
            fd_set r;
            FD_ZERO(&r);
            FD_SET(inner, &r);
            SHOW(select(600, &r, NULL, NULL, &(struct timeval){5, 0}));
        }
        if (way == 3) SHOW(epoll_wait(other, got, 1, 5000));
        barrier();
        show_poll("inner", inner, POLLIN, 0);
        show_poll("outer", outer, POLLIN, 0);
        SHOW(epoll_wait(outer, got, 4, 0));
        SHOW(epoll_wait(other, got, 4, 0) > 0);         /* under both names */
        SHOW(epoll_wait(inner, got, 4, 0));
        SHOW(recv(fd, b, 100, 0));
        SHOW(epoll_wait(inner, got, 4, 0));
        SHOW(epoll_wait(outer, got, 4, 0));
        show_poll("outer, quiet", outer, POLLIN, 0);
    }
    close(fd);                                          /* the twin keeps the connection in the sets */
    barrier();
    barrier();
    SHOW(epoll_wait(inner, got, 4, 5000));
    SHOW(recv(twin, b, 100, 0));
    close(twin);
    SHOW(epoll_wait(inner, got, 4, 10));
    SHOW(epoll_wait(other, got, 4, 10));
}

static void client(int fd)
{
    for (int way = 0; way < 4; way++) {
        barrier();
        pause_ms(50);
        OK(send(fd, "12345", 5, 0));
        barrier();
    }
    barrier();
    OK(send(fd, "twin", 4, 0));
    barrier();
    close(fd);
}

int main(void) { return sn_run(server, client); }
