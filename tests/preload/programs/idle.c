/* Server and client warm a connection up and then both wait on it for ever, each by the call that the argument names. */
#include "../snippets/snippet.h"

static const char *way;

static void wait_for_ever(int fd)
{
    char c;
    struct pollfd p = {fd, POLLIN, 0};
    struct epoll_event e = {EPOLLIN | (!strcmp(way, "epoll-edge") ? EPOLLET : 0), {.fd = fd}}, got;
    fd_set r;
    FD_ZERO(&r);
    FD_SET(fd, &r);
    printf("idle %d\n", (int)getpid());
    fflush(stdout);
    if (!strcmp(way, "recv")) recv(fd, &c, 1, 0);
    else if (!strcmp(way, "poll")) poll(&p, 1, -1);
    else if (!strcmp(way, "select")) select(fd + 1, &r, NULL, NULL, NULL);
    else {
        int ep = OK(epoll_create1(0));
        OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
        epoll_wait(ep, &got, 1, -1);
    }
    _exit(1);                                           /* nothing was to happen */
}

int main(int argc, char **argv)
{
    way = argc > 1 ? argv[1] : "recv";
    signal(SIGTERM, SIG_DFL);
    return sn_run(wait_for_ever, wait_for_ever);
}
