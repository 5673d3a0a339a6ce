// modes: process
// accelerated: 1
/* A reader in an edge-triggered set reads into small parts, and takes a short read to mean that nothing is left, as event
 * loops do. The whole answer lies there when it begins, in the kernel if the connection switches only then. */
#include "snippet.h"

enum { ANSWER = 50000, PARTS = 16, PART = 4096 };

static void server(int fd)
{
    static char answer[ANSWER];
    char request[10];
    OK(recv(fd, request, sizeof request, MSG_WAITALL));
    OK(send(fd, answer, sizeof answer, 0));
    barrier();
    barrier();
}

static void client(int fd)
{
    static char in[PARTS][PART];
    struct iovec parts[PARTS];
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET};
    for (int i = 0; i < PARTS; i++) parts[i] = (struct iovec){in[i], PART};
    int set = OK(epoll_create1(0));
    OK(fcntl(fd, F_SETFL, O_NONBLOCK));
    OK(epoll_ctl(set, EPOLL_CTL_ADD, fd, &e));
    OK(send(fd, "0123456789", 10, 0));
    barrier();
    size_t got = 0;
    while (got < ANSWER && epoll_wait(set, &e, 1, 3000) == 1)
        for (ssize_t n = sizeof in; n == sizeof in;) {
            n = readv(fd, parts, PARTS);
            got += n > 0 ? (size_t)n : 0;
        }
    say("got %zu", got);
    barrier();
    close(set);
}

int main(void) { return sn_run(server, client); }
