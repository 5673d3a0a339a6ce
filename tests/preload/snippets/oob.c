// accelerated: any
/* Urgent data. */
#include "snippet.h"
#include <linux/sockios.h>

static void server(int fd)
{
    char b[100] = "";
    int mark = -1;
    barrier();
    show_poll("urgent", fd, ALL_EVENTS, 0);
    SHOW(ioctl(fd, SIOCATMARK, &mark)); say("at mark %d", mark);
    SHOW(recv(fd, b, 100, 0)); say("%.6s", b);
    SHOW(ioctl(fd, SIOCATMARK, &mark)); say("at mark %d", mark);
    SHOW(recv(fd, b, 1, MSG_OOB)); say("%.1s", b);
    SHOW(recv(fd, b, 1, MSG_OOB));
    SHOW(recv(fd, b, 100, 0)); say("%.5s", b);
    close(fd);
}
static void client(int fd)
{
    SHOW(send(fd, "before", 6, 0));
    SHOW(send(fd, "!", 1, MSG_OOB));
    SHOW(send(fd, "after", 5, 0));
    barrier();
    char b[10];
    SHOW(recv(fd, b, 10, 0));
    close(fd);
}

int main(void) { return sn_run(server, client); }
