/* Edge triggered: each arrival wakes once, a partial read does not wake again, MOD re-arms; ONESHOT; EPOLLET for OUT. */
#include "snippet.h"

static struct epoll_event got;
static void show_wait(const char *what, int ep, int ms)
{
    got = (struct epoll_event){0, {0}};
    int r = epoll_wait(ep, &got, 1, ms);
    say("%s: %d %s", what, r, r > 0 ? mask_name(got.events) : "");
}

static void server(int fd)
{
    char b[100];
    int ep = OK(epoll_create1(0));
    struct epoll_event e = {EPOLLIN | EPOLLRDHUP | EPOLLET, {.fd = fd}};
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    show_wait("empty", ep, 10);
    barrier();                                          /* each step of the client: barrier, act, barrier */
    show_wait("first arrival", ep, 5000);               /* comes while we sleep */
    barrier();
    show_wait("told already", ep, 20);
    SHOW(recv(fd, b, 2, 0));
    show_wait("partly read", ep, 20);
    barrier();
    show_wait("second arrival", ep, 5000);
    barrier();
    show_wait("told already", ep, 20);
    SHOW(recv(fd, b, 100, 0));
    SHOW(recv(fd, b, 100, MSG_DONTWAIT));
    show_wait("drained", ep, 20);
    barrier(); barrier();                               /* two arrivals, one edge to collect */
    show_wait("two arrivals", ep, 5000);
    show_wait("told already", ep, 20);
    OK(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
    show_wait("re-armed by MOD with data there", ep, 5000);
    show_wait("told already", ep, 20);
    SHOW(recv(fd, b, 100, 0));
    e.events = EPOLLIN | EPOLLONESHOT;
    OK(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
    show_wait("oneshot, empty", ep, 10);
    barrier();
    show_wait("oneshot, data", ep, 5000);
    barrier();
    show_wait("disarmed", ep, 20);
    barrier(); barrier();
    show_wait("disarmed, more data", ep, 20);
    OK(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
    show_wait("armed again", ep, 5000);
    show_wait("disarmed", ep, 20);
    SHOW(recv(fd, b, 100, 0));
    OK(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
    show_wait("armed, empty", ep, 20);
    e.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    OK(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
    show_wait("writable", ep, 5000);
    show_wait("told already", ep, 20);
    barrier(); barrier();
    show_wait("data, and writable too", ep, 5000);
    barrier(); barrier();                               /* shut WR */
    show_wait("half closed", ep, 5000);
    show_wait("told already", ep, 20);
    SHOW(recv(fd, b, 100, 0));
    SHOW(recv(fd, b, 100, 0));
    barrier(); barrier();                               /* closed */
    show_wait("closed", ep, 5000);
    show_wait("told already", ep, 20);
    close(fd);
    close(ep);
}

static void client(int fd)
{
    barrier(); pause_ms(40); OK(send(fd, "12345", 5, 0)); barrier();
    barrier(); pause_ms(40); OK(send(fd, "12345", 5, 0)); barrier();
    barrier(); OK(send(fd, "12345", 5, 0)); OK(send(fd, "12345", 5, 0)); barrier();
    barrier(); pause_ms(40); OK(send(fd, "abc", 3, 0)); barrier();
    barrier(); OK(send(fd, "abc", 3, 0)); barrier();
    barrier(); OK(send(fd, "abc", 3, 0)); barrier();
    barrier(); OK(shutdown(fd, SHUT_WR)); barrier();
    barrier(); close(fd); barrier();
}

int main(void) { return sn_run(server, client); }
