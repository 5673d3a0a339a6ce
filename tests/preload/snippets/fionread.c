/* FIONREAD and SIOCINQ count exactly; SIOCOUTQ falls to nothing when the peer has read. SO_RCVLOWAT. */
#include "snippet.h"
#include <linux/sockios.h>

static void queued(const char *what, int fd)
{
    int n = -1;
    int r = ioctl(fd, FIONREAD, &n);
    say("%s: FIONREAD -> %d, %d", what, r, n);
    r = ioctl(fd, SIOCINQ, &n);
    say("%s: SIOCINQ -> %d, %d", what, r, n);
}

static void server(int fd)
{
    static char b[40000];
    queued("empty", fd);
    barrier(); barrier();
    queued("3 and 20000", fd);
    SHOW(recv(fd, b, 1, 0));
    queued("one less", fd);
    SHOW(recv(fd, b, 100, MSG_PEEK));
    queued("after a peek", fd);
    SHOW(recv(fd, b, sizeof b, 0));
    queued("read all", fd);
    barrier(); barrier();
    queued("peer closed, 5 left", fd);
    SHOW(recv(fd, b, sizeof b, 0));
    queued("peer closed", fd);
    close(fd);
    int n;
    SHOW(ioctl(fd, FIONREAD, &n));
}

static void client(int fd)
{
    static char b[20000];
    int n = -1;
    barrier();
    SHOW(send(fd, b, 3, 0));
    SHOW(send(fd, b, 20000, 0));
    OK(ioctl(fd, SIOCOUTQ, &n));
    say("in the queue: %d", n > 0);
    barrier(); barrier();
    OK(ioctl(fd, SIOCOUTQ, &n));
    say("in the queue: %d", n > 0);
    SHOW(send(fd, b, 5, 0));
    close(fd);
    barrier();
}

int main(void) { return sn_run(server, client); }
