// modes: process
// accelerated: 1+
/* exec() with an inherited connection: the successor, itself a user of the library, carries on in mid-stream. */
#include "snippet.h"

static void server(int fd)
{
    char b[64];
    long n = 0, r;
    while ((r = recv(fd, b, 16, MSG_WAITALL)) == 16) {
        CHECK(good(b, 16, n * 16));
        OK(send(fd, b, 16, 0));
        n++;
    }
    say("answered %ld, then %ld", n, r);
    close(fd);
}

static void carry_on(int fd, int from, int to)
{
    char b[64];
    for (int i = from; i < to; i++) {
        fill(b, 16, i * 16);
        OK(send(fd, b, 16, 0));
        CHECK(recv(fd, b, 16, MSG_WAITALL) == 16 && good(b, 16, i * 16));
    }
    fill(b, 16, to * 16);
    OK(send(fd, b, 16, 0));                             /* its answer is read after the exec */
}

static void client(int fd)
{
    char number[20], log[20];
    carry_on(fd, 0, 40);
    sprintf(number, "%d", fd);
    sprintf(log, "%d", sn_log[1]);
    OK(fcntl(sn_log[1], F_SETFD, 0));
    pause_ms(20);
    execl("/proc/self/exe", "successor", number, log, NULL);
    say("exec: %s", err_name(errno));
}

int main(int argc, char **argv)
{
    if (argc < 3) return sn_run(server, client);
    sn_role = 1;
    int fd = atoi(argv[1]);
    sn_log[1] = atoi(argv[2]);
    char b[64];
    show_poll("successor", fd, POLLIN | POLLOUT, 5000);
    CHECK(recv(fd, b, 16, MSG_WAITALL) == 16 && good(b, 16, 40 * 16));
    carry_on(fd, 41, 90);
    CHECK(recv(fd, b, 16, MSG_WAITALL) == 16 && good(b, 16, 90 * 16));
    say("successor done");
    return 0;
}
