/* dup, dup2, dup3, F_DUPFD, F_DUPFD_CLOEXEC: one connection under many numbers, ended by the last close. */
#include "snippet.h"
#include <sys/resource.h>

static void server(int fd)
{
    char b[100];
    int n[6];
    struct rlimit limit;
    OK(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max < 8192 ? limit.rlim_max : 8192;
    OK(setrlimit(RLIMIT_NOFILE, &limit));
    n[0] = OK(dup(fd));
    n[1] = OK(dup2(fd, 700));
    n[2] = OK(dup3(n[0], 701, O_CLOEXEC));
    n[3] = OK(fcntl(fd, F_DUPFD, 1500));
    n[4] = OK(fcntl(n[1], F_DUPFD_CLOEXEC, 2000));
    n[5] = OK(dup2(fd, 4100));
    say("%d %d above %d %d, %d", n[1], n[2], n[3] >= 1500, n[4] >= 2000, n[5]);
    for (int i = 0; i < 6; i++) say("cloexec %ld", OK(fcntl(n[i], F_GETFD)));
    SHOW(dup2(fd, fd) == fd);
    SHOW(dup3(fd, fd, 0));
    SHOW(dup2(-1, 5));
    SHOW(dup2(fd, -1));
    SHOW(dup2(fd, 1 << 30));
    SHOW(fcntl(fd, F_DUPFD, 1 << 30));
    SHOW(dup(-1));
    SHOW(fcntl(-1, F_GETFL));
    barrier();
    for (int i = 0; i < 6; i++) {
        SHOW(recv(n[i], b, 3, MSG_WAITALL));
        CHECK(good(b, 3, i * 3));
        SHOW(send(n[5 - i], b, 3, 0));
        show_poll("twin", n[i], POLLIN | POLLOUT, 0);
    }
    OK(fcntl(n[3], F_SETFL, O_NONBLOCK));               /* one file description: all see it */
    SHOW(recv(fd, b, 3, 0));
    say("O_NONBLOCK %d", !!(fcntl(n[0], F_GETFL) & O_NONBLOCK));
    close(fd);
    for (int i = 0; i < 5; i++) close(n[i]);
    barrier(); barrier();
    SHOW(send(n[5], "last", 4, 0));
    SHOW(recv(fd, b, 3, 0));
    SHOW(send(n[0], b, 3, 0));
    barrier();
    SHOW(close(n[5]));
    barrier();
}

static void client(int fd)
{
    char b[100];
    fill(b, 18, 0);
    barrier();
    OK(send(fd, b, 18, 0));
    SHOW(recv_all(fd, b, 18));
    CHECK(good(b, 18, 0));
    barrier();
    show_poll("one copy left", fd, ALL_EVENTS, 0);
    barrier(); barrier();
    barrier();
    SHOW(recv(fd, b, 100, 0));
    SHOW(recv(fd, b, 100, 0));
    show_poll("none left", fd, ALL_EVENTS, 0);
    close(fd);
}

int main(void) { return sn_run(server, client); }
