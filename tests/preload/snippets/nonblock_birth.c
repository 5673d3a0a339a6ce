// accelerated: 3
/* Descriptors that are born non-blocking: socket(SOCK_NONBLOCK) and accept4; flags and close-on-exec are right. */
#include "snippet.h"

static void flags(const char *what, int fd)
{
    say("%s: nonblock %d cloexec %d", what, !!(fcntl(fd, F_GETFL) & O_NONBLOCK), !!(fcntl(fd, F_GETFD) & FD_CLOEXEC));
}

static void talk(int a, int b)
{
    char buf[64];
    for (int i = 0; i < 50; i++) {
        fill(buf, 33, i);
        CHECK(send(a, buf, 33, 0) == 33);
        memset(buf, 0, 33);
        CHECK(recv(b, buf, 64, 0) == 33 && good(buf, 33, i));
        CHECK(send(b, "ok", 2, 0) == 2);
        CHECK(recv(a, buf, 64, 0) == 2);
    }
    SHOW(recv(a, buf, 64, 0));
    SHOW(recv(b, buf, 64, 0));
}

static int nonblocking_client(void)
{
    struct sockaddr_un a;
    socklen_t n = sn_address(&a, sn_path());
    int fd = OK(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    SHOW(connect(fd, (struct sockaddr *)&a, n));
    flags("client", fd);
    show_poll("client", fd, ALL_EVENTS, 0);
    int e = -1;
    socklen_t en = sizeof e;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &en);
    say("SO_ERROR %d", e);
    return fd;
}

int main(void)
{
    sn_open_logs();
    int listener = sn_listen(sn_path(), 16);
    int accept_flags[] = {SOCK_NONBLOCK, SOCK_NONBLOCK | SOCK_CLOEXEC};
    for (int i = 0; i < 2; i++) {
        int c = nonblocking_client();
        show_poll("listener", listener, ALL_EVENTS, 0);
        int s = OK(accept4(listener, NULL, NULL, accept_flags[i]));
        flags("accept4", s);
        talk(c, s);
        close(c);
        close(s);
    }
    int c = nonblocking_client();
    int s = OK(accept(listener, NULL, NULL));
    flags("accept", s);
    OK(fcntl(s, F_SETFL, O_NONBLOCK));
    talk(c, s);
    close(s);
    close(c);
    OK(fcntl(listener, F_SETFL, O_NONBLOCK));
    SHOW(accept(listener, NULL, NULL));
    SHOW(accept4(listener, NULL, NULL, 0x40000000));
    SHOW(accept4(c, NULL, NULL, 0));
    sn_print_logs();
    return 0;
}
