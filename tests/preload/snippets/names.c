// accelerated: 2
/* Addresses as the kernel gives them: the library's mark on the client never shows. Options that tell about the socket. */
#include "snippet.h"

static void show_name(const char *what, int r, const struct sockaddr_un *a, socklen_t n)
{
    if (r < 0) { say("%s: %s", what, err_name(errno)); return; }
    const char *path = n > sizeof(sa_family_t) ? a->sun_path : "";
    say("%s: length %s family %d %s", what, n == sizeof(sa_family_t) ? "2" : n > sizeof(sa_family_t) ? "more" : "less",
        a->sun_family, !strcmp(path, sn_path()) ? "the path" : path[0] ? strrchr(path, '/') : n > sizeof(sa_family_t) ? "ABSTRACT" : "none");
}

static void names(int fd)
{
    struct sockaddr_un a;
    socklen_t n = sizeof a;
    memset(&a, 0, sizeof a);
    int r = getsockname(fd, (struct sockaddr *)&a, &n);
    show_name("getsockname", r, &a, n);
    n = sizeof a;
    memset(&a, 0, sizeof a);
    r = getpeername(fd, (struct sockaddr *)&a, &n);
    show_name("getpeername", r, &a, n);
    n = 4;                                              /* too short: the true length comes back, the rest is cut */
    memset(&a, 0x55, sizeof a);
    r = getpeername(fd, (struct sockaddr *)&a, &n);
    say("short: %d, length %s 4, byte behind %#x", r, n > 4 ? ">" : "<=", a.sun_path[2]);
    SHOW(getpeername(fd, (struct sockaddr *)&a, NULL));
}

static void options(int fd)
{
    static const struct { int name; const char *text; } all[] = {
        {SO_TYPE, "TYPE"}, {SO_DOMAIN, "DOMAIN"}, {SO_PROTOCOL, "PROTOCOL"}, {SO_ERROR, "ERROR"}, {SO_ACCEPTCONN, "ACCEPTCONN"},
        {SO_RCVLOWAT, "RCVLOWAT"}, {SO_SNDBUF, "SNDBUF"}, {SO_RCVBUF, "RCVBUF"}, {SO_KEEPALIVE, "KEEPALIVE"},
        {SO_PASSCRED, "PASSCRED"}, {SO_REUSEADDR, "REUSEADDR"}, {9999, "unknown"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        int v = -1;
        socklen_t n = sizeof v;
        int r = getsockopt(fd, SOL_SOCKET, all[i].name, &v, &n);
        say("SO_%s: %d %d %s", all[i].text, r, v, r ? err_name(errno) : "");
    }
    int big = 500000;
    SHOW(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &big, sizeof big));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof big));
    SHOW(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &big, sizeof big));
    SHOW(setsockopt(fd, 6, 1, &big, sizeof big));       /* TCP_NODELAY */
    struct ucred u = {0};
    socklen_t n = sizeof u;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &n));
    say("peer: pid %s uid %d gid %d", u.pid == getpid() ? "mine" : u.pid == getppid() ? "my parent's" : "another", u.uid, u.gid);
    struct stat st;
    OK(fstat(fd, &st));
    say("is a socket %d", S_ISSOCK(st.st_mode));
    say("%s", isatty(fd) ? "tty" : err_name(errno));
}

static void server(int fd)
{
    char b[100];
    names(fd);
    options(fd);
    barrier(); barrier();
    struct sockaddr_un a;
    socklen_t n = sizeof a;
    memset(&a, 0x11, sizeof a);
    SHOW(recvfrom(fd, b, 100, 0, (struct sockaddr *)&a, &n));
    say("recvfrom: length %d", (int)n);
    struct iovec v = {b, 100};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_name = &a, .msg_namelen = sizeof a};
    barrier(); barrier();
    SHOW(recvmsg(fd, &m, 0));
    say("recvmsg: length %d", (int)m.msg_namelen);
    barrier();
    close(fd);
}

static void client(int fd)
{
    names(fd);
    options(fd);
    barrier();
    OK(send(fd, "x", 1, 0));
    struct sockaddr_un a;
    socklen_t n = sn_address(&a, sn_path());
    barrier(); barrier();
    SHOW(sendto(fd, "y", 1, 0, (struct sockaddr *)&a, n));
    SHOW(connect(fd, (struct sockaddr *)&a, n));
    SHOW(bind(fd, (struct sockaddr *)&a, n));
    SHOW(listen(fd, 1));
    OK(send(fd, "z", 1, 0));
    barrier(); barrier();
    close(fd);
}

int main(void)
{
    char own[120];
    sn_run(server, client);
    unlink(sn_path());
    /* What accept() tells about a client without a name, and about one that has bound a name of its own. */
    sn_open_logs();
    int listener = sn_listen(sn_path(), 4);
    for (int named = 0; named < 2; named++) {
        int c = OK(socket(AF_UNIX, SOCK_STREAM, 0));
        struct sockaddr_un a, me;
        socklen_t n = sn_address(&a, sn_path()), mine;
        snprintf(own, sizeof own, "%s.c", sn_path());
        if (named) {
            mine = sn_address(&me, own);
            OK(bind(c, (struct sockaddr *)&me, mine));
        }
        OK(connect(c, (struct sockaddr *)&a, n));
        n = sizeof a;
        memset(&a, 0, sizeof a);
        int s = accept(listener, (struct sockaddr *)&a, &n);
        say("accept: length %s, %s", n == 2 ? "2" : n > 2 ? "more" : "less", n > 2 ? strrchr(a.sun_path, '.') : "no name");
        names(c);
        n = sizeof a;
        memset(&a, 0, sizeof a);
        getpeername(s, (struct sockaddr *)&a, &n);
        say("getpeername: length %s, %s", n == 2 ? "2" : n > 2 ? "more" : "less", n > 2 ? strrchr(a.sun_path, '.') : "no name");
        char b[100];
        for (int i = 0; i < 50; i++) {
            OK(send(c, "ping", 4, 0));
            CHECK(recv(s, b, 100, 0) == 4);
            OK(send(s, "pong", 4, 0));
            CHECK(recv(c, b, 100, 0) == 4);
        }
        close(c);
        close(s);
        unlink(own);
    }
    sn_print_logs();
    return 0;
}
