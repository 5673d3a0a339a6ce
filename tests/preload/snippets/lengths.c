/* Messages of every small length, read at once, in pieces and together, at all places of the ring; and then what is out of the
 * ordinary in the middle of such a conversation: another mode, a descriptor in the stream, a forked child, a shutdown. */
#include "snippet.h"

enum { LONGEST = 300, STREAM = 100000 };
static _Thread_local uint64_t sent, received; /* bytes, by which each one is known */

static void tell(int fd, size_t n)
{
    unsigned char b[LONGEST];
    fill(b, n, sent);
    CHECK(OK(send(fd, b, n, 0)) == (long)n);
    sent += n;
}

static void hear(int fd, size_t room, size_t wanted)
{
    unsigned char b[LONGEST + 1];
    memset(b, '*', sizeof b);
    size_t n = OK(recv(fd, b, room, 0));
    CHECK(n == wanted && good(b, n, received) && b[n] == '*');
    received += n;
}

/* Each length there and back, into a buffer of just that size, a larger one, and in two pieces. */
static void all_lengths(int fd, int speaks)
{
    for (int lap = 0; lap < 3; lap++)
        for (size_t n = 1; n < LONGEST; n++) {
            if (speaks) tell(fd, n);
            if (lap < 2) hear(fd, lap ? LONGEST : n, n);
            else {
                size_t first = n / 3 + 1;
                hear(fd, first, first < n ? first : n);
                if (first < n) hear(fd, LONGEST, n - first);
            }
            if (!speaks) tell(fd, n);
        }
}

/* One direction at a time, in lengths that have nothing to do with how they are read. */
static void stream_out(int fd)
{
    for (uint64_t end = sent + STREAM, i = 0; sent < end; i++) {
        size_t n = i * 7 % 71 + 1;
        tell(fd, n < end - sent ? n : end - sent);
    }
}

static void stream_in(int fd)
{
    unsigned char b[LONGEST];
    for (uint64_t end = received + STREAM, i = 0; received < end; i++) {
        size_t n = i * 11 % 93 + 1;
        n = OK(recv(fd, b, n < end - received ? n : end - received, 0));
        if (!n || !good(b, n, received)) say("FAILED at %d", (int)(received - (end - STREAM))), sn_give_up();
        received += n;
    }
}

static void with_descriptor(int fd, int given)
{
    char control[CMSG_SPACE(sizeof given)] = {0};
    unsigned char b[16];
    struct iovec v = {b, sizeof b};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof given);
    memcpy(CMSG_DATA(c), &given, sizeof given);
    fill(b, sizeof b, sent);
    CHECK(OK(sendmsg(fd, &m, 0)) == sizeof b);
    sent += sizeof b;
}

static void server(int fd)
{
    all_lengths(fd, 0);
    stream_in(fd);
    stream_out(fd);
    all_lengths(fd, 1);
    tell(fd, 8);
    with_descriptor(fd, 1); /* read without room for it: it is closed, and ends the read */
    tell(fd, 8);
    barrier();
    barrier();
    OK(fcntl(fd, F_SETFL, O_NONBLOCK));
    SHOW(recv(fd, (char[8]){0}, 8, 0));
    tell(fd, 8);
    barrier();
    OK(fcntl(fd, F_SETFL, 0));
    hear(fd, 8, 8);
    all_lengths(fd, 1);
    pid_t child = OK(fork());
    if (!child) {
        all_lengths(fd, 1);
        barrier();
        SHOW(recv(fd, (char[16]){0}, 16, 0));
        SHOW(recv(fd, (char[16]){0}, 16, 0));
        SHOW(shutdown(fd, SHUT_WR));
        _exit(0);
    }
    OK(waitpid(child, NULL, 0));
    SHOW(send(fd, "too late", 8, MSG_NOSIGNAL));
    SHOW(recv(fd, (char[16]){0}, 16, 0));
}

static void client(int fd)
{
    all_lengths(fd, 1);
    stream_out(fd);
    stream_in(fd);
    all_lengths(fd, 0);
    barrier();
    hear(fd, 8, 8);
    hear(fd, LONGEST, 16);
    hear(fd, LONGEST, 8);
    barrier();
    hear(fd, 8, 8);
    tell(fd, 8);
    barrier();
    all_lengths(fd, 0);
    all_lengths(fd, 0);
    barrier();
    SHOW(send(fd, "the last", 8, 0));
    OK(shutdown(fd, SHUT_WR));
    SHOW(send(fd, "too late", 8, MSG_NOSIGNAL));
    SHOW(recv(fd, (char[16]){0}, 16, 0));
}

int main(void) { return sn_run(server, client); }
