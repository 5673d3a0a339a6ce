/* O_NONBLOCK by fcntl and ioctl, EAGAIN, filling and draining, and its effect on poll. */
#include "snippet.h"

static void server(int fd)
{
    char *b = malloc(1 << 20);
    int zero = 0, one = 1;
    say("O_NONBLOCK %d", !!(OK(fcntl(fd, F_GETFL)) & O_NONBLOCK));
    OK(fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK));
    say("O_NONBLOCK %d accmode %d", !!(OK(fcntl(fd, F_GETFL)) & O_NONBLOCK), fcntl(fd, F_GETFL) & O_ACCMODE);
    SHOW(read(fd, b, 10));
    SHOW(recv(fd, b, 10, MSG_WAITALL));
    SHOW(readv(fd, &(struct iovec){b, 10}, 1));
    OK(ioctl(fd, FIONBIO, &zero));
    say("O_NONBLOCK %d", !!(OK(fcntl(fd, F_GETFL)) & O_NONBLOCK));
    SHOW(recv(fd, b, 10, MSG_DONTWAIT));
    OK(ioctl(fd, FIONBIO, &one));
    say("O_NONBLOCK %d", !!(OK(fcntl(fd, F_GETFL)) & O_NONBLOCK));
    SHOW(recv(fd, b, 10, 0));
    barrier(); barrier();                       /* the client has filled its side */
    show_poll("full incoming", fd, ALL_EVENTS, 0);
    uint64_t at = 0;
    long n;
    do {                                        /* until the client says that it has written all */
        while ((n = read(fd, b, 70001)) > 0) {
            CHECK(good(b, n, at));
            at += n;
        }
        if (n < 0 && errno == EAGAIN)
            poll(&(struct pollfd){fd, POLLIN, 0}, 1, 10000);
    } while (n < 0 && errno == EAGAIN);
    say("%llu bytes, then %ld", (unsigned long long)at, n);
    close(fd);
    free(b);
}

static void client(int fd)
{
    char *b = malloc(1 << 20);
    uint64_t at = 0, goal = 24 << 20;      /* more than any ring holds */
    OK(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK));
    barrier();
    long n;
    for (;;) {
        fill(b, 3001, at);
        if ((n = send(fd, b, 3001, 0)) < 0) break;
        at += n;
    }
    say("full: %s, something was taken: %d", err_name(errno), at > 0);
    fill(b, 1 << 20, at);                       /* what is too little for a small message may take a part of a large one */
    while ((n = write(fd, b, 1 << 20)) > 0) {
        at += n;
        fill(b, 1 << 20, at);
    }
    say("full: %s", err_name(errno));
    show_poll("full outgoing", fd, ALL_EVENTS, 0);
    barrier();
    while (at < goal) {
        size_t want = goal - at < 100000 ? goal - at : 100000;
        fill(b, want, at);
        n = write(fd, b, want);
        if (n >= 0) { at += n; continue; }
        if (errno != EAGAIN) { say("write: %s", err_name(errno)); break; }
        struct pollfd p = {fd, POLLOUT, 0};
        int r = poll(&p, 1, 10000);
        if (r != 1 || p.revents != POLLOUT) say("poll -> %d %s", r, mask_name(p.revents));
    }
    close(fd);
    free(b);
}

int main(void) { return sn_run(server, client); }
