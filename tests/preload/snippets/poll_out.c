/* POLLOUT: a full direction is not writable, becomes so when the peer reads, for poll, select and epoll sleepers. */
#include "snippet.h"

static uint64_t fill_up(int fd)
{
    static char b[4096];
    uint64_t n = 0;
    long r;
    while ((r = send(fd, b, sizeof b, MSG_DONTWAIT)) > 0) n += r;
    CHECK(errno == EAGAIN);
    return n;
}

static void server(int fd)
{
    char *b = malloc(1 << 16);
    for (int round = 0; round < 3; round++) {
        barrier();
        pause_ms(60);                           /* now the client sleeps for space */
        uint64_t n = 0;
        long r;
        do {
            while ((r = recv(fd, b, 1 << 16, MSG_DONTWAIT)) > 0) n += r;
            pause_ms(5);
        } while (poll(&(struct pollfd){fd, POLLIN, 0}, 1, 100) > 0);
        say("drained %d", n > 0);
        barrier();
    }
    close(fd);
    free(b);
}

static void client(int fd)
{
    int ep = OK(epoll_create1(0));
    struct epoll_event e = {EPOLLOUT, {.u32 = 7}};
    for (int round = 0; round < 3; round++) {
        uint64_t n = fill_up(fd);
        say("filled %d", n > 10000);
        show_poll("full", fd, POLLOUT | POLLIN, 0);
        barrier();
        if (round == 0) show_poll("space", fd, POLLOUT, 5000);
        if (round == 1) {
            fd_set w;
            FD_ZERO(&w);
            FD_SET(fd, &w);
            struct timeval tv = {5, 0};
            SHOW(select(600, NULL, &w, NULL, &tv));
        }
        if (round == 2) {
            OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
            SHOW(epoll_wait(ep, &e, 1, 5000));
            say("%s %u", mask_name(e.events), e.data.u32);
        }
        barrier();
    }
    close(fd);
}

int main(void) { return sn_run(server, client); }
