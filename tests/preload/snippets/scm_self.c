// modes: process
// accelerated: any
/* A connection's own descriptor is sent to another process and used there, the sender closing its copy. */
#include "snippet.h"

static void pass(int channel, int fd)
{
    struct iovec v = {"x", 1};
    union { struct cmsghdr h; char space[CMSG_SPACE(sizeof(int))]; } c = {{0}};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c.space};
    *CMSG_FIRSTHDR(&m) = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof fd);
    OK(sendmsg(channel, &m, 0));
}

static int take(int channel)
{
    char x;
    struct iovec v = {&x, 1};
    union { struct cmsghdr h; char space[CMSG_SPACE(sizeof(int))]; } c;
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c.space};
    OK(recvmsg(channel, &m, 0));
    int fd = -1;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

static int channel[2];

static void server(int fd)
{
    char b[8];
    int status;
    pid_t worker = OK(fork());                          /* has no use for the connection it inherits */
    if (!worker) {
        close(fd);
        int got = take(channel[1]), n = 0;
        while (recv(got, b, 8, MSG_WAITALL) == 8 && good(b, 8, n * 8) && send(got, b, 8, 0) == 8) n++;
        say("worker answered %d", n);
        _exit(0);
    }
    for (int n = 0; n < 20; n++) {
        CHECK(recv(fd, b, 8, MSG_WAITALL) == 8 && good(b, 8, n * 8));
        OK(send(fd, b, 8, 0));
    }
    pass(channel[0], fd);
    close(fd);
    barrier();
    OK(waitpid(worker, &status, 0));
    say("worker %#x", status);
}

static void client(int fd)
{
    char b[8];
    for (int n = 0; n < 20; n++) {
        fill(b, 8, n * 8);
        OK(send(fd, b, 8, 0));
        CHECK(recv(fd, b, 8, MSG_WAITALL) == 8 && good(b, 8, n * 8));
    }
    barrier();
    for (int n = 0; n < 50; n++) {
        fill(b, 8, n * 8);
        OK(send(fd, b, 8, 0));
        CHECK(recv(fd, b, 8, MSG_WAITALL) == 8 && good(b, 8, n * 8));
    }
    close(fd);
}

int main(void)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel)) abort();
    return sn_run(server, client);
}
