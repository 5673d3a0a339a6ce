/* epoll, level triggered: with pipes and eventfds in the set, MOD, DEL, ADD again, errors, data values, hang-up. */
#include "snippet.h"
#include <sys/eventfd.h>

/* What becomes ready within `ms`. One call need not tell of all that is ready, so up to 64 more calls may add to it;
 * whoever is ready must then have been told of, and nobody else. */
static void show_wait(const char *what, int ep, int ms)
{
    struct epoll_event e[8];
    unsigned seen[100] = {0};
    char line[300] = "";
    int r = epoll_wait(ep, e, 8, ms), error = errno;
    for (int again = 0; r > 0 && again < 64; again++) {
        for (int i = 0; i < r; i++)
            if (e[i].data.u64 < 100) seen[e[i].data.u64] |= e[i].events;
            else say("FAILED: stray data %llu", (unsigned long long)e[i].data.u64);
        r = epoll_wait(ep, e, 8, 0);
    }
    for (int tag = 0; tag < 100; tag++)
        if (seen[tag]) sprintf(line + strlen(line), " [%d %s]", tag, mask_name(seen[tag]));
    say("%s: %s%s", what, r < 0 ? err_name(error) : "", line);
}

static void server(int fd)
{
    char b[100];
    int pipes[2];
    uint64_t one = 1;
    OK(pipe(pipes));
    int ep = OK(epoll_create1(EPOLL_CLOEXEC)), event = OK(eventfd(0, 0));
    struct epoll_event e = {EPOLLIN, {.u64 = 1}};
    SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
    SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, fd, &e));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    e.data.u64 = 2;
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, pipes[0], &e));
    e.data.u64 = 3;
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, event, &e));
    SHOW(epoll_ctl(fd, EPOLL_CTL_ADD, event, &e));
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &e));
    SHOW(epoll_wait(fd, &e, 1, 0));
    SHOW(epoll_wait(ep, &e, 0, 0));
    show_wait("quiet", ep, 0);
    show_wait("quiet", ep, 30);
    barrier();
    show_wait("data comes", ep, 5000);
    show_wait("data is there", ep, 5000);
    show_wait("data is there", ep, 0);
    SHOW(recv(fd, b, 2, 0));
    show_wait("some is left", ep, -1);
    OK(write(event, &one, 8));
    OK(write(pipes[1], "x", 1));
    show_wait("all", ep, -1);
    SHOW(epoll_wait(ep, &e, 1, -1));
    SHOW(recv(fd, b, 100, 0));
    show_wait("two others", ep, -1);
    e = (struct epoll_event){EPOLLIN | EPOLLOUT | EPOLLRDHUP, {.u64 = 21}};
    SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
    show_wait("writable", ep, -1);
    e = (struct epoll_event){0, {.u64 = 22}};
    SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
    show_wait("no interest", ep, -1);
    barrier(); barrier();                               /* data there, unasked */
    show_wait("no interest", ep, 0);
    e = (struct epoll_event){EPOLLIN, {.u64 = 23}};
    SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
    show_wait("interest again", ep, 0);
    SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
    show_wait("deleted", ep, 0);
    SHOW(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
    e.data.u64 = 24;
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    show_wait("added with data there", ep, -1);
    SHOW(recv(fd, b, 100, 0));
    OK(read(event, &one, 8));
    OK(read(pipes[0], b, 1));
    show_wait("quiet", ep, 10);
    sigset_t none;
    sigemptyset(&none);
    barrier();
    SHOW(epoll_pwait(ep, &e, 1, 5000, &none));
    say("%s %d", mask_name(e.events), (int)e.data.u64);
    struct timespec ts = {5, 0};
    SHOW(epoll_pwait2(ep, &e, 1, &ts, NULL));
    SHOW(recv(fd, b, 100, 0));
    ts = (struct timespec){0, 20000000};
    SHOW(epoll_pwait2(ep, &e, 1, &ts, NULL));
    barrier(); barrier();                               /* the client shut WR */
    show_wait("half closed", ep, -1);
    SHOW(recv(fd, b, 100, 0));
    barrier(); barrier();                               /* the client closed */
    show_wait("closed", ep, -1);
    e = (struct epoll_event){EPOLLRDHUP, {.u64 = 25}};
    SHOW(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e));
    show_wait("closed", ep, -1);
    close(fd);                                          /* takes it out of the set */
    show_wait("we closed", ep, 20);
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    close(ep);
}

static void client(int fd)
{
    barrier();
    pause_ms(50);
    OK(send(fd, "12345", 5, 0));
    barrier();
    OK(send(fd, "unasked", 7, 0));
    barrier(); barrier();
    pause_ms(50);
    OK(send(fd, "pwait", 5, 0));
    barrier();
    OK(shutdown(fd, SHUT_WR));
    barrier(); barrier();
    close(fd);
    barrier();
}

int main(void) { return sn_run(server, client); }
