/* close_range and closefrom close connections as close() does; CLOSE_RANGE_CLOEXEC leaves them open. */
// modes: process
#include "snippet.h"
#include <linux/close_range.h>

static void server(int fd)
{
    char b[100];
    int high = OK(fcntl(fd, F_DUPFD, 300));
    close(fd);
    SHOW(close_range(high, high + 10, CLOSE_RANGE_CLOEXEC));
    say("cloexec %d", fcntl(high, F_GETFD));
    SHOW(send(high, "still here", 10, 0));
    barrier(); barrier();
    SHOW(recv(high, b, 100, 0));
    SHOW(close_range(250, 400, 0));
    SHOW(recv(high, b, 100, 0));
    barrier(); barrier();
}

static void client(int fd)
{
    char b[100];
    barrier();
    SHOW(recv(fd, b, 100, 0));
    SHOW(send(fd, "yes", 3, 0));
    barrier(); barrier();
    show_poll("peer closed its range", fd, ALL_EVENTS, 0);
    SHOW(recv(fd, b, 100, 0));
    int high = OK(fcntl(fd, F_DUPFD, 300));
    closefrom(250);
    SHOW(recv(high, b, 100, 0));
    SHOW(send(fd, b, 1, MSG_NOSIGNAL));
    close(fd);
    barrier();
}

int main(void) { return sn_run(server, client); }
