/* Threads wait on an epoll set, or change it, while another one closes it and opens the next; by two names, too. What
 * they see depends on the moment; the last set works. */
#include "snippet.h"

enum { ROUNDS = 2000 };
static int shared = -1, done, conn;

static void check(int r)
{
    if (r < 0 && errno != EBADF && errno != ENOENT && errno != EEXIST && errno != EINVAL)
        say("FAILED: %s", err_name(errno));
}

static void *waiter(void *unused)
{
    (void)unused;
    struct epoll_event got;
    while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE))
        check(epoll_wait(__atomic_load_n(&shared, __ATOMIC_RELAXED), &got, 1, 1));
    return NULL;
}

static void *changer(void *unused)
{
    (void)unused;
    struct epoll_event e = {EPOLLIN | EPOLLOUT, {.u32 = 1}};
    for (int op = 0; !__atomic_load_n(&done, __ATOMIC_ACQUIRE); op = !op)
        check(epoll_ctl(__atomic_load_n(&shared, __ATOMIC_RELAXED), op ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, conn, &e));
    return NULL;
}

static int set_of(int fd)
{
    int ep = OK(epoll_create1(0));
    struct epoll_event e = {EPOLLIN, {.u32 = 2}};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) && errno != EEXIST)
        say("FAILED: %s", err_name(errno));
    return ep;
}

static void server(int fd)
{
    pthread_t waiters[2], other;
    struct epoll_event got;
    char b[8];
    conn = fd;
    for (int i = 0; i < 2; i++)
        OK(pthread_create(&waiters[i], NULL, waiter, NULL));
    OK(pthread_create(&other, NULL, changer, NULL));
    for (int i = 0; i < ROUNDS; i++) {
        int ep = set_of(fd), second = i % 2 ? OK(dup(ep)) : -1;
        __atomic_store_n(&shared, ep, __ATOMIC_RELAXED);
        sched_yield();
        OK(close(ep));
        if (second >= 0)
            OK(close(second));
    }
    __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++)
        pthread_join(waiters[i], NULL);
    pthread_join(other, NULL);
    int ep = set_of(fd);
    barrier();
    SHOW(epoll_wait(ep, &got, 1, 5000));
    say("%s %u", mask_name(got.events), got.data.u32);
    SHOW(recv(fd, b, 8, 0));
    int second = OK(dup(ep));
    OK(close(ep));
    SHOW(epoll_wait(second, &got, 1, 0));
    barrier();
    SHOW(epoll_wait(second, &got, 1, 5000));
    close(second);
    barrier();
    close(fd);
}

static void client(int fd)
{
    barrier();
    OK(send(fd, "one", 3, 0));
    barrier();
    OK(send(fd, "two", 3, 0));
    barrier();
    close(fd);
}

int main(void) { return sn_run(server, client); }
