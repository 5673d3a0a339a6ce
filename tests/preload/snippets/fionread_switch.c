// modes: process
// accelerated: 1
/* FIONREAD while bytes of before the switch still wait, with more behind it. */
#include "snippet.h"

enum { BEFORE = 50000, AFTER = 1000 };

static void server(int fd)
{
    static char bytes[BEFORE];
    char request[10];
    OK(recv(fd, request, sizeof request, MSG_WAITALL));
    OK(send(fd, bytes, BEFORE, 0));
    barrier();
    barrier();
    OK(send(fd, bytes, AFTER, 0));
    barrier();
    barrier();
}

static void client(int fd)
{
    static char bytes[BEFORE];
    int n = -1;
    OK(send(fd, "0123456789", 10, 0));
    barrier();
    OK(recv(fd, bytes, 10, 0));
    barrier();
    barrier();
    OK(ioctl(fd, FIONREAD, &n));
    say("FIONREAD %d", n);
    for (size_t left = BEFORE + AFTER - 10; left;) {
        ssize_t r = OK(recv(fd, bytes, left < 8000 ? left : 8000, 0));
        left -= (size_t)r;
        OK(ioctl(fd, FIONREAD, &n));
        if (n != (int)left) say("FIONREAD %d with %zu left", n, left);
    }
    barrier();
}

int main(void) { return sn_run(server, client); }
