// accelerated: 400+
/* Six clients open and close 200 connections each, of 0 to 30 messages, closed by either side, some in mid-conversation:
 * the server ends with the descriptors with which it began. */
#include "snippet.h"
#include <dirent.h>
#define EACH 200
#define CLIENTS 6

static int open_descriptors(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void *one_client(void *arg)
{
    unsigned seed = (unsigned)(intptr_t)arg * 101 + 1;
    sn_role = 1;
    for (int i = 0; i < EACH; i++) {
        int fd = sn_connect(sn_path()), messages = rand_r(&seed) % 31, way = rand_r(&seed) % 3;
        char b[40] = "";
        for (int k = 0; k < messages; k++) {
            fill(b, 32, k);
            if (way == 2 && k == messages - 1) b[32] = 'q';        /* asks the server to close */
            send_all(fd, b, 33);
            size_t n = recv_all(fd, b, 33);
            if (n != 33 || !good(b, 32, k)) { say("FAILED: client %d connection %d message %d: %zu", (int)(intptr_t)arg, i, k, n); break; }
            b[32] = 0;
        }
        if (way == 1) send(fd, b, 20, MSG_NOSIGNAL);               /* half a message, then gone */
        if (way == 2 && messages) CHECK(recv(fd, b, 1, 0) == 0);
        close(fd);
    }
    return NULL;
}

static void *talk(void *unused)
{
    pthread_t t[CLIENTS];
    (void)unused;
    for (intptr_t i = 0; i < CLIENTS; i++) OK(pthread_create(t + i, NULL, one_client, (void *)i));
    for (int i = 0; i < CLIENTS; i++) pthread_join(t[i], NULL);
    return NULL;
}

int main(void)
{
    pthread_t t;
    pid_t pid = 0;
    sn_open_logs();
    signal(SIGPIPE, SIG_IGN);
    int listener = sn_listen(sn_path(), 64), ep = OK(epoll_create1(0)), ended = 0, messages = 0, before = 0;
    struct epoll_event e = {EPOLLIN, {.fd = listener}}, got[16];
    OK(epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e));
    static struct { char b[33]; int n; } part[8192];
    if (sn_mode_thread()) pthread_create(&t, NULL, talk, NULL);
    else if (!(pid = fork())) { talk(NULL); exit(0); }
    while (ended < EACH * CLIENTS) {
        int n = epoll_wait(ep, got, 16, 10000);
        if (n <= 0) { say("FAILED: epoll_wait -> %d after %d connections", n, ended); break; }
        for (int i = 0; i < n; i++) {
            int fd = got[i].data.fd;
            if (fd == listener) {
                fd = e.data.fd = OK(accept4(listener, NULL, NULL, SOCK_NONBLOCK));
                OK(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
                part[fd].n = 0;
                continue;
            }
            long r = recv(fd, part[fd].b + part[fd].n, 33 - part[fd].n, 0);
            if (r > 0 && (part[fd].n += r) == 33) {
                part[fd].n = 0;
                messages++;
                if (send(fd, part[fd].b, 33, MSG_NOSIGNAL) != 33) r = -1;
                if (part[fd].b[32] == 'q') r = 0;
            }
            if (r == 0 || (r < 0 && errno != EAGAIN)) {
                close(fd);
                if (++ended == EACH) before = open_descriptors();
            }
        }
    }
    if (pid) waitpid(pid, NULL, 0);
    else pthread_join(t, NULL);
    int after = open_descriptors();
    say("%d ended, %d messages, no more descriptors than before: %d", ended, messages, after <= before);
    sn_print_logs();
    return 0;
}
