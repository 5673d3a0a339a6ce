/* A shutdown or close wakes whoever sleeps: a blocked reader, a blocked writer, a poll, at either end. */
#include "snippet.h"

static int shared_fd;
static void *late_shutdown(void *how)
{
    sn_role = 0;
    pause_ms(60);
    OK(shutdown(shared_fd, (int)(intptr_t)how));
    return NULL;
}

static void server(int fd)
{
    char b[100];
    pthread_t t;
    SHOW(recv(fd, b, 100, 0));                  /* the client shuts down WR after a pause */
    barrier();
    shared_fd = fd;
    static char big[1 << 20];
    OK(pthread_create(&t, NULL, late_shutdown, (void *)(intptr_t)SHUT_WR));
    long total = 0, n;
    while ((n = send(fd, big, sizeof big, MSG_NOSIGNAL)) == sizeof big) total += n;
    say("the writer woke, all sent %d", n == sizeof big);
    SHOW(send(fd, big, 1, MSG_NOSIGNAL));
    pthread_join(t, NULL);
    barrier(); barrier();
    close(fd);
}

static void client(int fd)
{
    static char b[1 << 20];
    pause_ms(60);
    SHOW(shutdown(fd, SHUT_WR));
    barrier(); barrier();                       /* the server is full and then shut down */
    long n;
    while ((n = recv(fd, b, sizeof b, 0)) > 0) ;
    say("then %ld", n);
    barrier();
    close(fd);
}

int main(void) { return sn_run(server, client); }
