// modes: process
/* Two processes wait on one inherited epoll set; the connection is served by either; the set survives the parent's copy. */
#include "snippet.h"

static void server(int fd)
{
    int ep = OK(epoll_create1(0));
    struct epoll_event e = {EPOLLIN, {.fd = fd}}, got;
    char b[100];
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    pid_t child = OK(fork());
    if (!child) {
        close(fd);                                      /* the parent's copy keeps it in the set */
        int r = epoll_wait(ep, &got, 1, 5000);
        say("child: %d %s", r, mask_name(got.events));
        _exit(0);
    }
    barrier();
    int status;
    OK(waitpid(child, &status, 0));
    int r = epoll_wait(ep, &got, 1, 5000);
    say("parent: %d %s", r, mask_name(got.events));
    SHOW(recv(fd, b, 100, 0));
    SHOW(send(fd, "served", 6, 0));
    barrier();
    close(fd);
}

static void client(int fd)
{
    char b[100];
    barrier();
    pause_ms(50);
    OK(send(fd, "12345", 5, 0));
    SHOW(recv(fd, b, 100, 0));
    barrier();
    close(fd);
}

int main(void) { return sn_run(server, client); }
