// modes: process
// accelerated: any
/* O_ASYNC: arrival raises SIGIO. */
#include "snippet.h"

static volatile sig_atomic_t came;
static void on_io(int s) { (void)s; came++; }

static void server(int fd)
{
    char b[100];
    signal(SIGIO, on_io);
    SHOW(fcntl(fd, F_SETOWN, getpid()));
    SHOW(fcntl(fd, F_GETOWN) == getpid());
    SHOW(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC));
    came = 0;
    barrier(); barrier();
    for (int i = 0; i < 100 && !came; i++) pause_ms(20);
    say("came %d", came > 0);
    SHOW(recv(fd, b, 100, 0));
    SHOW(send(fd, "back", 4, 0));
    barrier();
    signal(SIGIO, SIG_IGN);
    close(fd);
}

static void client(int fd)
{
    char b[10];
    barrier();
    OK(send(fd, "12345", 5, 0));
    barrier();
    SHOW(recv(fd, b, 10, 0));
    barrier();
    close(fd);
}

int main(void) { return sn_run(server, client); }
