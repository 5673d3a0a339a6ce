/* Writing to a closed peer: EPIPE with MSG_NOSIGNAL and with SIGPIPE ignored, a handler's call, each kind of call. */
// modes: process
#include "snippet.h"

static volatile sig_atomic_t pipes;
static void on_pipe(int s) { (void)s; pipes++; }

static void server(int fd)
{
    barrier();
    SHOW(close(fd));
    barrier();
}

static void client(int fd)
{
    char b[10] = "";
    struct iovec v = {b, 10};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    signal(SIGPIPE, on_pipe);
    barrier(); barrier();
    show_poll("peer closed", fd, ALL_EVENTS, 0);
    SHOW(send(fd, b, 1, MSG_NOSIGNAL));      say("signals %d", (int)pipes);
    SHOW(send(fd, b, 1, 0));                 say("signals %d", (int)pipes);
    SHOW(write(fd, b, 1));                   say("signals %d", (int)pipes);
    SHOW(writev(fd, &v, 1));                 say("signals %d", (int)pipes);
    SHOW(sendmsg(fd, &m, 0));                say("signals %d", (int)pipes);
    SHOW(sendmsg(fd, &m, MSG_NOSIGNAL));     say("signals %d", (int)pipes);
    SHOW(write(fd, b, 0));                   say("signals %d", (int)pipes);
    signal(SIGPIPE, SIG_IGN);
    SHOW(write(fd, b, 1));                   say("signals %d", (int)pipes);
    SHOW(recv(fd, b, 1, 0));
    signal(SIGPIPE, SIG_DFL);
    say("and now the default");
    write(fd, b, 1);
    say("still alive");
}

int main(void) { return sn_run(server, client); }
