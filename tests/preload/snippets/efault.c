/* Buffers and arrays at NULL, in the first page and at MAP_FAILED give EFAULT, and nothing is lost. */
#include "snippet.h"

static void look(int fd, void *bad)
{
    char b[100] = "";
    struct iovec one = {bad, 4}, two[2] = {{b, 2}, {bad, 2}};
    struct msghdr to_bad = {.msg_iov = &one, .msg_iovlen = 1}, without = {.msg_iov = bad, .msg_iovlen = 1};
    struct mmsghdr many = {.msg_hdr = to_bad};
    SHOW(send(fd, bad, 10, MSG_NOSIGNAL));
    SHOW(sendto(fd, bad, 10, MSG_NOSIGNAL, NULL, 0));
    SHOW(write(fd, bad, 10));
    SHOW(writev(fd, &one, 1));
    SHOW(writev(fd, two, 2));
    SHOW(writev(fd, bad, 1));
    SHOW(sendmsg(fd, &to_bad, 0));
    SHOW(sendmsg(fd, &without, 0));
    SHOW(sendmsg(fd, bad, 0));
    SHOW(sendmmsg(fd, &many, 1, 0));
    SHOW(sendmmsg(fd, bad, 1, 0));
    SHOW(recv(fd, bad, 4, 0));
    SHOW(recv(fd, bad, 4, MSG_PEEK));
    SHOW(recvfrom(fd, bad, 4, 0, NULL, NULL));
    SHOW(read(fd, bad, 4));
    SHOW(readv(fd, &one, 1));
    SHOW(readv(fd, two, 2));
    SHOW(readv(fd, bad, 1));
    SHOW(preadv2(fd, bad, 1, -1, 0));
    SHOW(pwritev2(fd, bad, 1, -1, 0));
    SHOW(recvmsg(fd, &to_bad, 0));
    SHOW(recvmsg(fd, &without, 0));
    SHOW(recvmsg(fd, bad, 0));
    SHOW(recvmmsg(fd, &many, 1, 0, NULL));
    SHOW(recvmmsg(fd, bad, 1, 0, NULL));
    SHOW(send(fd, bad, 0, 0));
    SHOW(recv(fd, b, 0, MSG_DONTWAIT));
    SHOW(poll(bad, 1, 0));
    SHOW(ppoll(bad, 1, NULL, NULL));
    SHOW(ioctl(fd, FIONREAD, bad));
    int ep = OK(epoll_create1(0));
    struct epoll_event in = {EPOLLIN, {0}};
    SHOW(epoll_ctl(ep, EPOLL_CTL_ADD, fd, NULL));
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &in));
    SHOW(epoll_wait(ep, NULL, 1, 5000));
    SHOW(epoll_wait(ep, &in, 1, 0));
    close(ep);
    SHOW(recv(fd, b, 4, 0)); say("%s", b);
}

/* Nothing is there to read, no room to write: the first page is found out later, the kernel's half at once. */
static void look_in_vain(int fd, void *bad)
{
    static char big[1 << 16], *end = MAP_FAILED;
    SHOW(recv(fd, bad, 4, MSG_DONTWAIT));
    OK(fcntl(fd, F_SETFL, O_NONBLOCK));
    while (send(fd, big, sizeof big, 0) > 0 || send(fd, big, 1, 0) > 0) {}
    SHOW(send(fd, bad, 4, 0));
    OK(fcntl(fd, F_SETFL, 0));
    SHOW(recv(fd, end, 4, 0));
    SHOW(send(fd, end, 4, 0));
}

static void server(int fd)
{
    void *bad[] = {NULL, (void *)1, MAP_FAILED};
    for (int i = 0; i < 3; i++) {
        barrier(); barrier();                           /* four bytes are there */
        look(fd, bad[i]);
    }
    barrier(); barrier();                               /* all that was sent has been looked for */
    for (int i = 0; i < 3; i++) look_in_vain(fd, bad[i]);
    close(fd);
    barrier();
}

static void client(int fd)
{
    char b[10];
    for (int i = 0; i < 3; i++) {
        barrier();
        OK(send(fd, "data", 4, 0));
        barrier();
    }
    barrier();
    SHOW(recv(fd, b, 10, MSG_DONTWAIT));
    barrier();
    barrier();
    close(fd);
}

int main(void) { return sn_run(server, client); }
