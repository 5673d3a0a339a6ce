/* One thread sleeps in recv, another in poll; a third shuts the connection down: both wake. Twenty connections on. */
// accelerated: 21
#include "snippet.h"

static int shared;
static void *sleeper(void *out)
{
    char b[8];
    *(long *)out = recv(shared, b, 8, 0);
    return NULL;
}
static void *poller(void *out)
{
    struct pollfd p = {shared, POLLIN | POLLRDHUP, 0};
    *(long *)out = poll(&p, 1, 10000) == 1 ? p.revents : -1;
    return NULL;
}

static void serve(int fd)
{
    pthread_t a, b;
    long n = -5, mask = -5;
    shared = fd;
    OK(pthread_create(&a, NULL, sleeper, &n));
    OK(pthread_create(&b, NULL, poller, &mask));
    pause_ms(10);
    OK(shutdown(fd, SHUT_RDWR));
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    say("recv %ld poll %s", n, mask_name(mask));
    close(fd);
}

static void *talk(void *unused)
{
    (void)unused;
    sn_role = 1;
    char b[8];
    for (int i = 0; i < 21; i++) {
        int fd = sn_connect(sn_path());
        warm_up(fd, 0);
        long n = recv(fd, b, 8, 0);
        if (n) say("FAILED: recv -> %ld", n);
        close(fd);
    }
    return NULL;
}

int main(void)
{
    pthread_t t;
    pid_t pid = 0;
    sn_open_logs();
    int listener = sn_listen(sn_path(), 16);
    if (sn_mode_thread()) pthread_create(&t, NULL, talk, NULL);
    else if (!(pid = fork())) { talk(NULL); exit(0); }
    for (int i = 0; i < 21; i++) {
        int fd = OK(accept(listener, NULL, NULL));
        warm_up(fd, 1);
        serve(fd);
    }
    if (pid) waitpid(pid, NULL, 0);
    else pthread_join(t, NULL);
    sn_print_logs();
    return 0;
}
