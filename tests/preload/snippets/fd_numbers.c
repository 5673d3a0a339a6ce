// modes: process
/* The library's own descriptors stay out of the way: numbers that a program gets are those that it would get. */
#include "snippet.h"
#include <sys/eventfd.h>

static void numbers(const char *what)
{
    int a = open("/dev/null", O_RDONLY), b = dup(0), c = eventfd(0, EFD_CLOEXEC), d = fcntl(0, F_DUPFD, 10), p[2];
    OK(pipe(p));
    say("%s: %d %d %d %d %d %d", what, a, b, c, d, p[0], p[1]);
    close(a); close(b); close(c); close(d); close(p[0]); close(p[1]);
}

static void both(int fd)
{
    char b[10];
    say("connection %d", fd);
    numbers("connected");
    barrier();
    OK(send(fd, "x", 1, 0));
    OK(recv(fd, b, 10, 0));
    numbers("after a message");
    barrier();
    close(fd);
    numbers("closed");
    /* What a daemon does: close all that it does not know. Then it must still be able to work. */
    for (int i = 3; i < 256; i++)
        if (i != sn_log[0] && i != sn_log[1] && i != sn_pipe[0][0] && i != sn_pipe[1][0] && i != sn_pipe[0][1]
            && i != sn_pipe[1][1])
            close(i);
    numbers("all closed");
}

int main(void) { return sn_run(both, both); }
