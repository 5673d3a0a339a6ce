/* A registration is removed and added again, around messages, with a duplicate, in another set and a nested one; and added
 * by one thread while another waits. */
#include "snippet.h"

static int ep;

static void ctl(const char *what, int set, int op, int fd, uint32_t events, uint32_t data)
{
    struct epoll_event e = {events, {.u32 = data}};
    int r = epoll_ctl(set, op, fd, &e);
    say("%s: %s", what, r < 0 ? err_name(errno) : "done");
}

static void look(const char *what, int set, int ms)
{
    struct epoll_event got[4];
    int r = epoll_wait(set, got, 4, ms);
    say("%s: %d", what, r);
    for (int i = 0; i < r; i++) say("  %s %u", mask_name(got[i].events), got[i].data.u32);
}

static void *waiter(void *got)
{
    sn_role = 0;
    return (void *)(intptr_t)epoll_wait(ep, got, 4, 5000);
}

static void joined(pthread_t thread, const struct epoll_event *got)
{
    void *r;
    pthread_join(thread, &r);
    say("the waiting thread: %d %s %u", (int)(intptr_t)r, mask_name(got->events), got->data.u32);
}

static void take(int fd)
{
    char b[64];
    say("read %zd", recv(fd, b, sizeof b, MSG_DONTWAIT));
}

static void server(int fd)
{
    pthread_t thread;
    struct epoll_event got[4];
    ep = OK(epoll_create1(0));
    ctl("add", ep, EPOLL_CTL_ADD, fd, EPOLLIN, 1);
    look("nothing yet", ep, 0);
    for (uint32_t i = 2; i < 5; i++) {                  /* as a client does that takes turns */
        ctl("remove", ep, EPOLL_CTL_DEL, fd, 0, 0);
        ctl("add to write", ep, EPOLL_CTL_ADD, fd, EPOLLOUT, 10 + i);
        look("room", ep, 0);
        ctl("remove", ep, EPOLL_CTL_DEL, fd, 0, 0);
        ctl("add to read", ep, EPOLL_CTL_ADD, fd, i == 3 ? EPOLLIN | EPOLLET : EPOLLIN, i);
        barrier();                                      /* a message comes */
        look("message", ep, 5000);
        take(fd);
        look("no more", ep, 0);
    }
    ctl("add twice", ep, EPOLL_CTL_ADD, fd, EPOLLIN, 5);
    ctl("remove", ep, EPOLL_CTL_DEL, fd, 0, 0);
    ctl("remove twice", ep, EPOLL_CTL_DEL, fd, 0, 0);
    ctl("change the removed", ep, EPOLL_CTL_MOD, fd, EPOLLIN, 6);
    ctl("add", ep, EPOLL_CTL_ADD, fd, EPOLLIN, 7);
    ctl("remove", ep, EPOLL_CTL_DEL, fd, 0, 0);
    barrier();                                          /* a message comes while it is not in the set */
    barrier();
    look("not in the set", ep, 0);
    look("not in the set", ep, 20);
    ctl("add with the message there", ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT, 8);
    look("once", ep, 5000);
    look("once", ep, 0);
    ctl("remove", ep, EPOLL_CTL_DEL, fd, 0, 0);
    ctl("add at the edge", ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 9);
    look("edge", ep, 5000);
    look("edge", ep, 0);
    ctl("remove", ep, EPOLL_CTL_DEL, fd, 0, 0);

    OK(pthread_create(&thread, NULL, waiter, got));    /* another thread waits on the empty set */
    pause_ms(30);
    ctl("add under a waiter", ep, EPOLL_CTL_ADD, fd, EPOLLIN, 10);
    joined(thread, got);
    ctl("remove", ep, EPOLL_CTL_DEL, fd, 0, 0);
    int second = OK(epoll_create1(0));
    OK(pthread_create(&thread, NULL, waiter, got));
    pause_ms(30);
    ctl("add to another set", second, EPOLL_CTL_ADD, fd, EPOLLIN, 11);
    ctl("add to the first", ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE, 12);
    look("the other set", second, 5000);
    joined(thread, got);
    ctl("change exclusive", ep, EPOLL_CTL_MOD, fd, EPOLLIN, 13);
    ctl("remove", ep, EPOLL_CTL_DEL, fd, 0, 0);
    take(fd);
    look("the other set", second, 0);

    int copy = OK(dup(fd));                             /* the duplicate is a registration of its own */
    ctl("add", ep, EPOLL_CTL_ADD, fd, EPOLLIN, 14);
    ctl("remove", ep, EPOLL_CTL_DEL, fd, 0, 0);
    ctl("add the copy", ep, EPOLL_CTL_ADD, copy, EPOLLIN, 15);
    barrier();
    look("the copy", ep, 5000);
    take(copy);
    ctl("remove the copy", ep, EPOLL_CTL_DEL, copy, 0, 0);
    OK(close(copy));
    int taker = OK(open("/dev/null", O_RDONLY));        /* its number names something else */
    say("same number: %d", taker == copy);
    ctl("remove what has its number", ep, EPOLL_CTL_DEL, taker, 0, 0);

    int outer = OK(epoll_create1(0));                   /* inside another set */
    ctl("add", ep, EPOLL_CTL_ADD, fd, EPOLLIN, 16);
    ctl("remove", ep, EPOLL_CTL_DEL, fd, 0, 0);
    ctl("the set in a set", outer, EPOLL_CTL_ADD, ep, EPOLLIN, 17);
    look("outer", outer, 0);
    ctl("add", ep, EPOLL_CTL_ADD, fd, EPOLLIN, 18);
    barrier();
    look("outer", outer, 5000);
    look("inner", ep, 0);
    ctl("remove", ep, EPOLL_CTL_DEL, fd, 0, 0);
    look("outer", outer, 0);
    take(fd);
    barrier();
    OK(close(outer));
    OK(close(fd));
    look("closed", ep, 0);
    OK(close(taker));
    OK(close(second));
    OK(close(ep));
}

static void client(int fd)
{
    for (int i = 0; i < 3; i++) {
        barrier();
        OK(send(fd, "message", 7, 0));
    }
    barrier();
    OK(send(fd, "aside", 5, 0));
    barrier();
    barrier();
    OK(send(fd, "to the copy", 11, 0));
    barrier();
    OK(send(fd, "nested", 6, 0));
    barrier();
    close(fd);
}

int main(void) { return sn_run(server, client); }
