// modes: process
/* Each way to end at one side met by each at the other, with and without bytes under way: what both then see in poll,
 * select, epoll, SO_ERROR, receives and sends. */
#include "snippet.h"

enum { NONE = 10, CLOSE };

static void look(int fd)
{
    char b[100];
    int error = -1;
    socklen_t n = sizeof error;
    show_poll("all", fd, ALL_EVENTS, 0);
    show_poll("in", fd, POLLIN, 0);
    show_poll("out", fd, POLLOUT, 0);
    show_poll("hup only", fd, POLLRDHUP, 0);
    show_poll("nothing asked", fd, 0, 0);
    fd_set r, w, e;
    FD_ZERO(&r); FD_ZERO(&w); FD_ZERO(&e);
    FD_SET(fd, &r); FD_SET(fd, &w); FD_SET(fd, &e);
    struct timeval t = {0, 0};
    int hits = select(fd + 1, &r, &w, &e, &t);
    say("select %d: %d %d %d", hits, !!FD_ISSET(fd, &r), !!FD_ISSET(fd, &w), !!FD_ISSET(fd, &e));
    int ep = OK(epoll_create1(0));
    struct epoll_event event = {EPOLLIN | EPOLLOUT | EPOLLRDHUP, {0}};
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event));
    hits = epoll_wait(ep, &event, 1, 0);
    say("epoll %d %s", hits, hits == 1 ? mask_name(event.events) : "");
    close(ep);
    OK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n));
    say("SO_ERROR %s", err_name(error));
    int bytes = -1;
    SHOW(ioctl(fd, FIONREAD, &bytes)); say("FIONREAD %d", bytes);
    SHOW(recv(fd, b, 3, MSG_DONTWAIT));
    SHOW(recv(fd, b, 100, MSG_DONTWAIT | MSG_PEEK));
    SHOW(recv(fd, b, 100, MSG_DONTWAIT));
    SHOW(recv(fd, b, 100, MSG_DONTWAIT));
    SHOW(send(fd, "more", 4, MSG_NOSIGNAL | MSG_DONTWAIT));
    show_poll("afterwards", fd, ALL_EVENTS, 0);
}

static void end_it(int fd, int how)
{
    if (how == CLOSE) close(fd);
    else if (how != NONE) SHOW(shutdown(fd, how));
}

static void end(int fd, int how, int peers, int bytes)
{
    if (bytes) OK(send(fd, "under way", 9, 0));
    barrier();
    if (sn_role == 0) end_it(fd, how);
    barrier();
    if (sn_role == 1) end_it(fd, how);
    barrier();
    for (int turn = 0; turn < 2; turn++) {
        if (turn == sn_role && how != CLOSE) look(fd);
        barrier();
    }
    if (how != CLOSE) close(fd);
    (void)peers;
}

#define ENDS(name, mine, yours) \
    static void name##_quiet_server(int fd) { end(fd, mine, yours, 0); } \
    static void name##_quiet_client(int fd) { end(fd, yours, mine, 0); } \
    static void name##_data_server(int fd) { end(fd, mine, yours, 1); } \
    static void name##_data_client(int fd) { end(fd, yours, mine, 1); }
ENDS(none_rd, NONE, SHUT_RD)
ENDS(none_wr, NONE, SHUT_WR)
ENDS(none_rdwr, NONE, SHUT_RDWR)
ENDS(none_close, NONE, CLOSE)
ENDS(rd_rd, SHUT_RD, SHUT_RD)
ENDS(rd_wr, SHUT_RD, SHUT_WR)
ENDS(rd_rdwr, SHUT_RD, SHUT_RDWR)
ENDS(rd_close, SHUT_RD, CLOSE)
ENDS(wr_rd, SHUT_WR, SHUT_RD)
ENDS(wr_wr, SHUT_WR, SHUT_WR)
ENDS(wr_rdwr, SHUT_WR, SHUT_RDWR)
ENDS(wr_close, SHUT_WR, CLOSE)
ENDS(rdwr_rd, SHUT_RDWR, SHUT_RD)
ENDS(rdwr_rdwr, SHUT_RDWR, SHUT_RDWR)
ENDS(rdwr_close, SHUT_RDWR, CLOSE)

static const struct scene scenes[] = {
    SCENE(none_rd_quiet),
    SCENE(none_rd_data),
    SCENE(none_wr_quiet),
    SCENE(none_wr_data),
    SCENE(none_rdwr_quiet),
    SCENE(none_rdwr_data),
    SCENE(none_close_quiet),
    SCENE(none_close_data),
    SCENE(rd_rd_quiet),
    SCENE(rd_rd_data),
    SCENE(rd_wr_quiet),
    SCENE(rd_wr_data),
    SCENE(rd_rdwr_quiet),
    SCENE(rd_rdwr_data),
    SCENE(rd_close_quiet),
    SCENE(rd_close_data),
    SCENE(wr_rd_quiet),
    SCENE(wr_rd_data),
    SCENE(wr_wr_quiet),
    SCENE(wr_wr_data),
    SCENE(wr_rdwr_quiet),
    SCENE(wr_rdwr_data),
    SCENE(wr_close_quiet),
    SCENE(wr_close_data),
    SCENE(rdwr_rd_quiet),
    SCENE(rdwr_rd_data),
    SCENE(rdwr_rdwr_quiet),
    SCENE(rdwr_rdwr_data),
    SCENE(rdwr_close_quiet),
    SCENE(rdwr_close_data),
};
PLAY(scenes)
