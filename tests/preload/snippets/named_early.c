// accelerated: 0
/* A socket that has a second name before it is connected: by dup, dup2, F_DUPFD, or in a forked child. Both names speak on it. */
#include "snippet.h"

enum { WAYS = 5, TURNS = 30 };

static void *serve(void *given)
{
    int listener = *(int *)given;
    for (int way = 0; way < WAYS; way++) {
        char b[100];
        ssize_t n;
        int fd = OK(accept(listener, NULL, NULL));
        while ((n = OK(recv(fd, b, sizeof b, 0)))) send_all(fd, b, (size_t)n);
        close(fd);
    }
    return NULL;
}

static void turns(int one, int two)
{
    char b[8];
    for (int i = 0; i < TURNS; i++) {
        fill(b, 8, (uint64_t)i);
        send_all(i & 1 ? one : two, b, 8);
        memset(b, 0, 8);
        CHECK(recv_all(i & 2 ? one : two, b, 8) == 8 && good(b, 8, (uint64_t)i));
    }
}

static void speak(int way)
{
    struct sockaddr_un a;
    socklen_t n = sn_address(&a, sn_path());
    struct epoll_event e = {EPOLLIN, {.u64 = 7}}, got;
    int fd = OK(socket(AF_UNIX, SOCK_STREAM, 0)), ep = OK(epoll_create1(0)), other = -1, to[2], status;
    char c = 0;
    pid_t child = 0;
    if (way > 2) OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
    if (way == 0) other = OK(dup(fd));
    if (way == 1) other = OK(dup2(fd, 600));
    if (way == 2) other = OK(fcntl(fd, F_DUPFD_CLOEXEC, 300));
    if (way == 3) other = OK(dup(fd));
    OK(pipe(to));
    if (way == 4 && !(child = OK(fork()))) {
        CHECK(read(to[0], &c, 1) == 1);
        turns(fd, fd);
        _exit(0);
    }
    OK(connect(fd, (void *)&a, n));
    if (way == 4) {
        OK(write(to[1], &c, 1));
        OK(waitpid(child, &status, 0));
        CHECK(status == 0);
    }
    turns(fd, way == 4 ? fd : other);
    if (way > 2) {
        send_all(fd, "x", 1);
        CHECK(epoll_wait(ep, &got, 1, 20000) == 1 && got.data.u64 == 7 && got.events & EPOLLIN);
        CHECK(recv_all(fd, &c, 1) == 1 && c == 'x');
    }
    say("way %d", way);
    close(fd);
    if (other >= 0) close(other);
    close(ep); close(to[0]); close(to[1]);
}

int main(void)
{
    sn_open_logs();
    int listener = sn_listen(sn_path(), 16), status;
    pid_t client = -1;
    pthread_t t;
    if (sn_mode_thread()) pthread_create(&t, NULL, serve, &listener);
    else if ((client = OK(fork()))) serve(&listener);
    if (client <= 0) {
        sn_role = 1;
        for (int way = 0; way < WAYS; way++) speak(way);
    }
    if (!client) exit(0);
    if (client > 0) OK(waitpid(client, &status, 0));
    else pthread_join(t, NULL);
    sn_print_logs();
    return 0;
}
