// accelerated: any
/* SO_PASSCRED and SCM_CREDENTIALS: the sender's identity comes with its bytes. */
#include "snippet.h"

static void get(int fd)
{
    char b[100] = "";
    struct iovec v = {b, 99};
    union { struct cmsghdr h; char space[256]; } c;
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c};
    long n = recvmsg(fd, &m, 0);
    say("%ld \"%s\" flags %#x", n, b, m.msg_flags);
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
        struct ucred u;
        memcpy(&u, CMSG_DATA(h), sizeof u);
        say("type %d length %zu, a pid %d, my uid %d", h->cmsg_type, (size_t)h->cmsg_len, u.pid > 0, u.uid == getuid());
    }
}

static void server(int fd)
{
    int one = 1, zero = 0, x = -1;
    socklen_t n = sizeof x;
    OK(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one));
    OK(getsockopt(fd, SOL_SOCKET, SO_PASSCRED, &x, &n));
    say("SO_PASSCRED %d", x);
    barrier(); barrier();
    get(fd);
    barrier(); barrier();
    get(fd);
    OK(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &zero, sizeof zero));
    barrier(); barrier();
    get(fd);
    close(fd);
}

static void client(int fd)
{
    barrier();
    SHOW(send(fd, "plain send", 10, 0));
    barrier(); barrier();
    struct iovec v = {"with creds", 10};
    union { struct cmsghdr h; char space[CMSG_SPACE(sizeof(struct ucred))]; } c = {{0}};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c.space};
    struct ucred u = {getpid(), getuid(), getgid()};
    *CMSG_FIRSTHDR(&m) = (struct cmsghdr){CMSG_LEN(sizeof u), SOL_SOCKET, SCM_CREDENTIALS};
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &u, sizeof u);
    SHOW(sendmsg(fd, &m, 0));
    barrier(); barrier();
    SHOW(send(fd, "no more", 7, 0));
    barrier();
    close(fd);
}

int main(void) { return sn_run(server, client); }
