/* shutdown(SHUT_RDWR) by another thread wakes this process's own blocked reader; so does one of the peer. */
#include "snippet.h"

static int shared_fd;
static void *late_shutdown(void *unused)
{
    (void)unused;
    pause_ms(60);
    shutdown(shared_fd, SHUT_RDWR);
    return NULL;
}

static void server(int fd)
{
    char b[100];
    pthread_t t;
    shared_fd = fd;
    OK(pthread_create(&t, NULL, late_shutdown, NULL));
    SHOW(recv(fd, b, 100, 0));
    pthread_join(t, NULL);
    show_poll("own shutdown", fd, ALL_EVENTS, 0);
    barrier();
    close(fd);
}

static void client(int fd)
{
    char b[100];
    SHOW(recv(fd, b, 100, 0));
    show_poll("peer's shutdown", fd, ALL_EVENTS, 1000);
    barrier();
    close(fd);
}

int main(void) { return sn_run(server, client); }
